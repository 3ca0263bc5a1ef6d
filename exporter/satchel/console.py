"""Everything a person sees in a terminal. The only module that prints.

Progress, warnings and errors go to standard error, results to standard output; with `json_output` standard output
carries one JSON object and nothing else. On a terminal a running stage shows a spinner, what it is doing, a bar where
the length is known and the elapsed time; elsewhere a stage is one line when it ends.

    with console.stage("Lower") as stage:
        stage.note("layer 3 of 30")
        stage.progress(3, 30)          # optional: draws the bar
        stage.reused("skeleton 1f3a")  # optional: this stage took its result from the cache

Library code takes a `Console` as an argument and never makes one; tests pass `Console.quiet()`.
"""

import json
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # rich takes a tenth of a second to import: too long for `satchel --help`
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID


class Stage:
    """One running stage. This base shows nothing; `_LiveStage` draws on a terminal."""

    def __init__(self) -> None:
        self.last_note = ""
        self.from_cache = False

    def note(self, text: str) -> None:
        """What is being done right now, a few words. The last note stays beside the finished stage."""
        self.last_note = text

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` steps are finished: draws a bar."""

    def reused(self, text: str = "") -> None:
        """The result was in the cache."""
        self.from_cache = True
        self.note(text)


class _LiveStage(Stage):
    def __init__(self, progress: "Progress", task: "TaskID") -> None:
        super().__init__()
        self._progress = progress
        self._task = task

    def note(self, text: str) -> None:
        super().note(text)
        self._progress.update(self._task, note=text)

    def progress(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


@dataclass(frozen=True)
class ArtifactRow:
    """One line of the table at the end of a build. Figures that an artifact does not have are None."""

    artifact: str
    bytes: int
    sha256: str
    bits_per_weight: float | None = None
    kl_mean: float | None = None
    top1: float | None = None
    tokens_per_second: float | None = None


class Console:
    """Two streams and how to write on them. `json_output`: standard output belongs to one JSON object."""

    def __init__(self, json_output: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.json_output = json_output
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._result_printed = False
        self._rich: dict[int, RichConsole] = {}

    @classmethod
    def quiet(cls) -> "Console":
        """Shows nothing: for tests and for use as a library."""
        return _QuietConsole()

    # --- progress (standard error) ------------------------------------------------------------------------------

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """A named step of the work. Says how long it took, also when it fails or is interrupted."""
        started = time.monotonic()
        stage: Stage | None = None
        mark = "✗"
        try:
            if self._err.isatty():
                with self._progress_bar() as progress:
                    stage = _LiveStage(progress, progress.add_task(title, total=None, note=""))
                    yield stage
            else:
                stage = Stage()
                yield stage
            mark = "·" if stage.from_cache else "✓"
        finally:
            note = stage.last_note if stage else ""
            if mark == "·":
                note = f"from the cache: {note}" if note else "from the cache"
            self._finished_stage(mark, title, time.monotonic() - started, note)

    def _progress_bar(self) -> "Progress":
        from rich import progress as parts
        from rich.text import Text

        class KnownLengthBar(parts.ProgressColumn):
            def render(self, task: parts.Task) -> Text | Any:
                return parts.BarColumn(bar_width=24).render(task) if task.total else Text("")

        return parts.Progress(
            parts.SpinnerColumn(),
            parts.TextColumn("{task.description:<10}", style="bold", markup=False),
            parts.TimeElapsedColumn(),
            KnownLengthBar(),
            parts.TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self._console(self._err),
            transient=True,
        )

    def _finished_stage(self, mark: str, title: str, seconds: float, note: str) -> None:
        from rich.text import Text

        color = {"✓": "green", "·": "cyan", "✗": "red"}[mark]
        line = Text.assemble((mark, color), " ", (f"{title:<10}", "bold"), f" {_duration(seconds):>8}  ", (note, "dim"))
        self._console(self._err).print(line)

    def note(self, text: str) -> None:
        """One plain line beside the progress."""
        self._console(self._err).print(text, markup=False, highlight=False)

    def warn(self, text: str) -> None:
        self._labelled("warning", "yellow", text)

    def error(self, text: str, hint: str = "") -> None:
        self._labelled("error", "bold red", text)
        if hint:
            self.note(hint)

    def defect(self, error: BaseException) -> None:
        """An error that nobody foresaw: the traceback, and that it is ours."""
        self.note("".join(traceback.format_exception(error)).rstrip())
        self.error(
            f"{type(error).__name__}: {error}", hint="This is a defect of Satchel: please report the lines above."
        )

    def _labelled(self, label: str, style: str, text: str) -> None:
        from rich.text import Text

        message = Text.assemble((f"{label}: ", style), text)
        self._console(self._err).print(message, soft_wrap=not self._err.isatty())  # a log is searched by line

    # --- results (standard output, or standard error beside a JSON object) --------------------------------------

    def artifacts(self, rows: Sequence[ArtifactRow]) -> None:
        """The table at the end of a build."""
        columns = ("artifact", "size", "bits/weight", "KL", "top-1", "tokens/s", "sha256")
        self.table(
            columns,
            [
                (
                    row.artifact,
                    size(row.bytes),
                    _number(row.bits_per_weight, ".2f"),
                    _number(row.kl_mean, ".4f"),
                    _number(row.top1, ".3f"),
                    _number(row.tokens_per_second, ".0f"),
                    row.sha256[:8],
                )
                for row in rows
            ],
            right=("size", "bits/weight", "KL", "top-1", "tokens/s"),
        )

    def block(self, title: str, lines: Sequence[str]) -> None:
        """A title and lines that are copied as they stand (never wrapped)."""
        console = self._console(self._results)
        console.print()
        console.print(title, style="bold", markup=False, highlight=False)
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """One line of a result."""
        self._console(self._results).print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """A plain table; `right` names the columns of figures."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            # Figures and hashes stay whole in a narrow terminal; names and prose wrap.
            whole = column in right or column == "sha256"
            table.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=whole)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console(self._results).print(table)

    def verdict(self, report: Mapping[str, Any]) -> None:
        """Every proof of a report.json, gates with value, bound and limit, then the verdict in one line."""
        rows = []
        for backend, part in report["backends"].items():
            for proof in ("skeleton_equal", "weights_equal"):
                equal = part[proof]
                rows.append(("✓" if equal else "✗", backend, proof, "yes" if equal else "no", "", "yes"))
            for name, gate in part["gates"].items():
                mark = "✓" if gate["passed"] else "✗"
                value, limit = _number(gate["value"], ".4g") or "NaN", _number(gate["limit"], ".4g")
                bound = "" if gate["bound"] == gate["value"] else _number(gate["bound"], ".4g")
                rows.append((mark, backend, name, value, bound, limit))
        self.table(("", "backend", "gate", "value", "95% bound", "limit"), rows, right=("value", "95% bound", "limit"))
        self.judgement(report)

    def judgement(self, report: Mapping[str, Any]) -> None:
        """The verdict of a report.json in one line, the last one that a build or a validation prints."""
        backends = ", ".join(report["backends"])
        if report["passed"]:
            self.line(f"passed: {backends}")
        elif report["passed"] is None:
            unmeasured = [name for name, part in report["backends"].items() if part["verdict"] == "weights-only"]
            self.line(
                f"NOT PROVEN: weights-only for {', '.join(unmeasured)}, whose behaviour was not measured; "
                "a library of it has a version that ends in -unproven"
            )
        else:
            self.line("FAILED")

    def text(self, chunk: str) -> None:
        """A piece of generated text, as soon as it is there."""
        self._results.write(chunk)
        self._results.flush()

    def result(self, value: Mapping[str, Any]) -> None:
        """With `--json`: the one object on standard output. Without: nothing."""
        if self.json_output and not self._result_printed:
            self._result_printed = True
            self._out.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            self._out.flush()

    # --- the streams ----------------------------------------------------------------------------------------------

    @property
    def _results(self) -> TextIO:
        return self._err if self.json_output else self._out

    def _console(self, stream: TextIO) -> "RichConsole":
        if id(stream) not in self._rich:
            from rich.console import Console as RichConsole

            # A file or a pipe has no width: never wrap or cut what somebody may want to search.
            self._rich[id(stream)] = RichConsole(file=stream, width=None if stream.isatty() else 200)
        return self._rich[id(stream)]


class _QuietConsole(Console):
    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        yield Stage()

    def note(self, text: str) -> None: ...

    def block(self, title: str, lines: Sequence[str]) -> None: ...

    def line(self, text: str) -> None: ...

    def text(self, chunk: str) -> None: ...

    def result(self, value: Mapping[str, Any]) -> None: ...

    def _labelled(self, label: str, style: str, text: str) -> None: ...

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None: ...


def size(count: int) -> str:
    """Bytes for a person, in decimal units: 121 834 496 -> `121.8 MB`."""
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB"):
        if value >= 1000:
            value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
