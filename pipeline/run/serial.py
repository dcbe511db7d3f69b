"""The runner in one process: one task at a time, in order. The reference for other runners."""

from collections.abc import Callable, Iterator, Sequence

from lamella.pipeline import events, meters
from lamella.pipeline.cores import available_cores
from lamella.pipeline.errors import kind_of
from lamella.pipeline.memory import available_memory
from lamella.pipeline.run.ledger import Ledger, describe, is_worth_retrying
from lamella.pipeline.run.step import Outcome, Step, TaskT
from lamella.schemas.files import DoneRecord


class SerialRunner:
    """Runs tasks in this process, one at a time."""

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends; without tasks the step is not opened."""
        work: Callable[[TaskT], DoneRecord] | None = None
        ledger = Ledger(tasks, stage=step.stage)
        meters.WORKERS.set(1, kind="cpu")
        while (task := ledger.start()) is not None:
            try:
                # Opened inside the first task, so that a failure to open counts as a failed try.
                work = work or step.open()
                with events.within(stage=step.stage, shard=task.key):
                    record = work(task)
                outcome: Outcome | None = ledger.succeed(task.key, record)
            except Exception as error:
                retry, kind = is_worth_retrying(error), kind_of(error)
                outcome = ledger.fail(task.key, describe(error), retry=retry, kind=kind)
            if outcome is not None:
                yield outcome

    @property
    def threads(self) -> int:
        """The number of cores that this process may use."""
        return available_cores()

    def memory_per_worker(self) -> int:
        """Return the free memory of this machine in bytes."""
        return available_memory()
