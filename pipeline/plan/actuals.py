"""Compare a run with its plan, stage by stage: seconds, pictures a second, bytes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lamella.pipeline.jobs.tuning import TUNE
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.run.step import Outcome, Runner, Step, TaskT
from lamella.schemas.plan import Plan


@dataclass
class Taken:
    """What a stage took in this run.

    Attributes:
        seconds: by the clock.
        tasks: tasks that ran.
        pictures: pictures in these tasks.
        before: whether some tasks had been done before this run.
    """

    seconds: float = 0.0
    tasks: int = 0
    pictures: int = 0
    before: bool = False


@dataclass
class Stopwatch:
    """A runner that measures what each stage takes; its `progress` must be called with progress.

    Steps are added up by stage, such as the steps of a training as `vocabulary b11`.
    """

    runner: Runner
    on_progress: OnProgress = quiet
    taken: dict[str, Taken] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Yield the outcomes of the runner, and measure their stage."""
        outcomes = self.runner.run(step, tasks)  # what this starts is no part of the stage
        began = time.perf_counter()
        taken = self._of(step.stage)
        try:
            for outcome in outcomes:
                if outcome.record is not None:
                    taken.tasks += 1
                    taken.pictures += outcome.record.counts.get("images", 0)
                yield outcome
        finally:
            taken.seconds += time.perf_counter() - began

    @property
    def threads(self) -> int:
        """See `Runner`."""
        return self.runner.threads

    def memory_per_worker(self) -> int:
        """See `Runner`."""
        return self.runner.memory_per_worker()

    def progress(self, stand: Progress) -> None:
        """Note whether a stage had tasks that were done before, and pass progress on.

        The measuring of reaches runs no tasks, and is timed by its progress.
        """
        if stand.of_stage == TUNE:
            self._time(stand)
        elif stand.of_stage and stand.done and self._of(stand.of_stage).tasks == 0:
            self._of(stand.of_stage).before = True
        self.on_progress(stand)

    def _time(self, stand: Progress) -> None:
        """Add the time since this part of a stage began, once it has ended."""
        began = self._began.setdefault(stand.stage, time.perf_counter())
        if stand.done == stand.total:
            taken = self._of(stand.of_stage)
            taken.seconds += time.perf_counter() - began
            taken.tasks += 1

    def _of(self, name: str) -> Taken:
        return self.taken.setdefault(name, Taken())


@dataclass(frozen=True)
class Comparison:
    """Plan and actuals of one stage; None where it was not planned, or did not run.

    `note` says if some or all of the stage had been done before this run.
    """

    stage: str
    planned_per_second: float | None
    per_second: float | None
    planned_seconds: float | None
    seconds: float | None
    planned_bytes: float | None
    size_bytes: int | None
    note: str = ""


def compare(
    plan: Plan, taken: dict[str, Taken], stored: dict[str, int], indexed: int
) -> list[Comparison]:
    """Return plan and actuals of every stage that was planned or run, in the order of the plan.

    Args:
        taken: measured in this run, by stage.
        stored: bytes in the store, by stage.
        indexed: pictures that the run indexed.
    """
    planned = {stage.name: stage for stage in plan.stages}
    sizes: dict[str, float] = {}
    for each in plan.stored:
        sizes[each.stage] = sizes.get(each.stage, 0.0) + each.size_bytes.mean * each.kept
    ran = [name for name, found in taken.items() if found.tasks]
    rows: list[Comparison] = []
    for name in dict.fromkeys([*planned, *ran]):
        stage, found = planned.get(name), taken.get(name, Taken())
        done = found.tasks > 0
        whole = done and not found.before
        pictures = found.pictures or (indexed if whole else 0)
        rows.append(
            Comparison(
                name,
                stage.per_second.mean if stage else None,
                pictures / found.seconds if done and pictures and found.seconds else None,
                stage.seconds.mean if stage else None,
                found.seconds if done else None,
                sizes.get(name),
                stored.get(name),
                "" if whole else "partly done before" if done else "done before",
            )
        )
    return rows
