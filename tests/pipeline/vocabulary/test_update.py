"""The end of a round: means, refills, splits, drops and when to stop, worked by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.batches import Window
from lamella.pipeline.vocabulary.empty_clusters import Spares
from lamella.pipeline.vocabulary.partial import ERROR_SCALE, Tally
from lamella.pipeline.vocabulary.round_assigner import RoundWords
from lamella.pipeline.vocabulary.sums import sum_rows, unseen
from lamella.pipeline.vocabulary.update import (
    BLOATED,
    MENDING_ROUNDS,
    SPLITTING_ROUNDS,
    Measured,
    RoundInfo,
    move_words,
    spares_of_round,
    update,
)
from lamella.schemas.vocabulary import RoundReport, VocabularySpec
from tests.pipeline.vocabulary.vectors import sample_of

Floats = NDArray[np.float32]
SPEC = VocabularySpec(rounds=10)
FULL, PART = Window(0.0, 1.0), Window(0.0, 0.5, keep=0.5)


def column(*values: float) -> Floats:
    """Return descriptors of one dimension."""
    return np.array(values, np.float32)[:, None]


LINE = column(0, 1, 10, 11, 12)


def after(rounds: int, objective: float = 100.0, share: float = 1.0) -> list[RoundReport]:
    """Reports of so many rounds with the same objective."""
    return [
        RoundReport(
            round=number, share=share, objective=objective, changed=1, empty_words=0, imbalance=1
        )
        for number in range(rounds)
    ]


def turn(
    words: Floats,
    rows: Floats,
    reports: list[RoundReport],
    spec: VocabularySpec = SPEC,
    window: Window = FULL,
) -> tuple[Floats, RoundInfo]:
    """Return what a round over all these rows gives; it is called what `window` says."""
    partial, _ = sum_rows(
        RoundWords(words),
        sample_of(rows),
        unseen(len(rows)),
        FULL,
        spec,
        number=len(reports),
        rows_in_all=len(rows),
        spares=9 if window.full else 0,
    )
    counts = partial.counts
    moved, _ = move_words(words, partial.sums, counts, np.zeros(len(words)), window.keep)
    return update(
        words, moved, Measured(counts, partial.tally, partial.spares), window, reports, spec
    )


def test_words_go_to_the_mean_of_their_rows() -> None:
    sums, counts = np.array([[3.0], [0.0], [33.0]]), np.array([2, 0, 3])
    moved, masses = move_words(column(8, 9, 7), sums, counts, np.array([50.0, 6, 0]), 0.0)
    # 3 / 2; no row, so 9 stays; 33 / 3. What was seen before does not count.
    assert moved.tolist() == [[1.5], [9], [11]]
    assert masses.tolist() == [2, 0, 3]
    assert moved.dtype == np.float32


def test_words_remember_everything() -> None:
    sums, counts = np.array([[3.0], [0.0], [33.0]]), np.array([2, 0, 3])
    moved, masses = move_words(column(8, 9, 7), sums, counts, np.array([2.0, 6, 0]), 1.0)
    # (2 * 8 + 3) / (2 + 2); 9 stays and keeps its mass; (0 * 7 + 33) / (0 + 3)
    assert moved.tolist() == [[4.75], [9], [11]]
    assert masses.tolist() == [4, 6, 3]


def test_words_remember_half() -> None:
    sums, counts = np.array([[3.0], [0.0]]), np.array([2, 0])
    moved, masses = move_words(column(8, 9), sums, counts, np.array([4.0, 6]), 0.5)
    # (4/2 * 8 + 3) / (4/2 + 2); 6 / 2
    assert moved.tolist() == [[4.75], [9]]
    assert masses.tolist() == [4, 3]


def test_words_that_remember_everything_end_at_the_mean_of_all_rows() -> None:
    rows, words, masses = np.arange(12.0).reshape(4, 3), column(99), np.zeros(1)
    for part in rows:
        words, masses = move_words(
            words, np.array([[part.sum()]]), np.array([len(part)]), masses, 1.0
        )
    assert words.tolist() == [[5.5]]  # (0 + ... + 11) / 12
    assert masses.tolist() == [12]


def test_a_full_round_worked_by_hand() -> None:
    words = column(0, 10)
    moved, info = turn(words, LINE, [])
    assert moved.tolist() == [[0.5], [11.0]]
    assert info.report.objective == 6 / 5  # (0 + 1 + 0 + 1 + 4) / 5
    assert info.report.imbalance == 2 * (4 + 9) / 25
    assert (info.report.changed, info.report.empty_words, info.done) == (1.0, 0, False)
    moved, again = turn(moved, LINE, [info.report])
    assert again.report.objective == 2.5 / 5  # 1/4 + 1/4 + 1 + 0 + 1
    assert (again.report.round, again.done) == (1, False)
    kept, last = turn(moved, LINE, [info.report, again.report])
    assert last.done  # the means are where they were: no fall at all
    assert last.report.changed == 0.0
    assert len(last.placed) == len(last.hosts) == 0
    np.testing.assert_array_equal(kept, moved)


def test_a_report_has_what_was_measured() -> None:
    tally = Tally(5, int(7.5 * ERROR_SCALE), checked=4, nearest=3)
    measured = Measured(np.array([2, 3]), tally, Spares.none(1), held_error=1.25)
    _, info = update(column(0, 10), column(0, 11), measured, FULL, [], SPEC)
    assert (info.report.objective, info.report.recall, info.report.held_error) == (1.5, 0.75, 1.25)
    assert info.report.changed == 0.5


def test_part_of_the_rows_leaves_untouched_words_alone() -> None:
    words = column(0, 500, 10)
    moved, info = turn(words, LINE, after(2, share=0.5), window=PART)
    assert moved.tolist() == [[0.5], [500.0], [11.0]]
    assert (info.report.share, info.report.empty_words, info.report.refilled) == (0.5, 1, 0)
    assert not info.done
    assert len(info.placed) == len(info.hosts) == 0


def test_a_full_round_puts_empty_words_on_far_rows() -> None:
    words = column(0, 500, 10)
    moved, info = turn(words, LINE, after(1))
    assert moved[[0, 2]].tolist() == [[0.5], [11.0]]
    assert moved[1, 0] in (1, 11, 12)  # 0 and 10 lie on words
    assert (info.report.empty_words, info.report.refilled, info.done) == (1, 1, False)
    assert info.placed.tolist() == [1]
    assert info.hosts.tolist() == [0 if moved[1, 0] == 1 else 2]  # whose row that was


def test_the_lowest_empty_word_gets_the_best_spare() -> None:
    spares = Spares(np.array([-1.0, -2.0]), np.array([1, 1], np.uint32), column(7, 8))
    measured = Measured(np.array([0, 5, 0, 0]), Tally(5, 10), spares)
    moved, info = update(column(1, 2, 3, 4), column(1, 6, 3, 4), measured, FULL, [], SPEC)
    assert moved.tolist() == [[7], [6], [8], [4]]
    assert (info.report.empty_words, info.report.refilled, info.done) == (3, 2, False)
    assert (info.placed.tolist(), info.hosts.tolist()) == ([0, 2], [1, 1])


def test_no_end_while_a_word_is_empty() -> None:
    _, info = turn(column(0, 500, 10), LINE, after(5, objective=1.2))
    assert not info.done


def test_the_end_by_tolerance_keeps_the_words_that_were_measured() -> None:
    words, fall = column(0, 10), VocabularySpec(rounds=10, tolerance=0.01)
    kept, info = turn(words, LINE, after(5, objective=1.21), fall)
    assert info.done  # 1.21 - 1.2 = .01 < 1 % of 1.21
    np.testing.assert_array_equal(kept, words)
    _, info = turn(words, LINE, after(5, objective=1.22), fall)
    assert not info.done  # .02 > 1 % of 1.22
    _, info = turn(words, LINE, after(5, objective=1.2, share=0.5), fall)
    assert not info.done  # the round before saw half of the rows


def test_words_on_all_rows_are_the_end_at_once() -> None:
    kept, info = turn(column(0, 1, 10, 11, 12), LINE, [])
    assert (info.done, info.report.objective) == (True, 0.0)
    np.testing.assert_array_equal(kept, LINE)


def test_after_the_last_round_only_empty_words_move() -> None:
    words = column(0, 500, 10)
    _, info = turn(column(0, 10), LINE, after(9))
    assert info.done
    _, info = turn(column(0, 10), LINE, after(8))
    assert not info.done
    moved, info = turn(words, LINE, after(9))
    assert not info.done
    assert moved[[0, 2]].tolist() == [[0], [10]]
    assert info.report.refilled == 1
    kept, info = turn(moved, LINE, [*after(9), info.report])
    assert info.done
    np.testing.assert_array_equal(kept, moved)


def test_words_without_rows_to_go_to_are_dropped_and_counted() -> None:
    words = column(7, 0, 3, 7)
    kept, info = turn(words, column(0, 3, 3), after(1))
    assert kept.tolist() == [[0], [3]]
    assert (info.done, info.report.dropped, info.report.empty_words) == (True, 2, 2)
    assert info.report.objective == 0.0


def test_mending_has_an_end() -> None:
    words = column(0, 500, 10)
    for past, done in ((MENDING_ROUNDS - 1, False), (MENDING_ROUNDS, True)):
        kept, info = turn(words, LINE, after(SPEC.rounds - 1 + past))
        assert (info.done, len(kept), info.report.dropped) == (done, 2 if done else 3, int(done))


def test_without_a_full_pass_the_last_turn_is_the_end() -> None:
    words = column(0, 500, 10)
    spec = VocabularySpec(rounds=10, batch=0.5, full_pass=False, tolerance=0.01)
    # Two turns of two rounds each, as high as each other; the word that no row has is kept.
    kept, info = turn(words, LINE, after(4, share=0.5), spec, PART)
    assert (info.done, info.report.empty_words, info.report.dropped) == (True, 1, 0)
    np.testing.assert_array_equal(kept, words)
    moved, info = turn(words, LINE, after(3, share=0.5), spec, PART)
    assert not info.done
    assert moved.tolist() == [[0.5], [500.0], [11.0]]
    falling = [report for high in (8, 4, 2, 1) for report in after(2, high, share=0.5)]
    _, info = turn(words, LINE, falling[:7], spec, PART)
    assert not info.done
    _, info = turn(words, LINE, falling, spec, PART)
    assert info.done  # two rounds are left of ten


def bloated(empty: int = 0, most: int = 30_192) -> Measured:
    """Return 200 words of which the first has too many rows, and some at the end few or none.

    30,192 rows at word 0, 50 at each of 196 others, 3 + 2 + 3 at the last: 40,000 in all, 200 a
    word. Above 64 * 200 = 12,800 a word is bloated; below 200 / 8 = 25 it is little used.
    """
    counts = np.array([most, *[50] * 196, 3, 2, 3])
    counts[1 : 1 + empty] = 0
    counts[0] += 50 * empty
    spares = Spares(
        -np.arange(1.0, 7.0),
        np.array([5, 0, 0, 7, 0, 0], np.uint32),
        column(-1, -2, -3, -4, -5, -6),
    )
    return Measured(counts, Tally(int(counts.sum()), int(ERROR_SCALE)), spares)


WORDS_200 = np.arange(200, dtype=np.float32)[:, None]


def test_little_used_words_go_beside_a_bloated_one() -> None:
    assert BLOATED == 64
    moved, info = update(WORDS_200, WORDS_200 + 1000, bloated(), FULL, [], SPEC)
    # 30,192 / 12,800 = 2.4: two may go beside word 0, to its own spares -2 and -3. The least used
    # go first: 198 with 2 rows, then 197 with 3. Word 199 has no place.
    assert moved[[198, 197, 199], 0].tolist() == [-2, -3, 1199]
    assert (info.report.split, info.report.refilled) == (2, 0)
    assert (info.placed.tolist(), info.hosts.tolist()) == ([198, 197], [0, 0])
    np.testing.assert_array_equal(moved[:197], WORDS_200[:197] + 1000)


def test_empty_words_take_their_spares_before_words_are_split() -> None:
    moved, info = update(WORDS_200, WORDS_200 + 1000, bloated(2), FULL, [], SPEC)
    # The empty words 1 and 2 take -1 and -2; the next spares of word 0 are -3 and -5.
    assert moved[[1, 2, 198, 197], 0].tolist() == [-1, -2, -3, -5]
    assert (info.report.split, info.report.refilled) == (2, 2)
    assert (info.placed.tolist(), info.hosts.tolist()) == ([1, 2, 198, 197], [5, 0, 0, 0])


def test_no_word_is_split_while_empty_ones_have_no_spare() -> None:
    _, info = update(WORDS_200, WORDS_200 + 1000, bloated(7), FULL, [], SPEC)
    assert (info.report.split, info.report.refilled, info.report.empty_words) == (0, 6, 7)


def test_words_are_split_in_the_first_full_rounds_alone() -> None:
    def split(reports: list[RoundReport], spec: VocabularySpec = SPEC) -> int:
        return update(WORDS_200, WORDS_200, bloated(), FULL, reports, spec)[1].report.split

    assert split(after(SPLITTING_ROUNDS - 1)) == 2
    assert split(after(SPLITTING_ROUNDS)) == 0
    assert split([*after(6, share=0.5), *after(SPLITTING_ROUNDS - 1)], VocabularySpec()) == 2
    assert split(after(2), VocabularySpec(rounds=3)) == 0  # the last round of all


def test_a_word_is_split_from_sixty_four_times_the_mean_on() -> None:
    # 64 / 200 of c + 9,808 rows are 4,615.5 for c around there.
    for most, split in ((4_615, 0), (4_616, 1)):
        measured = bloated(most=most)
        assert update(WORDS_200, WORDS_200, measured, FULL, [], SPEC)[1].report.split == split


def test_spares_are_kept_in_full_rounds() -> None:
    assert [spares_of_round(window, 8_000) for window in (PART, FULL)] == [0, 1_000]
    assert spares_of_round(FULL, 10) == 256


def test_what_does_not_fit_is_refused() -> None:
    words = column(0, 10)
    none = Measured(np.zeros(2, np.int64), Tally(), Spares.none(1))
    with pytest.raises(ValueError, match="one count a word; got 2 for 1 words"):
        update(words[:1], words[:1], none, FULL, [], SPEC)
    with pytest.raises(ValueError, match="at least 1 row"):
        update(words, words, none, FULL, [], SPEC)
    update(words, words, none, PART, [], SPEC)


def test_words_of_whitened_descriptors_are_brought_to_unit_length() -> None:
    words = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    sums = np.array([[3, 4], [0, 0], [0, 0]], np.float64)  # the second's rows cancel out
    moved, _ = move_words(words, sums, np.array([2, 2, 0]), np.zeros(3), 0.0, unit=True)
    assert moved.tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0], words[2].tolist()]
