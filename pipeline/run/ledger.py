"""The ledger of a stage's tasks: pending, running, done, failed. Pure: no clock, no processes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from lamella.pipeline.errors import InputError, LamellaError, LoginFailed, NoAccess, NoSuchBucket
from lamella.pipeline.run.step import Outcome, TaskT
from lamella.schemas.files import DoneRecord

MAX_ATTEMPTS = 3
"""How often a task may be tried; a task that fails this often fails the stage, by name."""


def is_worth_retrying(error: BaseException) -> bool:
    """Say whether another try could end otherwise: wrong inputs and rights stay wrong."""
    wrong = InputError | ValueError | TypeError | AssertionError
    return not isinstance(error, wrong | NoAccess | LoginFailed | NoSuchBucket)


def describe(error: BaseException) -> str:
    """Return an error as one line: our own messages as they are, others with their type."""
    text = " ".join(str(error).split())
    ours = type(error).__module__ == LamellaError.__module__
    return text if ours else f"{type(error).__name__}: {text}"


@dataclass
class Ledger(Generic[TaskT]):
    """Every task of a stage in exactly one state; counts attempts and decides on retries."""

    tasks: Sequence[TaskT]
    max_attempts: int = MAX_ATTEMPTS
    _pending: deque[str] = field(init=False)
    _attempts: dict[str, int] = field(init=False)
    _by_key: dict[str, TaskT] = field(init=False)
    _running: set[str] = field(init=False, default_factory=set)
    _ended: dict[str, Outcome] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_key = {task.key: task for task in self.tasks}
        if len(self._by_key) != len(self.tasks):
            raise ValueError("two tasks of a stage have the same key")
        self._pending = deque(task.key for task in self.tasks)
        self._attempts = dict.fromkeys(self._by_key, 0)

    @property
    def finished(self) -> bool:
        """Whether every task has ended."""
        return len(self._ended) == len(self.tasks)

    @property
    def waiting(self) -> int:
        """How many tasks have neither ended nor started."""
        return len(self._pending)

    def start(self) -> TaskT | None:
        """Take the next task, or None when none is pending."""
        if not self._pending:
            return None
        key = self._pending.popleft()
        self._running.add(key)
        self._attempts[key] += 1
        return self._by_key[key]

    def start_beside(self) -> TaskT | None:
        """Take the next task for a worker that has another one, or None where it was tried before.

        What a worker has goes down with it, and no one can tell by which. Second tries come after
        all first ones, so they have a worker to themselves, and only who did it is lost again.
        """
        return None if self._pending and self._attempts[self._pending[0]] else self.start()

    def running(self, key: str) -> TaskT:
        """Return a running task; to begin it once more is no attempt of its own.

        Raises:
            KeyError: it does not run.
        """
        if key not in self._running:
            raise KeyError(key)
        return self._by_key[key]

    def succeed(self, key: str, record: DoneRecord) -> Outcome:
        """End a running task with its record."""
        return self._end(Outcome(key, record, attempts=self._attempts[key]))

    def fail(self, key: str, error: str, *, retry: bool) -> Outcome | None:
        """Put a running task back, or end it with the error when its attempts are used up."""
        if retry and self._attempts[key] < self.max_attempts:
            self._running.remove(key)
            self._pending.append(key)
            return None
        return self._end(Outcome(key, None, error, attempts=self._attempts[key]))

    def _end(self, outcome: Outcome) -> Outcome:
        self._running.remove(outcome.key)
        self._ended[outcome.key] = outcome
        return outcome
