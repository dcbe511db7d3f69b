"""The speed of a stage over its last minutes, and the time left by it."""

from collections import deque
from typing import NamedTuple

WINDOW_S = 300.0
"""Older units do not count, except where a single task takes longer than that."""

APART_S = 5.0
"""Ends of tasks that are nearer to each other are taken as one."""


class _At(NamedTuple):
    time: float
    done: int


class Speed:
    """Counts units as tasks end. Times are seconds of any rising clock.

    Units that were done when the counting began, by an earlier run, are no part of the speed.
    """

    def __init__(self, time: float, done: int) -> None:
        self._ends: deque[_At] = deque([_At(time, done)])
        self._last = _At(time, done)

    def note(self, time: float, done: int) -> None:
        """Note how many units are done now. Nothing happens unless there are more."""
        if done <= self._last.done:
            return
        self._last = _At(time, done)
        if time - self._ends[-1].time >= APART_S:
            self._ends.append(self._last)
        while len(self._ends) > 2 and self._ends[1].time <= time - WINDOW_S:
            self._ends.popleft()

    def per_second(self, time: float) -> float | None:
        """Return units a second over the last minutes; None until the first have ended.

        It falls while nothing ends for longer than was usual.
        """
        ends = list(self._ends)  # another thread may note an end
        last = self._last
        older = [each for each in ends if each.time <= time - WINDOW_S]
        first = older[-1] if older else ends[0]
        if first.done == last.done:  # nothing has ended since: by what ended last
            first = next((each for each in reversed(ends) if each.done < last.done), last)
        made = last.done - first.done
        took = max(last.time - first.time, time - last.time)
        return made / took if made > 0 and took > 0 else None

    def seconds_left(self, time: float, total: int) -> float | None:
        """Return the seconds until all units are done at that speed; None where it is not known."""
        speed = self.per_second(time)
        if not speed:
            return None
        at_end = (total - self._last.done) / speed
        return max(at_end - max(time - self._last.time, 0.0), 0.0)
