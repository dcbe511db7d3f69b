"""Retries with exponential delays and jitter, bounded in number and in time."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lamella.pipeline.meters import WAITING

T = TypeVar("T")


class Transient(Exception):
    """A failure that may pass, so the call is retried; `str` describes it in a few words."""


class GaveUp(Exception):
    """All tries failed; `str` describes how the last one did."""


@dataclass(frozen=True)
class Patience:
    """How often and how long to retry. Delays double from `first_s` to `longest_s`.

    Each delay is shortened at random by up to half, so that workers do not retry in step.
    """

    total_s: float = 180.0
    tries: int = 40
    first_s: float = 0.1
    longest_s: float = 10.0

    def delay_s(self, failures: int) -> float:
        """Return the seconds to wait after this many failures, at least 1."""
        full = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return full * random.uniform(0.5, 1.0)


def persist(
    call: Callable[[], T],
    patience: Patience,
    *,
    on_failure: Callable[[int, Transient], None] = lambda failures, error: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until it does not raise Transient; return what the call returned.

    Args:
        on_failure: called after each failure with the number of failures so far and the error.

    Raises:
        GaveUp: the tries or the time are used up.
    """
    began = clock()
    failures = 0
    while True:
        try:
            return call()
        except Transient as error:
            failures += 1
            on_failure(failures, error)
            delay_s = patience.delay_s(failures)
            waited_s = clock() - began
            if failures >= patience.tries or waited_s + delay_s > patience.total_s:
                tries = "1 try" if failures == 1 else f"{failures} tries"
                raise GaveUp(f"{tries} in {waited_s:.0f} s, the last: {error}") from error
            WAITING.add(delay_s, cause="store")
            sleep(delay_s)
