"""Trying again: how often, how long, and what is not tried again."""

import pytest

from lamella.pipeline.store.retry import GaveUp, Patience, Transient, persist


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def failing(times: int) -> tuple[list[int], "object"]:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise Transient(f"failure {len(calls)}")
        return "done"

    return calls, call


def run(times: int, patience: Patience, clock: Clock) -> str:
    _, call = failing(times)
    return persist(call, patience, clock=lambda: clock.now, sleep=clock.sleep)  # type: ignore[arg-type]


def test_what_fails_twice_is_done_the_third_time() -> None:
    clock = Clock()
    assert run(2, Patience(first_s=1.0), clock) == "done"
    first, second = clock.slept
    assert 0.5 <= first <= 1.0 <= second <= 2.0  # doubled, and shortened by up to a half


def test_delays_double_up_to_the_longest_and_differ() -> None:
    patience = Patience(first_s=0.1, longest_s=10.0)
    for failures, full in ((1, 0.1), (4, 0.8), (7, 6.4), (8, 10.0), (10_000, 10.0)):
        delays = {patience.delay_s(failures) for _ in range(50)}
        assert all(full / 2 <= delay <= full for delay in delays)
        assert len(delays) > 40


def test_tries_are_bounded_in_number() -> None:
    with pytest.raises(GaveUp, match=r"4 tries in .* s, the last: failure 4"):
        run(99, Patience(tries=4), Clock())


def test_tries_are_bounded_in_time() -> None:
    clock = Clock()
    with pytest.raises(GaveUp):
        run(10**6, Patience(total_s=60.0, tries=10**6), clock)
    assert clock.now <= 60.0


def test_other_errors_are_not_tried_again() -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        persist(call, Patience())
    assert calls == [1]
