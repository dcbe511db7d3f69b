"""Show the progress of a job: a bar a stage with the time left, or lines where no terminal is."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from lamella.cluster.commands.output import unfolded
from lamella.pipeline import events
from lamella.pipeline.run.speed import Speed
from lamella.pipeline.text import duration, printable
from lamella.schemas.beat import StageBeat, Unit
from lamella.schemas.vocabulary import RoundReport

if TYPE_CHECKING:
    # It stands on Arrow, for which no help and no completion shall wait.
    from lamella.pipeline.run.drive import Progress as Stand

MINOR = ("sample ", "seed ", "link ", "round ", "merge ", "update ", "health ")

UNITS: Mapping[str, Unit] = {
    "list": "files",
    "records": "files",
    "verify": "bytes",
    "answer": "queries",
    "evaluate": "queries",
    "vocabulary": "rows",
    **dict.fromkeys(("project", "fit", "import", "totals", "take", "tune"), "tasks"),
}
"""What a stage counts, by the first word of its name; all others count pictures."""

LINE_EVERY_S = 60.0
"""Without a terminal, a stage that runs longer says this often how far it is."""

LOOK_EVERY_S = 5.0
"""How often it is looked whether such a line is due."""

WIDE = 100
"""Columns of a terminal that has room for notes beside the bars."""


@dataclass
class _Running:
    """A stage that runs.

    Attributes:
        began: when it began.
        since: when the units began that its speed is measured by; `at_first` of them were done.
        now: when it was last as far as `done`.
        of: how far it is, for a person: "1,234 of 5,000".
        note: what else is known of it.
        told: when a line was last printed, or it began.
        speed: that of the last minutes.
    """

    began: float
    since: float
    at_first: int
    now: float
    done: int
    total: int
    of: str
    told: float
    speed: Speed
    note: str = ""

    def left(self, time_now: float) -> float | None:
        """Return the seconds left by the speed of this run; None until a first unit has ended.

        Units done by an earlier run do not count for the speed.
        """
        made = self.done - self.at_first
        if made <= 0 or self.now <= self.since:
            return None
        left = (self.total - self.done) * (self.now - self.since) / made
        return max(left - (time_now - self.now), 0.0)

    def said(self, time_now: float) -> str:
        """Return how far the stage is, in a line."""
        note = f" ({self.note})" if self.note else ""
        so_far = f"{duration(round(time_now - self.began))} so far"
        if not self.total:
            return f"{self.of}{note}, {so_far}"
        left = self.left(time_now)
        about = "time left not known yet" if left is None else f"some {duration(round(left))} left"
        return f"{int(100 * self.done / self.total)} %, {self.of}{note}, {so_far}, {about}"

    def value(self, time_now: float) -> dict[str, float]:
        """Return how far the stage is, for machines; seconds left where they are known."""
        left = self.left(time_now)
        known = {} if left is None else {"seconds_left": round(left)}
        return {"done": self.done, "total": self.total, **known}


_shown: "ProgressLines | None" = None
"""What shows the running job's progress now."""


def running_stages() -> list[StageBeat]:
    """Return how far the stages are that run now, of whatever command this process runs."""
    shown = _shown
    return [] if shown is None else shown.beats()


def _beat(name: str, stage: _Running, now: float) -> StageBeat:
    """Return how far a stage is, for those who look from elsewhere."""
    kind = name.partition(" ")[0]
    return StageBeat(
        name=name[:200],
        done=stage.done,
        total=stage.total,
        unit=UNITS.get(kind, "pictures"),
        per_second=stage.speed.per_second(now),
        seconds_left=stage.speed.seconds_left(now, stage.total) if stage.total else None,
        note=stage.of[:200] if kind in ("vocabulary", "tune") else "",
    )


class ProgressLines:
    """Shows running stages. Quiet for scripts; without a terminal, a line a minute and at the end.

    Args:
        clock: seconds, rising.
    """

    def __init__(
        self,
        console: Console,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = unfolded(console)
        self._quiet = quiet or events.for_machines
        self._clock = clock
        self._bars = Progress(
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[of]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            disable=self._quiet or not console.is_terminal,
        )
        self._bar_of: dict[str, TaskID] = {}
        self._running: dict[str, _Running] = {}
        self._ended: set[str] = set()
        self._rounds: Mapping[str, int] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()

    def expect_rounds(self, rounds: Mapping[str, int]) -> None:
        """Reckon the time that trainings take by these numbers of rounds, by stage.

        A plan knows them; the settings say only how many there may be.
        """
        self._rounds = rounds

    def __enter__(self) -> Self:
        global _shown
        _shown = self
        self._bars.start()
        if events.for_machines or not self._quiet:
            threading.Thread(target=self._look_again, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _shown
        if _shown is self:
            _shown = None
        self._stopped.set()
        self._bars.stop()

    def beats(self) -> list[StageBeat]:
        """Return how far each stage is that runs.

        Another thread calls this, and must not wait for a terminal that nobody reads: no lock.
        """
        now = self._clock()
        return [_beat(name, stage, now) for name, stage in self._running.copy().items()]

    def _look_again(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S if not self._console.is_terminal else 1.0):
            self.tell()

    def tell(self) -> None:
        """Say how far each stage is: on its bar, or in a line if the last is a minute old."""
        with self._lock:
            now = self._clock()
            for name, stage in self._running.items():
                due = now - stage.told >= LINE_EVERY_S
                if due and events.for_machines:
                    stage.told = now
                    events.info("stage-progress", stage=name, **stage.value(now))
                elif self._quiet:
                    continue
                elif self._console.is_terminal:
                    self._show(name, stage)
                elif due:
                    stage.told = now
                    self._console.print(Text(f"{name} {stage.said(now)}"))

    def stage(self, stand: "Stand") -> None:
        """Show the progress of a stage."""
        if stand.stage.startswith(MINOR) or stand.stage in self._ended:
            return
        name, now = printable(stand.stage), self._clock()
        total, of = stand.units_total, f"{stand.units_done:,} of {stand.units_total:,}"
        if stand.done < stand.total and not total:  # nobody knows yet how many there are
            of = f"{stand.units_done:,} found"
        what = ""
        if stand.stage.startswith("vocabulary "):
            rounds = self._rounds_of(stand)
            total = stand.units_total // max(stand.total, 1) * rounds
            of, what = f"round {min(stand.done + 1, rounds)} of about {rounds}", " rounds"
            if not total:
                of = "sampling"
        elif stand.stage == "tune":  # how many reaches will be tried is a guess until the end
            of, what = f"reach {min(stand.done + 1, stand.total)} of about {total}", " reaches"
        with self._lock:
            if name not in self._running:
                self._running[name] = _Running(
                    *(now, now, stand.units_done, now, stand.units_done, total, of, now),
                    speed=Speed(now, stand.units_done),
                )
            stage = self._running[name]
            if total and not stage.total:  # what came before has another speed
                stage.since, stage.at_first, stage.done = now, stand.units_done, stand.units_done
                stage.speed = Speed(now, stand.units_done)
            if stand.units_done > stage.done:
                stage.now = now
            stage.speed.note(now, stand.units_done)
            stage.done, stage.total, stage.of = stand.units_done, total, of
            if stand.done == stand.total:
                self._ended.add(stand.stage)
                count = stand.total if what else stand.units_total
                stage.of = f"{count:,}{what}"
            self._show(name, stage)
            if stand.done == stand.total:
                del self._running[name]
                if not self._quiet and not self._console.is_terminal:
                    line = f"{name} done {stage.of} in {duration(now - stage.began)}"
                    self._console.print(Text(line))

    def _rounds_of(self, stand: "Stand") -> int:
        """Return how many rounds a training will have: as planned, or the most there may be."""
        if stand.done == stand.total:
            return stand.total
        planned = self._rounds.get(stand.stage, stand.total)
        return min(max(planned, stand.done + 1), stand.total)

    def _show(self, name: str, stage: _Running) -> None:
        """Bring the bar of a stage up to date."""
        left = stage.left(self._clock())
        shown: dict[str, Any] = {
            "of": stage.of,
            "note": stage.note if self._console.width >= WIDE else "",
            "left": f"{duration(round(left))} left" if left else "",
        }
        if name not in self._bar_of:
            self._bar_of[name] = self._bars.add_task(name, total=stage.total, **shown)
        bar = self._bar_of[name]
        self._bars.update(bar, completed=stage.done, total=stage.total, **shown)

    def note(self, line: str) -> None:
        """Show a line that a person should read."""
        if events.for_machines:
            events.info("note", line)
        elif not self._quiet:
            self._console.print(Text(f"note: {printable(line)}"))

    def round(self, layer: str, report: RoundReport) -> None:
        """Show the report of a round of k-means."""
        note = f"error {report.objective:.4f}"
        if report.empty_words:
            note += f", {report.empty_words} empty words"
        if report.recall < 1:
            note += f", recall {report.recall:.3f}"
        with self._lock:
            if (stage := self._running.get(f"vocabulary {printable(layer)}")) is not None:
                stage.note = note
