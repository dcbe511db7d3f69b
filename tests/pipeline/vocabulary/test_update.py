"""The end of a round: means, refills, drops and when to stop, worked by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.vocabulary.assign import ExactAssigner
from pipeline.vocabulary.partial import Partial, partial_of
from pipeline.vocabulary.refill import SampleKey
from pipeline.vocabulary.seeding import choose_words, initial_centroids
from pipeline.vocabulary.update import MENDING_ROUNDS, spares_of_round, update
from schemas.vocabulary import FULL_ROUND, RoundReport, VocabularySpec
from tests.pipeline.vocabulary.vectors import clustered

SPEC = VocabularySpec(rounds=10)
LINE = np.array([[0], [1], [10], [11], [12]], np.float32)


def column(*values: float) -> NDArray[np.float32]:
    """Return descriptors of one dimension."""
    return np.array(values, np.float32)[:, None]


def after(rounds: int, objective: float = 100.0) -> list[RoundReport]:
    """Reports of so many rounds with the same objective."""
    return [
        RoundReport(
            round=number,
            share=min(1.0, 2.0 ** (number - FULL_ROUND)),
            objective=objective,
            changed=1,
            empty_words=0,
            imbalance=1,
        )
        for number in range(rounds)
    ]


def seen(rows: NDArray[np.float32], words: NDArray[np.float32], spares: int = 9) -> Partial:
    """Return the partial of all rows."""
    return partial_of(rows, ExactAssigner(words).assign(rows), SampleKey(0), spares)


def test_a_full_round_worked_by_hand() -> None:
    words = column(0, 10)
    moved, info = update(words, seen(LINE, words), after(FULL_ROUND), SPEC)
    assert moved.tolist() == [[0.5], [11.0]]
    assert info.report.objective == 6 / 5  # (0 + 1 + 0 + 1 + 4) / 5
    assert info.report.imbalance == 2 * (4 + 9) / 25
    assert (info.report.changed, info.report.empty_words, info.done) == (1.0, 0, False)
    moved, info = update(moved, seen(LINE, moved), [*after(FULL_ROUND), info.report], SPEC)
    assert info.report.objective == 2.5 / 5  # 1/4 + 1/4 + 1 + 0 + 1
    assert not info.done
    kept, info = update(moved, seen(LINE, moved), [*after(FULL_ROUND + 1), info.report], SPEC)
    assert info.done  # the means are where they were: no fall at all
    assert info.report.changed == 0.0
    np.testing.assert_array_equal(kept, moved)


def test_part_of_the_rows_leaves_untouched_words_alone() -> None:
    words = column(0, 500, 10)
    moved, info = update(words, seen(LINE, words), after(FULL_ROUND - 1), SPEC)
    assert moved.tolist() == [[0.5], [500.0], [11.0]]
    assert (info.report.share, info.report.empty_words, info.report.refilled) == (0.5, 1, 0)
    assert not info.done


def test_a_full_round_puts_empty_words_on_far_rows() -> None:
    words = column(0, 500, 10)
    partial = seen(LINE, words)
    moved, info = update(words, partial, after(FULL_ROUND), SPEC)
    assert moved[[0, 2]].tolist() == [[0.5], [11.0]]
    assert moved[1].tolist() == partial.spares.descriptors[0].tolist()
    assert moved[1, 0] in (1, 11, 12)  # 0 and 10 lie on words
    assert (info.report.empty_words, info.report.refilled, info.done) == (1, 1, False)


def test_no_end_while_a_word_is_empty() -> None:
    words = column(0, 500, 10)
    _, info = update(words, seen(LINE, words), after(5, objective=1.2), SPEC)
    assert not info.done


def test_the_end_by_tolerance_keeps_the_words_that_were_measured() -> None:
    words = column(0, 10)
    fall = VocabularySpec(rounds=10, tolerance=0.01)
    kept, info = update(words, seen(LINE, words), after(5, objective=1.21), fall)
    assert info.done  # 1.21 - 1.2 = .01 < 1 % of 1.21
    np.testing.assert_array_equal(kept, words)
    _, info = update(words, seen(LINE, words), after(5, objective=1.22), fall)
    assert not info.done  # .02 > 1 % of 1.22
    _, info = update(words, seen(LINE, words), after(FULL_ROUND, objective=1.2), fall)
    assert not info.done  # the round before saw half of the rows


def test_after_the_last_round_only_empty_words_move() -> None:
    words = column(0, 500, 10)
    kept, info = update(column(0, 10), seen(LINE, column(0, 10)), after(9), SPEC)
    assert info.done
    moved, info = update(words, seen(LINE, words), after(9), SPEC)
    assert not info.done
    assert moved[[0, 2]].tolist() == [[0], [10]]
    assert info.report.refilled == 1
    kept, info = update(moved, seen(LINE, moved), [*after(9), info.report], SPEC)
    assert info.done
    np.testing.assert_array_equal(kept, moved)


def test_words_without_rows_to_go_to_are_dropped_and_counted() -> None:
    words = column(7, 0, 3, 7)
    kept, info = update(words, seen(column(0, 3, 3), words), after(FULL_ROUND), SPEC)
    assert kept.tolist() == [[0], [3]]
    assert (info.done, info.report.dropped, info.report.empty_words) == (True, 2, 2)
    assert info.report.objective == 0.0


def test_mending_has_an_end() -> None:
    words = column(0, 500, 10)
    for past, done in ((MENDING_ROUNDS - 1, False), (MENDING_ROUNDS, True)):
        kept, info = update(words, seen(LINE, words), after(SPEC.rounds - 1 + past), SPEC)
        assert (info.done, len(kept)) == (done, 2 if done else 3)


def test_spares_are_kept_in_full_rounds() -> None:
    assert [spares_of_round(number, 8_000) for number in range(4)] == [0, 0, 1_000, 1_000]
    assert spares_of_round(FULL_ROUND, 10) == 256


def test_what_does_not_fit_is_refused() -> None:
    words = column(0, 10)
    with pytest.raises(ValueError, match="got word 1 for 1"):
        update(words[:1], seen(LINE, words), after(FULL_ROUND), SPEC)
    with pytest.raises(ValueError, match="got 1 for 2"):
        update(np.zeros((2, 2), np.float32), seen(LINE, words), after(FULL_ROUND), SPEC)
    with pytest.raises(ValueError, match="at least 1 row"):
        update(words, seen(LINE[:0], words), after(FULL_ROUND), SPEC)
    update(words, seen(LINE[:0], words), after(FULL_ROUND - 1), SPEC)


def test_one_word_for_32_descriptors() -> None:
    assert [choose_words(rows) for rows in (0, 31, 64, 3_200, 10**9)] == [1, 1, 2, 100, 20_000]
    with pytest.raises(ValueError, match="0 descriptors or more"):
        choose_words(-1)


def test_words_begin_at_distinct_rows_of_the_sample() -> None:
    sample = np.repeat(clustered(400, 8, 30), 3, axis=0)
    words = initial_centroids(sample, 300, seed=4)
    known = {row.tobytes() for row in sample}
    assert len({word.tobytes() for word in words}) == 300
    assert all(word.tobytes() in known for word in words)
    np.testing.assert_array_equal(words, initial_centroids(sample, 300, seed=4))
    assert np.any(words != initial_centroids(sample, 300, seed=5))


def test_words_repeat_where_the_sample_has_too_few() -> None:
    words = initial_centroids(column(1, 2, 2, 1), 5, seed=0)
    assert len(words) == 5
    assert set(words[:, 0].tolist()) == {1.0, 2.0}


def test_seeding_without_rows_or_words_is_refused() -> None:
    for rows, words in ((LINE[:0], 3), (LINE, 0)):
        with pytest.raises(ValueError, match="at least 1 row and 1 word"):
            initial_centroids(rows, words, 0)
