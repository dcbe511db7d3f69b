"""Signs of progress that a running task gives, so that a slow task can be told from one that hangs.

Who runs a task asks how long it has been silent. Outside of a task a sign does nothing, so code
that serves tasks gives signs without asking who calls it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class _Task:
    """A running task, and when it last gave a sign."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def sign(self) -> None:
        self.last = time.monotonic()


_running: dict[str, _Task] = {}
_mine: ContextVar[_Task | None] = ContextVar("task", default=None)


@contextmanager
def running(key: str) -> Iterator[None]:
    """Take the signs that this thread gives inside the block for those of the task of this key."""
    task = _running[key] = _Task()
    before = _mine.set(task)
    try:
        yield
    finally:
        _mine.reset(before)
        del _running[key]


def silence(key: str) -> float | None:
    """Return for how many seconds a task has given no sign; None if it does not run here."""
    task = _running.get(key)
    return None if task is None else time.monotonic() - task.last


def sign() -> None:
    """Say that the task of this thread has got on: a picture, a row group or a file is done."""
    signer()()


def signer() -> Callable[[], None]:
    """Return what gives signs for the task of this thread, from any thread."""
    task = _mine.get()
    return _no_one if task is None else task.sign


def signed(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, with a sign after what was done with each."""
    for item in items:
        yield item
        sign()


def _no_one() -> None:
    """Give no sign: no task runs."""
