"""Show the progress of a job: a bar a stage with time left, or plain lines."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lamella.pipeline.run.drive import Progress as Stand
from lamella.pipeline.text import printable
from lamella.schemas.vocabulary import RoundReport

MINOR = ("sample ", "seed ", "link ", "round ", "merge ", "update ", "health ")

SPEED_OVER_S = 1800.0
"""Window of the speed: a task may take minutes, and two must have ended in it."""


class ProgressLines:
    """Shows running stages. Quiet for scripts; one line a finished stage without a terminal."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._bars = Progress(
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            disable=quiet or not console.is_terminal,
            speed_estimate_period=SPEED_OVER_S,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def stage(self, stand: Stand) -> None:
        """Show the progress of a stage."""
        if stand.stage.startswith(MINOR) or stand.stage in self._ended:
            return
        name = printable(stand.stage)
        if name not in self._tasks:
            self._began[name] = time.monotonic()
            # Tasks done by an earlier run do not count for the speed.
            self._tasks[name] = self._bars.add_task(
                name, total=stand.units_total, completed=stand.units_done, note=""
            )
        self._bars.update(self._tasks[name], completed=stand.units_done, total=stand.units_total)
        if stand.done == stand.total:
            self._ended.add(stand.stage)
            if not self._quiet and not self._console.is_terminal:
                seconds = time.monotonic() - self._began[name]
                line = f"{name} done {stand.units_total:,} in {seconds:.1f} s"
                self._console.print(Text(line))

    def note(self, line: str) -> None:
        """Show a line that a person should read."""
        if not self._quiet:
            self._console.print(Text(f"note: {printable(line)}"))

    def round(self, layer: str, report: RoundReport) -> None:
        """Show the report of a round of k-means."""
        note = f"error {report.objective:.4f}"
        if report.empty_words:
            note += f", {report.empty_words} empty words"
        if report.recall < 1:
            note += f", recall {report.recall:.3f}"
        task = self._tasks.get(f"vocabulary {printable(layer)}")
        if task is not None:
            self._bars.update(task, note=note)
