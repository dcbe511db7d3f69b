"""Find the stragglers among the tasks of a stage."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lamella.pipeline.run.ledger import Ledger
from lamella.pipeline.run.step import TaskT

STRAGGLER_S, STRAGGLER_TIMES = 30.0, 2.0
"""A straggler takes at least this many seconds, and times as long as half of the others."""


@dataclass(frozen=True)
class Call:
    """A call to an actor: a task's key, or None while it starts; its begin and its deadline.

    Both are infinite while it waits behind another call on its actor.
    """

    actor: Any
    key: str | None
    began: float = math.inf
    deadline: float = math.inf


@dataclass
class Pace:
    """How long a stage's tasks take: `spent` has the seconds of those that ended well."""

    least_s: float = STRAGGLER_S
    spent: list[float] = field(default_factory=list)
    _again: set[str] = field(default_factory=set)

    def next_straggler(self, calls: Mapping[Any, Call]) -> float:
        """Return when the next call becomes a straggler; infinity if none can."""
        oldest = self._oldest(calls)
        if oldest is None or not self.spent:
            return math.inf
        return oldest.began + max(self.least_s, STRAGGLER_TIMES * median(self.spent))

    def straggler(self, ledger: Ledger[TaskT], calls: Mapping[Any, Call]) -> TaskT | None:
        """Return the task that straggles most; each is returned once."""
        oldest = self._oldest(calls)
        if oldest is None or self.next_straggler(calls) > time.monotonic():
            return None
        self._again.add(str(oldest.key))
        return ledger.running(str(oldest.key))

    def _oldest(self, calls: Mapping[Any, Call]) -> Call | None:
        """Return the oldest call that may be a straggler."""
        once = (call for call in calls.values() if call.key and call.key not in self._again)
        return min(once, key=lambda call: call.began, default=None)
