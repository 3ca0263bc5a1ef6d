"""What a person sees: stages on and off a terminal, tables, warnings."""

import io
import json

import pytest

from satchel.console import ArtifactRow, Console, size


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_a_stage_is_one_line_when_it_ends() -> None:
    err = io.StringIO()
    console = Console(err=err)
    with console.stage("Lower") as stage:
        for layer in range(3):
            stage.note(f"layer {layer} [of 3]")
            stage.progress(layer + 1, 3)
        assert err.getvalue() == ""
    assert err.getvalue().count("\n") == 1
    assert "✓ Lower" in err.getvalue()
    assert "layer 2 [of 3]" in err.getvalue()


def test_on_a_terminal_the_bar_goes_and_the_line_stays() -> None:
    err = Terminal()
    console = Console(err=err)
    with console.stage("Lower") as stage:
        stage.progress(1, 3)
        stage.reused("skeleton 1f3a")
    assert "\x1b[" in err.getvalue()
    last = err.getvalue().rstrip().rsplit("\n", 1)[-1]
    assert "from the cache: skeleton 1f3a" in last


def test_a_failed_stage_is_marked() -> None:
    err = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Console(err=err).stage("Validate"):
        raise KeyboardInterrupt
    assert "✗ Validate" in err.getvalue()


def test_beside_a_json_object_everything_goes_to_standard_error() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(json_output=True, out=out, err=err)
    console.warn("old cache")
    console.artifacts([ArtifactRow("model.pte", 121_834_496, "ab" * 32, kl_mean=0.0193, top1=0.921)])
    console.result({"passed": True})
    assert json.loads(out.getvalue()) == {"passed": True}
    assert "warning: old cache" in err.getvalue()
    row = next(line for line in err.getvalue().splitlines() if "model.pte" in line)
    assert row.split() == ["model.pte", "121.8", "MB", "0.0193", "0.921", "abababab"]


def test_the_verdict_lists_every_gate_and_ends_in_a_word() -> None:
    out = io.StringIO()
    gates = {
        "kl_mean": {"value": 0.5, "bound": 0.6, "limit": 0.035, "passed": False},
        "top1": {"value": None, "bound": None, "limit": 0.88, "passed": False},
    }
    Console(out=out).verdict(
        {"passed": False, "backends": {"executorch": {"skeleton_equal": True, "weights_equal": False, "gates": gates}}}
    )
    words = [line.split() for line in out.getvalue().splitlines()]
    assert ["✗", "executorch", "weights_equal", "no", "yes"] in words
    assert ["✗", "executorch", "kl_mean", "0.5", "0.6", "0.035"] in words
    assert ["✗", "executorch", "top1", "NaN", "0.88"] in words
    assert words[-1] == ["FAILED"]


def test_long_lines_to_paste_are_not_wrapped() -> None:
    out = io.StringIO()
    line = "x" * 500
    Console(out=out).block("Paste:", [line])
    assert f"  {line}\n" in out.getvalue()


def test_a_long_error_is_one_line_where_there_is_no_terminal() -> None:
    err = io.StringIO()
    Console(err=err).error("word " * 100 + "end")
    assert err.getvalue() == "error: " + "word " * 100 + "end\n"


def test_the_quiet_console_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console.quiet()
    with console.stage("Lower") as stage:
        stage.note("x")
        stage.progress(1, 2)
    console.warn("w")
    console.error("e", hint="h")
    console.artifacts([])
    console.text("t")
    console.result({"a": 1})
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (121_834_496, "121.8 MB"), (4_700_000_000, "4.7 GB")],
)
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert size(count) == text
