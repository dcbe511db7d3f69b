"""The one-process runner: tasks in order, one at a time. The plain version of the contract."""

import os
from collections.abc import Callable, Iterator, Sequence

from lamella.pipeline.memory import available_memory
from lamella.pipeline.run.ledger import Ledger, describe, is_worth_retrying
from lamella.pipeline.run.step import Outcome, Step, TaskT
from lamella.schemas.files import DoneRecord


class SerialRunner:
    """Runs every task in this process."""

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Yield each task's outcome as it ends; nothing is opened when there is no task."""
        work: Callable[[TaskT], DoneRecord] | None = None
        ledger = Ledger(tasks)
        while (task := ledger.start()) is not None:
            try:
                # Opened for the first task, so that a failed opening is a failed try at a task.
                work = work or step.open()
                outcome: Outcome | None = ledger.succeed(task.key, work(task))
            except Exception as error:
                outcome = ledger.fail(task.key, describe(error), retry=is_worth_retrying(error))
            if outcome is not None:
                yield outcome

    @property
    def threads(self) -> int:
        """How many cores this process may use."""
        return len(os.sched_getaffinity(0))

    def memory_per_worker(self) -> int:
        """Return what is free on this machine, in bytes."""
        return available_memory()
