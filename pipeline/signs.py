"""Signs of progress of a running task, which tell a slow task from one that hangs.

The runner asks how long a task has been silent. Outside a task a sign does nothing, so any code
may give signs, whoever calls it.
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
    """In the block, count the signs of this thread as signs of the task with this key."""
    task = _running[key] = _Task()
    before = _mine.set(task)
    try:
        yield
    finally:
        _mine.reset(before)
        del _running[key]


def silence(key: str) -> float | None:
    """Return the seconds since a task's last sign, None if it does not run in this process."""
    task = _running.get(key)
    return None if task is None else time.monotonic() - task.last


def sign() -> None:
    """Give a sign for the task of this thread: a picture, a row group or a file is done."""
    signer()()


def signer() -> Callable[[], None]:
    """Return a function that gives signs for the task of this thread, from any thread."""
    task = _mine.get()
    return _no_one if task is None else task.sign


def signed(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, and give a sign after each has been processed."""
    for item in items:
        yield item
        sign()


def _no_one() -> None:
    """Do nothing: no task runs in this thread."""
