from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.errors import (
    CorruptFile,
    InputError,
    LoginFailed,
    NoAccess,
    NoSuchBucket,
    StoreUnavailable,
    UnknownLayer,
)
from lamella.pipeline.run.ledger import MOST_VANISHED, Ledger, describe, is_worth_retrying
from lamella.pipeline.run.step import Outcome
from tests.builders import Item, items, record


def test_tasks_start_in_order_and_end_once() -> None:
    ledger = Ledger(items(2))
    assert ledger.waiting == 2
    assert [ledger.start(), ledger.start(), ledger.start()] == [*items(2), None]
    assert ledger.waiting == 0
    assert ledger.succeed("001", record("001")) == Outcome("001", record("001"), attempts=1)
    assert not ledger.finished
    ledger.succeed("000", record("000"))
    assert ledger.finished
    with pytest.raises(KeyError):
        ledger.succeed("000", record("000"))


def test_a_failed_task_waits_behind_the_others_until_its_attempts_are_used_up() -> None:
    ledger = Ledger(items(2), max_attempts=2)
    ledger.start()
    assert ledger.fail("000", "lost", retry=True) is None
    assert [ledger.start(), ledger.start()] == [items(2)[1], items(2)[0]]
    assert ledger.fail("000", "lost again", retry=True) == Outcome(
        "000", None, "lost again", attempts=2
    )


def test_only_first_tries_stand_beside_others() -> None:
    ledger = Ledger(items(4))
    first = ledger.start()
    assert first == items(4)[0]
    assert ledger.start_beside() == items(4)[1]
    ledger.fail("000", "lost", retry=True)
    assert ledger.start_beside() == items(4)[2]
    assert ledger.start() == items(4)[3]
    assert ledger.start_beside() is None  # 000 was tried before: it waits for its own
    assert ledger.start() == first
    assert ledger.start_beside() is None  # nothing waits


def test_a_machine_that_vanishes_costs_its_tasks_no_attempt_but_not_without_end() -> None:
    ledger = Ledger(items(2))
    for _ in range(MOST_VANISHED):
        assert ledger.start() is not None
        assert ledger.start() is not None
        for key in ("000", "001"):
            assert ledger.fail(key, "gone", retry=True, vanished=True) is None
        assert ledger.start_beside() is None  # the next one that kills shall be alone
    ledger.start()
    assert ledger.succeed("000", record("000")).attempts == 1
    ended = []
    for _ in range(3):
        ledger.start()
        ended.append(ledger.fail("001", "gone", retry=True, vanished=True))
    assert ended == [None, None, Outcome("001", None, "gone", attempts=3)]


def test_what_is_not_worth_it_is_not_retried() -> None:
    ledger = Ledger(items(1))
    ledger.start()
    assert ledger.fail("000", "wrong", retry=False) == Outcome("000", None, "wrong", attempts=1)
    assert ledger.finished


def test_no_task_is_finished_at_once_and_equal_keys_are_refused() -> None:
    assert Ledger([]).finished
    with pytest.raises(ValueError, match="same key"):
        Ledger([Item("a"), Item("a", 2)])


def test_an_outcome_is_a_record_or_an_error() -> None:
    for kept, error in ((None, None), (record("a"), "error")):
        with pytest.raises(ValueError, match="either"):
            Outcome("a", kept, error)


@pytest.mark.parametrize(
    ("error", "worth", "text"),
    [
        (OSError("the disk\nis away"), True, "OSError: the disk is away"),
        (CorruptFile("re-run it"), True, "re-run it"),
        (MemoryError(), True, "MemoryError: "),
        (InputError("the rule"), False, "the rule"),
        (StoreUnavailable("does not answer"), True, "does not answer"),
        (NoAccess("no right"), False, "no right"),
        (LoginFailed("expired"), False, "expired"),
        (NoSuchBucket("no bucket"), False, "no bucket"),
        (UnknownLayer("no such layer"), False, "no such layer"),
        (ValueError("no"), False, "ValueError: no"),
        (TypeError("no"), False, "TypeError: no"),
        (AssertionError("cannot be"), False, "AssertionError: cannot be"),
        (ImportError("libx.so"), False, "ImportError: libx.so"),
    ],
)
def test_errors_are_told_apart(error: Exception, worth: bool, text: str) -> None:
    assert is_worth_retrying(error) is worth
    assert describe(error) == text


Move = tuple[str, int, bool]
moves = st.lists(
    st.tuples(st.sampled_from(["start", "succeed", "fail"]), st.integers(0, 9), st.booleans())
)


@given(st.integers(0, 5), st.integers(1, 4), moves)
def test_every_task_is_in_one_state_whatever_happens(
    count: int, most: int, script: list[Move]
) -> None:
    ledger = Ledger(items(count), max_attempts=most)
    running: list[str] = []
    started: Counter[str] = Counter()
    ended: dict[str, Outcome] = {}
    # The script, then what any runner does: start and succeed until all have ended.
    drain = [("start", 0, False), ("succeed", 0, False)] * (count * most + count)
    for move, which, retry in [*script, *drain]:
        if move == "start":
            if (task := ledger.start()) is not None:
                assert task.key not in running
                assert task.key not in ended
                running.append(task.key)
                started[task.key] += 1
        elif running:
            key = running.pop(which % len(running))
            if move == "succeed":
                outcome: Outcome | None = ledger.succeed(key, record(key))
            else:
                outcome = ledger.fail(key, "error", retry=retry)
                assert (outcome is None) == (retry and started[key] < most)
            if outcome is not None:
                ended[key] = outcome
        assert ledger.waiting + len(running) + len(ended) == count
        assert ledger.finished == (len(ended) == count)
    assert sorted(ended) == [item.key for item in items(count)]
    assert all(ended[key].attempts == started[key] <= most for key in ended)
