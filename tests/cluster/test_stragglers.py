"""Which task straggles; the clock is the caller's."""

import math
import time
from itertools import count
from typing import Any

from lamella.cluster.ray.stragglers import Call, Pace
from lamella.pipeline.run.ledger import Ledger
from tests.builders import items


def calls(*began: float, key: str | None = None) -> dict[Any, Call]:
    numbers = count()
    keys = [f"{next(numbers):03d}" if key is None else key for _ in began]
    return {name: Call(None, name, when, math.inf) for name, when in zip(keys, began, strict=True)}


def test_nothing_straggles_before_a_task_has_ended() -> None:
    assert Pace(1.0).next_straggler(calls(5.0)) == math.inf


def test_a_task_straggles_after_twice_the_median_and_the_least() -> None:
    assert Pace(1.0, [2.0, 3.0, 50.0]).next_straggler(calls(10.0, 7.0)) == 7.0 + 6.0
    assert Pace(30.0, [2.0, 3.0, 50.0]).next_straggler(calls(10.0, 7.0)) == 7.0 + 30.0


def test_a_worker_that_starts_is_no_straggler() -> None:
    starting = {"starts": Call(None, None, 1.0, math.inf)}
    assert Pace(1.0, [1.0]).next_straggler(starting) == math.inf


def test_the_oldest_is_begun_again_and_each_once() -> None:
    ledger = Ledger(items(2))
    running = [ledger.start(), ledger.start()]
    now = time.monotonic()
    pace, at_work = Pace(1.0, [1.0]), calls(now - 10.0, now - 20.0)
    assert pace.straggler(ledger, at_work) == running[1]
    assert pace.straggler(ledger, at_work) == running[0]
    assert pace.straggler(ledger, at_work) is None
    assert pace.next_straggler(at_work) == math.inf
