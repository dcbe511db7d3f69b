"""A bounded queue before the index: what waits when it becomes free is answered together."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lamella.cluster.serve.problems import Problem
from lamella.pipeline import meters
from lamella.pipeline.text import counted

Q = TypeVar("Q")
A = TypeVar("A")

TOGETHER = 64
"""The cost of the requests that one call of the index answers, in searches: more take no less time
each, and all of them wait for the last.
"""


@dataclass(eq=False)
class _Waiting(Generic[Q, A]):
    """A request whose turn has not come.

    Attributes:
        key: requests of an equal key can be answered together; one of None is answered alone.
        cost: what it takes, in searches by an indexed image.
    """

    asked: Q
    key: Hashable
    cost: int
    answer: "Future[A]" = field(default_factory=Future)


class Turns(Generic[Q, A]):
    """Answers requests in one thread, in their order, those that go together in one call.

    Args:
        work: answers some requests of one key, in their order.
        most: how many may wait.
    """

    def __init__(self, work: Callable[[Sequence[Q]], Sequence[A]], most: int) -> None:
        self._work, self._most = work, most
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds = 0.1  # a request, by the last ones
        self._thread = threading.Thread(target=self._run, name="lamella-turns", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise Problem if no request may wait any more, or the server stops."""
        if self._stopped:
            raise Problem(503, "stopping", "the server is being stopped: ask again in a while")
        if len(self._waiting) >= self._most:
            meters.REQUESTS_REJECTED.add()
            seconds = max(1, math.ceil(len(self._waiting) * self._seconds))
            raise Problem(
                429,
                "busy",
                f"at most {counted(self._most, 'request')} may wait (--queue), and so many do: "
                f"ask again in {seconds} s",
                {"Retry-After": str(seconds)},
            )

    def ask(self, asked: Q, key: Hashable = None, cost: int = 1) -> "Future[A]":
        """Let a request wait for its turn; a future that is cancelled loses its place.

        Raises:
            Problem: the queue is full, or the server stops.
        """
        with self._changed:
            self.check()
            waiting: _Waiting[Q, A] = _Waiting(asked, key, cost)
            self._waiting.append(waiting)
            waiting.answer.add_done_callback(lambda _: self._leave(waiting))
            meters.REQUESTS_WAITING.set(len(self._waiting))
            self._changed.notify()
        return waiting.answer

    def stop(self) -> None:
        """Take no more requests; what waits is told so, and what is being answered ends."""
        with self._changed:
            self._stopped = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for each in left:
            if each.answer.set_running_or_notify_cancel():
                each.answer.set_exception(Problem(503, "stopping", "the server is being stopped"))

    def _leave(self, waiting: _Waiting[Q, A]) -> None:
        """Give up the place of a request that nobody waits for any more."""
        if waiting.answer.cancelled():
            with self._changed:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                    meters.REQUESTS_WAITING.set(len(self._waiting))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                group = self._group()
            if group:
                began = time.monotonic()
                self._answer(group)
                self._seconds += 0.2 * ((time.monotonic() - began) / len(group) - self._seconds)

    def _group(self) -> list[_Waiting[Q, A]]:
        """Take the first request that waits, and those that go with it."""
        first = self._waiting.popleft()
        group, cost = [first], first.cost
        if first.key is not None:
            for each in list(self._waiting):
                if each.key == first.key and cost + each.cost <= TOGETHER:
                    self._waiting.remove(each)
                    group.append(each)
                    cost += each.cost
        meters.REQUESTS_WAITING.set(len(self._waiting))
        return [each for each in group if each.answer.set_running_or_notify_cancel()]

    def _answer(self, group: list[_Waiting[Q, A]]) -> None:
        """Answer some requests; where one fails, each alone, so that it alone is told."""
        try:
            answers = self._work([each.asked for each in group])
        except Exception as error:
            if len(group) == 1:
                group[0].answer.set_exception(error)
                return
            for each in group:
                self._answer([each])
            return
        for each, answer in zip(group, answers, strict=True):
            each.answer.set_result(answer)
