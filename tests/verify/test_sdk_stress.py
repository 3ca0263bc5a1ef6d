"""10 000 cancels and 1 000 loads and closes at random moments on the host engine: no crash, no leak, no wrong text.

The model is a small float one: what is stressed is the library and the runtime's handles, not the kernels.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.runtimes.jvm import build_host_engine
from satchel.tools import Tools
from small_chat import small_chat_bundle

CANCELS, LOADS = 10_000, 1_000
TEMPLATES = Path(__file__).parents[2] / "sdk_templates"
FLAT = 1.02  # resident memory at the end, compared with that after the first half


def test_ten_thousand_cancels_and_a_thousand_loads(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    bundle = small_chat_bundle(tmp_path / "b", make_bundle)
    host = build_host_engine(Cache(tmp_path / "cache"), Tools())
    command = [
        str(Tools().java.executable),
        "-Xms128m",  # a heap that does not grow while memory is watched
        "-Xmx128m",
        "-XX:+AlwaysPreTouch",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # the second compiler's own memory comes and goes by 10 MB
        f"-Dsatchel.host.dir={host.native}",
        "-cp",
        ":".join(map(str, host.class_path)),
        "dev.satchel.host.Stress",
        str(bundle.path),
        "--cancels",
        str(CANCELS),
        "--loads",
        str(LOADS),
    ]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert (result["cancels"], result["loads"]) == (CANCELS, LOADS)
    assert result["wrong_texts"] == 0
    for kind in ("cancels", "loads"):
        assert result[f"{kind}_rss_after"] <= FLAT * result[f"{kind}_rss_before"], result


def test_the_same_on_an_engine_that_checks_how_it_is_used() -> None:
    """The fake engine of the Kotlin tests counts calls from two threads, after close, and out of order."""
    tools = Tools()
    command = [str(tools.maven), "-q", "-B", "-f", str(TEMPLATES / "pom.xml"), "-pl", "android/core"]
    command += [
        "-Dkotlin.compiler.daemon=false",
        "-Dtest=CancelAndCloseRaceTest",
        "-Dsurefire.failIfNoSpecifiedTests=true",
    ]
    command += [f"-Dsatchel.cancels={CANCELS}", f"-Dsatchel.loads={LOADS}", "test"]
    tools.run(command, env=tools.java_env())
