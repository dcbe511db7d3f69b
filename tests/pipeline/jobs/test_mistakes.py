"""All that is wrong is said at once, each thing once, and in no more than can be printed."""

import pytest

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.jobs.mistakes import Mistakes, SeveralMistakes, all_of


def test_a_single_mistake_is_raised_as_it_was() -> None:
    mistakes = Mistakes()
    with mistakes.noted():
        raise UnknownLayer("no layer x")
    with pytest.raises(UnknownLayer, match=r"^no layer x$"):
        mistakes.check()


def test_mistakes_within_mistakes_are_counted_once() -> None:
    inner, outer = Mistakes(), Mistakes()
    for said in ("a", "b"):
        with inner.noted():
            raise InputError(said)
    with outer.noted():
        raise InputError("c")
    with outer.noted():
        inner.check()
    with pytest.raises(SeveralMistakes, match=r"^3 errors: \(1\) c; \(2\) a; \(3\) b$"):
        outer.check()


def test_no_mistake_is_none_and_other_errors_pass() -> None:
    mistakes = Mistakes()
    mistakes.check()
    with pytest.raises(ZeroDivisionError), mistakes.noted():
        _ = 1 // 0


def test_very_many_are_told_as_far_as_there_is_room() -> None:
    said = all_of(["x" * 396] * 40)
    # "(1) " and 396 characters are 400; four of them are 1,600.
    assert said.startswith("40 errors: (1) x")
    assert said.endswith("; and 36 more")
    assert all_of(["x" * 5_000, "y"]).endswith("x; and 1 more")
