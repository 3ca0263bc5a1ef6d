"""The command line: exit codes, what goes to which stream, and that `--help` stays light."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satchel import errors
from satchel.cli import main
from satchel.commands import doctor
from satchel.console import Console

HEAVY = {"torch", "transformers", "executorch", "torchao", "numpy", "rich", "jinja2", "tokenizers", "gguf", "pandas"}


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for satchel.commands.build: options become plain values, a test puts in the `build` it needs."""
    fake = SimpleNamespace(BuildOptions=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "satchel.commands.build", fake)  # type: ignore[arg-type]
    return fake


def raising(error: BaseException) -> Any:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from satchel.cli import main; code = main(['--help']);"
        f"print(sorted(set({sorted(HEAVY)}) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Usage: satchel" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["build", "m", "--target", "windows"], "'android', 'ios', 'all'"),
        (["build", "m", "--backend", "onnx"], "'executorch', 'litert', 'coreml'"),
        (["validate", "b", "--target", "cloud"], "'host', 'jvm', 'arm64', 'adb', 'simulator'"),
        (["validate", "b", "--target", "adb"], "Built so far: host, jvm"),
        (["build", "m", "--context", "0"], "--context"),
        (["generate", "b"], "PROMPT"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_choices(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RecipeError("no recipe tiny"), 2),
        (errors.GateFailedError("KL 0.5 > 0.035; try int8"), 3),
        (errors.CorruptModelError("model.gguf ends early"), 4),
        (errors.ToolMissingError("no mvn; run: apt-get install maven"), 5),
        (errors.InternalError("slot 3 is empty"), 1),
    ],
)
def test_an_error_is_one_sentence_and_its_exit_code(
    error: errors.SatchelError, code: int, pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.build = raising(error)
    assert main(["build", "m"]) == code
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


def test_a_defect_shows_its_traceback(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.build = raising(ZeroDivisionError("division by zero"))
    assert main(["build", "m"]) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured
    assert "defect of Satchel" in captured


def test_a_full_disk_is_no_defect(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for code in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO):
        pipeline.build = raising(OSError(code, os.strerror(code), "/out/model.pte"))
        assert main(["build", "m"]) == 1
        assert capsys.readouterr().err == f"error: /out/model.pte can't be read or written: {os.strerror(code)}.\n"
    pipeline.build = raising(FileNotFoundError(errno.ENOENT, "No such file", "model.pte"))  # ours to explain
    assert main(["build", "m"]) == 1
    assert "defect of Satchel" in capsys.readouterr().err


PLACES = {
    "the output is below a file": ("quantize MODEL --out FILE/out", {}, 2),
    "the output holds the user's files": ("quantize MODEL --out MINE", {}, 2),
    "the output is the model": ("quantize MODEL --out MODEL", {}, 2),
    "the build's output is the model": ("build MODEL --out MODEL", {}, 2),
    "the cache is a file": ("quantize MODEL --out NEW", {"SATCHEL_CACHE": "FILE"}, 1),
    "a name that is too long": (f"quantize {'m' * 300}/x --out NEW", {}, None),
    "a bundle's name that is too long": (f"inspect {'m' * 300}", {}, None),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_the_system_refuses_is_one_sentence(
    name: str,
    tmp_path: Path,
    make_directory: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, environment, code = PLACES[name]
    places = {"MODEL": make_directory("tiny"), "FILE": tmp_path / "file", "MINE": tmp_path / "mine"}
    places["FILE"].write_text("")
    places["MINE"].mkdir()
    (places["MINE"] / "thesis.txt").write_text("mine")
    places["NEW"] = tmp_path / "new"
    for variable, value in {"SATCHEL_CACHE": str(tmp_path / "cache"), **environment}.items():
        monkeypatch.setenv(variable, str(places.get(value, value)))
    model = sorted(path.read_bytes() for path in places["MODEL"].iterdir())
    for placeholder, place in places.items():
        words = words.replace(placeholder, str(place))
    ended = main(words.split())
    said = capsys.readouterr().err
    assert ended != 0 if code is None else ended == code
    assert "defect" not in said
    assert "Traceback" not in said
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
    assert (places["MINE"] / "thesis.txt").read_text() == "mine"
    assert sorted(path.read_bytes() for path in places["MODEL"].iterdir()) == model


@pytest.mark.parametrize(
    ("redirection", "said"),
    [(">&-", "error: Standard output is closed"), ("| true", ""), ("--json 2>/dev/null | true", "")],
)
def test_a_reader_that_is_gone_is_no_defect(redirection: str, said: str) -> None:
    program = "import time; time.sleep(1); from satchel.cli import entry; entry()"  # by then the reader has gone
    command = f"set -o pipefail; {sys.executable} -c '{program}' recipes {redirection}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == (1 if said else 0)


def test_strings_hash_alike_in_every_process(tmp_path: Path) -> None:
    """What iterates over a set of names does it in one order, so that the same inputs give the same bytes."""
    script = tmp_path / "command.py"
    script.write_text(
        "import sys\nfrom satchel import cli\n"
        "cli.main = lambda: print(sys.argv[1:], list(set('abcdefgh'))) or 0\n"
        "cli.entry()\n"
    )
    said = set()
    for seed in ("0", "1", "2", "random"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, str(script), "one two", "--three"]
        said.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    (alike,) = said
    assert alike.startswith("['one two', '--three'] ")


def test_ctrl_c_says_that_the_next_run_resumes(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.build = raising(KeyboardInterrupt())
    assert main(["build", "m"]) == 130
    assert "resumes" in capsys.readouterr().err


def build_result(failure: str = "") -> SimpleNamespace:
    return SimpleNamespace(
        report={"passed": not failure, "backends": {}},
        rows=[],
        report_html=Path("build/report.html"),
        gradle=["repositories {", 'implementation("dev.satchel:tiny-int4:0.1.0")'],
        failure=failure,
    )


def test_build_passes_every_option_on(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []

    def build(options: Any, console: Console) -> SimpleNamespace:
        seen.append(vars(options))
        return build_result()

    pipeline.build = build
    words = (
        "build m --recipe int8 --context 512 --out here --no-validate --no-litertlm "
        "--group g.h --namespace n.o --model-version 9.1"
    )
    assert main(words.split()) == 0
    assert seen == [
        {
            "model": "m",
            "backends": ("executorch", "litert"),
            "recipe": "int8",
            "context": 512,
            "out": Path("here"),
            "validate": False,
            "companions": False,
            "group": "g.h",
            "namespace": "n.o",
            "model_version": "9.1",
            "coreml_offset": "linear",
        }
    ]
    assert 'implementation("dev.satchel:tiny-int4:0.1.0")' in capsys.readouterr().out


def test_a_failed_gate_exits_3_and_gives_no_gradle_lines(
    pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.build = lambda options, console: build_result("KL is 0.5; try the recipe int8")
    assert main(["build", "m", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["passed"] is False
    assert "try the recipe int8" in captured.err
    assert "implementation" not in captured.err


def test_json_leaves_standard_output_to_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def generate(request: Any, console: Console) -> dict[str, Any]:
        with console.stage("Load") as stage:
            stage.note("model.pte")
        console.text("Par")
        console.text("is")
        return {"text": "Paris", "ids": [1, 2], "finish_reason": "stop", "stats": {}}

    monkeypatch.setattr("satchel.commands.generate.generate", generate)
    assert main(["generate", "bundle", "Capital?", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["text"] == "Paris"
    assert "Paris" in captured.err
    assert main(["generate", "bundle", "Capital?"]) == 0
    assert capsys.readouterr().out == "Paris\n"


@pytest.mark.parametrize(
    ("command", "key", "name"), [("models", "models", "smollm2-135m-instruct"), ("recipes", "recipes", "int4")]
)
def test_what_is_built_in_can_be_listed(command: str, key: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)[key]
    assert listed[0]["name"] == name
    assert main([command]) == 0
    assert name in capsys.readouterr().out


def test_doctor_names_what_is_missing_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [
        doctor.Check("Python", "3.12.1", "everything"),
        doctor.Check("Maven", "", "the Android libraries", "Install it: sudo apt-get install maven"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert main(["doctor"]) == 5
    captured = capsys.readouterr()
    assert "missing" in captured.out
    assert "sudo apt-get install maven" in captured.err
    monkeypatch.setattr(doctor, "examine", lambda: checks[:1])
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
