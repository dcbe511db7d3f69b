"""Events: what a job has to say, one record each for Python's logging, with its fields beside it.

`warning("task-retried", reason="...", shard="00042")` is the line
`task-retried shard=00042: ...` for people and an object with these fields for machines; the command
line chooses which (`cluster/commands/logs.py`). A program that imports Lamella handles the logger
`lamella` as any other.

In a worker on another machine `collect` gathers events, and the driver gives them to its own
handlers with `replay`.
"""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from lamella.pipeline.text import printable

LOGGER = logging.getLogger("lamella")

Fields = Mapping[str, Any]

MOST_COLLECTED = 2_000
"""Events that a worker keeps for the driver between two replies; more are counted."""

for_machines = False
"""Whether standard error has JSON objects alone."""

last_problem: "Problem | None" = None
"""The last event of this process, and of its workers, at level warning or above."""

_here: ContextVar[Fields] = ContextVar("fields")
_everywhere: dict[str, Any] = {}


class Problem(NamedTuple):
    """An event that a person may want to hear of later: its time (Unix), level, name, reason."""

    time: float
    level: int
    event: str
    reason: str


def debug(event: str, reason: str = "", /, **fields: Any) -> None:
    """Tell an event that only the search for a fault needs."""
    _tell(logging.DEBUG, event, reason, fields)


def info(event: str, reason: str = "", /, **fields: Any) -> None:
    """Tell an event of a job that goes well."""
    _tell(logging.INFO, event, reason, fields)


def warning(event: str, reason: str = "", /, **fields: Any) -> None:
    """Tell an event that costs time, or that a person should know; the job goes on."""
    _tell(logging.WARNING, event, reason, fields)


def error(event: str, reason: str = "", /, **fields: Any) -> None:
    """Tell an event that ends a task or the job."""
    _tell(logging.ERROR, event, reason, fields)


def say(event: str, text: str, level: int = logging.INFO) -> None:
    """Print a line for people on standard error, or tell it as an event where machines read them.

    For what a person at a terminal is to see whatever the level of events is.
    """
    if for_machines:
        _tell(level, event, text, {})
    else:
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def within(**fields: Any) -> Iterator[None]:
    """Give these fields to all events of this thread inside the block, such as `stage`, `shard`."""
    before = _here.set({**_here.get({}), **fields})
    try:
        yield
    finally:
        _here.reset(before)


def always(**fields: Any) -> None:
    """Give these fields to all events of this process from now on, such as `job`, or `node`."""
    _everywhere.update(fields)


def collect(level: int) -> "Collector":
    """Keep the events of this process from `level` on, for a driver; print none of them."""
    collector = Collector(level)
    LOGGER.handlers[:] = [collector]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    return collector


def replay(told: Iterable[Mapping[str, Any]]) -> None:
    """Give events of another process, as `Collector.take` returned them, to the handlers here."""
    for each in told:
        _hand_on(each["level"], each["event"], each["reason"], each["fields"], each["time"])


def as_text(event: str, reason: str, fields: Fields) -> str:
    """Return an event as one line for people; what is the same in all of a job's is left out."""
    said = {name: printable(str(value)) for name, value in fields.items() if name != "job"}
    parts = (f'{name}="{text}"' if " " in text else f"{name}={text}" for name, text in said.items())
    line = " ".join([event, *parts])
    return f"{line}: {printable(reason)}" if reason else line


def forget_problem() -> None:
    """Have no last problem, as at the begin of a job."""
    global last_problem
    last_problem = None


def _tell(level: int, event: str, reason: str, fields: Fields) -> None:
    _hand_on(level, event, reason, {**_here.get({}), **fields}, time.time())


def _hand_on(level: int, event: str, reason: str, fields: Fields, at: float) -> None:
    """Give an event to the handlers, with what all events of this process have."""
    global last_problem
    if level >= logging.WARNING:
        last_problem = Problem(at, level, event, reason)
    if LOGGER.isEnabledFor(level):
        known = {**_everywhere, **fields}
        extra = {"event": event, "fields": known, "reason": reason}
        text = as_text(event, reason, known)
        record = LOGGER.makeRecord(LOGGER.name, level, "", 0, text, (), None, extra=extra)
        record.created = at
        LOGGER.handle(record)


class Collector(logging.Handler):
    """A handler that keeps events until they are taken; of too many it counts the rest."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._kept: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one event."""
        value = {
            "time": record.created,
            "level": record.levelno,
            "event": getattr(record, "event", record.getMessage()),
            "reason": getattr(record, "reason", ""),
            "fields": getattr(record, "fields", {}),
        }
        with self._lock:
            if len(self._kept) < MOST_COLLECTED:
                self._kept.append(value)
            else:
                self._dropped += 1

    def take(self) -> tuple[dict[str, Any], ...]:
        """Return what was kept, oldest first, and keep nothing of it."""
        with self._lock:
            taken, dropped = list(self._kept), self._dropped
            self._kept.clear()
            self._dropped = 0
        if dropped:
            reason = f"{dropped:,} more events of this worker were not kept"
            taken.append(
                {
                    "time": taken[-1]["time"],
                    "level": logging.WARNING,
                    "event": "events-dropped",
                    "reason": reason,
                    "fields": {**_everywhere},
                }
            )
        return tuple(taken)
