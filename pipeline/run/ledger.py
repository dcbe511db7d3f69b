"""The ledger of a step's tasks: which are pending, running, done or failed, and when to retry.

It has no clock and no processes, so tests can script any order of events.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from lamella.pipeline import events, meters
from lamella.pipeline.errors import InputError, LamellaError, LoginFailed, NoAccess, NoSuchBucket
from lamella.pipeline.run.step import Outcome, TaskT
from lamella.schemas.files import DoneRecord

MAX_ATTEMPTS = 3
"""How often a task is tried before it fails the step."""

MOST_VANISHED = 10
"""How often a task is taken up again because its machine vanished, which costs it no attempt. Not
without end: what takes its machine down each time must be found too."""


def is_worth_retrying(error: BaseException) -> bool:
    """Say whether a retry may succeed. Wrong inputs and missing rights do not mend themselves."""
    # A second import of some packages fails for another reason, which would hide the first.
    wrong = InputError | ValueError | TypeError | AssertionError | ImportError
    return not isinstance(error, wrong | NoAccess | LoginFailed | NoSuchBucket)


def describe(error: BaseException) -> str:
    """Return an error as one line: our own message as it is, any other with its type."""
    text = " ".join(str(error).split())
    ours = type(error).__module__ == LamellaError.__module__
    return text if ours else f"{type(error).__name__}: {text}"


@dataclass
class Ledger(Generic[TaskT]):
    """Keeps every task of a step in exactly one state, counts attempts and decides on retries.

    Attributes:
        stage: the stage that metrics and events of its tasks name.
    """

    tasks: Sequence[TaskT]
    max_attempts: int = MAX_ATTEMPTS
    stage: str = ""
    _pending: deque[str] = field(init=False)
    _attempts: dict[str, int] = field(init=False)
    _vanished: dict[str, int] = field(init=False)
    _by_key: dict[str, TaskT] = field(init=False)
    _running: set[str] = field(init=False, default_factory=set)
    _ended: dict[str, Outcome] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_key = {task.key: task for task in self.tasks}
        if len(self._by_key) != len(self.tasks):
            raise ValueError("two tasks of a stage have the same key")
        self._pending = deque(task.key for task in self.tasks)
        self._attempts = dict.fromkeys(self._by_key, 0)
        self._vanished = dict.fromkeys(self._by_key, 0)

    @property
    def finished(self) -> bool:
        """Whether every task has ended."""
        return len(self._ended) == len(self.tasks)

    @property
    def waiting(self) -> int:
        """The number of tasks that are pending, retries included."""
        return len(self._pending)

    def start(self) -> TaskT | None:
        """Start the next pending task and return it, None if none is pending."""
        if not self._pending:
            return None
        key = self._pending.popleft()
        self._running.add(key)
        self._attempts[key] += 1
        self._measure()
        return self._by_key[key]

    def start_beside(self) -> TaskT | None:
        """Start the next task for a worker that already has one; None if it is a retry.

        A dead worker fails all its tasks; retries run alone, so a second crash names the culprit.
        Retries queue after all first tries.
        """
        first = self._pending[0] if self._pending else None
        if first is not None and (self._attempts[first] or self._vanished[first]):
            return None
        return self.start()

    def running(self, key: str) -> TaskT:
        """Return a running task, to start a copy of it; a copy does not count as an attempt.

        Raises:
            KeyError: the task is not running.
        """
        if key not in self._running:
            raise KeyError(key)
        return self._by_key[key]

    def succeed(self, key: str, record: DoneRecord) -> Outcome:
        """End a running task with its record."""
        return self._end(Outcome(key, record, attempts=self._attempts[key]))

    def fail(
        self, key: str, error: str, *, retry: bool, kind: str = "", vanished: bool = False
    ) -> Outcome | None:
        """Queue a running task again; if its attempts are used up, end it and return the outcome.

        Args:
            retry: whether a retry may succeed, as `is_worth_retrying` says.
            kind: as `errors.kind_of` gives it.
            vanished: whether the whole machine is gone, which is no fault of the task.
        """
        if vanished and self._vanished[key] < MOST_VANISHED:
            self._vanished[key] += 1
            self._attempts[key] -= 1
        if retry and self._attempts[key] < self.max_attempts:
            self._running.remove(key)
            self._pending.append(key)
            self._measure()
            meters.TASKS.add(stage=self.stage, outcome="retried")
            events.warning(
                "task-retried", error, stage=self.stage, shard=key, attempt=self._attempts[key]
            )
            return None
        return self._end(Outcome(key, None, error, attempts=self._attempts[key], kind=kind))

    def _end(self, outcome: Outcome) -> Outcome:
        self._running.remove(outcome.key)
        self._ended[outcome.key] = outcome
        self._measure()
        return outcome

    def _measure(self) -> None:
        meters.TASKS_WAITING.set(len(self._pending), stage=self.stage)
        meters.TASKS_RUNNING.set(len(self._running), stage=self.stage)
