"""Signs of progress: whose they are, and how long it is since the last."""

import threading

import pytest

from lamella.pipeline import signs
from lamella.pipeline.signs import running, sign, signed, signer, silence


class Clock:
    """A clock that a test turns."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(signs, "time", made)
    return made


def test_a_task_is_silent_from_its_beginning_or_its_last_sign_on(clock: Clock) -> None:
    with running("a"):
        clock.now += 5
        assert silence("a") == 5
        sign()
        assert silence("a") == 0
        clock.now += 2
        assert silence("a") == 2
    assert silence("a") is None
    assert silence("never") is None


def test_threads_that_run_tasks_give_signs_for_their_own(clock: Clock) -> None:
    begun, done = threading.Event(), threading.Event()

    def other() -> None:
        with running("b"):
            begun.set()
            done.wait(30)

    thread = threading.Thread(target=other)
    with running("a"):
        thread.start()
        assert begun.wait(30)
        clock.now += 7
        sign()
        assert (silence("a"), silence("b")) == (0, 7)
    done.set()
    thread.join()
    assert silence("b") is None


def test_a_signer_signs_from_any_thread_for_the_task_that_made_it(clock: Clock) -> None:
    with running("a"):
        mine = signer()
        clock.now += 3
        thread = threading.Thread(target=mine)
        thread.start()
        thread.join()
        assert silence("a") == 0
        clock.now += 3
        thread = threading.Thread(target=sign)  # a thread of its own has no task
        thread.start()
        thread.join()
        assert silence("a") == 3


def test_outside_of_a_task_signs_do_nothing() -> None:
    sign()
    signer()()
    assert list(signed([1, 2])) == [1, 2]


def test_items_are_signed_when_they_are_done(clock: Clock) -> None:
    with running("a"):
        for _ in signed(range(3)):
            assert silence("a") == 0
            clock.now += 4
            assert silence("a") == 4
        assert silence("a") == 0
