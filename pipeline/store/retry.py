"""Trying again what may end otherwise: bounded in number and in time, with jitter."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Transient(Exception):
    """A failure that another try may not meet; `str` says which, in a few words."""


class GaveUp(Exception):
    """Every try failed; `str` says how the last one did."""


@dataclass(frozen=True)
class Patience:
    """How long something is tried. Delays double from `first_s` to `longest_s`.

    Each is shortened at random by up to a half, so that many workers do not knock together.
    """

    total_s: float = 180.0
    tries: int = 40
    first_s: float = 0.1
    longest_s: float = 10.0

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after this many failures, at least 1."""
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
    """Return what a call returns, calling again while it raises Transient.

    Args:
        on_failure: told how many calls have failed, and how the last one did.

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
            sleep(delay_s)
