"""The queue: in order, together where that is the same, bounded, and left by who is gone."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest

from lamella.cluster.serve.problems import Problem
from lamella.cluster.serve.turns import Turns


class Script:
    """Work that waits until it may go on, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def work(self, group: Sequence[str]) -> Sequence[str]:
        self.calls.append(list(group))
        self.begun.release()
        assert self.go.acquire(timeout=20)
        if "wrong" in group:
            raise ValueError("wrong")
        return [each.upper() for each in group]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def turns(script: Script) -> Iterator[Turns[str, str]]:
    made: Turns[str, str] = Turns(script.work, most=4)
    yield made
    made.stop()
    script.go.release(50)


def held(turns: Turns[str, str], script: Script) -> "Future[str]":
    """Have the worker be busy with one request."""
    first = turns.ask("first")
    assert script.begun.acquire(timeout=20)
    return first


def test_what_waits_is_answered_together_if_it_is_of_one_key(
    turns: Turns[str, str], script: Script
) -> None:
    first = held(turns, script)
    answers = [turns.ask(name, key) for name, key in (("a", 1), ("b", 2), ("c", 1), ("d", None))]
    script.go.release(10)
    assert [each.result(20) for each in [first, *answers]] == ["FIRST", "A", "B", "C", "D"]
    assert script.calls == [["first"], ["a", "c"], ["b"], ["d"]]


def test_a_call_costs_no_more_than_goes_together(turns: Turns[str, str], script: Script) -> None:
    held(turns, script)
    answers = [turns.ask(name, 1, cost) for name, cost in (("a", 40), ("b", 30), ("c", 24))]
    script.go.release(10)
    assert [each.result(20) for each in answers] == ["A", "B", "C"]
    assert script.calls[1:] == [["a", "c"], ["b"]]  # 40 + 30 is more than 64, 40 + 24 is not


def test_a_wrong_request_fails_alone(turns: Turns[str, str], script: Script) -> None:
    held(turns, script)
    answers = [turns.ask(name, 1) for name in ("a", "wrong", "c")]
    script.go.release(10)
    assert (answers[0].result(20), answers[2].result(20)) == ("A", "C")
    assert isinstance(answers[1].exception(20), ValueError)


def test_one_more_than_may_wait_is_told_when_to_come_again(
    turns: Turns[str, str], script: Script
) -> None:
    held(turns, script)
    for _ in range(4):
        turns.ask("a")
    with pytest.raises(Problem, match=r"at most 4 requests may wait \(--queue\)") as told:
        turns.ask("one more")
    assert (told.value.status, told.value.code) == (429, "busy")
    assert int(told.value.headers["Retry-After"]) >= 1
    script.go.release(10)


def test_who_is_gone_loses_the_place_and_is_not_worked_for(
    turns: Turns[str, str], script: Script
) -> None:
    first = held(turns, script)
    answers = [turns.ask(name) for name in "abcd"]
    assert answers[1].cancel()
    last = turns.ask("e")  # there is room again
    script.go.release(10)
    assert last.result(20) == "E"
    assert first.result(20) == "FIRST"
    assert [each for (each,) in script.calls] == ["first", "a", "c", "d", "e"]


def test_a_stop_ends_what_is_begun_and_tells_the_others(
    turns: Turns[str, str], script: Script
) -> None:
    first, second = held(turns, script), turns.ask("second")
    turns.stop()
    with pytest.raises(Problem, match="being stopped"):
        second.result(20)
    with pytest.raises(Problem, match="being stopped"):
        turns.ask("third")
    script.go.release()
    assert first.result(20) == "FIRST"
