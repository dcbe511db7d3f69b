"""Sums and tallies: exact, so that no order and no cut changes a bit of them."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.empty_clusters import Spares
from lamella.pipeline.vocabulary.partial import (
    ERROR_SCALE,
    LONGEST_TRAINED,
    Partial,
    Tally,
    WordSums,
    add_rows,
    merge_sums,
    merge_tallies,
    whole_error,
)
from tests.pipeline.vocabulary.vectors import clustered

FARTHEST = (2 * LONGEST_TRAINED) ** 2
"""Greatest squared distance between two descriptors that are trained on."""


def some_rows(draw: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Return float16 numbers of every size that descriptors may have, as float32."""
    return np.ldexp(
        draw.integers(-1023, 1024, size=(rows, 3)), draw.integers(-24, 1, size=(rows, 3))
    ).astype(np.float32)


def test_rows_are_added_to_their_words() -> None:
    sums = np.zeros((3, 2))
    rows = np.array([[0, 1], [1, 2], [10, 3]], np.float32)
    add_rows(sums, np.array([0, 0, 2], np.uint32), rows)
    assert sums.tolist() == [[1, 3], [0, 0], [10, 3]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sums_of_float16_are_exact_in_any_order(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows, words = some_rows(draw, 50), draw.integers(4, size=50, dtype=np.uint32)
    exact = [[Fraction(0)] * 3 for _ in range(4)]
    for word, row in zip(words.tolist(), rows.tolist(), strict=True):
        exact[word] = [one + Fraction(value) for one, value in zip(exact[word], row, strict=True)]
    for order in (np.arange(50), draw.permutation(50)):
        sums = np.zeros((4, 3))
        add_rows(sums, words[order], rows[order])
        assert [[Fraction(value) for value in one] for one in sums.tolist()] == exact


@settings(deadline=None)
@given(st.lists(st.floats(0, FARTHEST) | st.floats(0, 1e-8) | st.just(FARTHEST), max_size=60))
def test_squared_errors_are_whole_numbers(distances: list[float]) -> None:
    # round() of a fraction, as rint of a float64, takes the even one of two as near.
    exact = sum(round(Fraction(distance) * int(ERROR_SCALE)) for distance in distances)
    assert whole_error(np.array(distances, np.float64)) == exact
    assert whole_error(np.array(distances[::-1], np.float64)) == exact


def test_many_of_the_greatest_errors_do_not_overflow() -> None:
    # 2**26 * 2**30 * 300 > 2**64
    assert whole_error(np.full(300, FARTHEST)) == 300 * 2**56
    assert 300 * 2**56 > 2**64


def test_halves_of_a_unit_go_to_the_even_one() -> None:
    units = np.array([0.5, 1.5, 2.5, 0.49, 3.51])
    assert whole_error(units / ERROR_SCALE) == 0 + 2 + 2 + 0 + 4


def test_a_part_holds_the_words_with_rows_of_a_range() -> None:
    partial = Partial(
        np.array([[1.0], [0], [3], [0], [5]]), np.array([1, 0, 2, 0, 9]), Tally(), Spares.none(1)
    )
    part = partial.part(1, 5)
    assert part.words.tolist() == [2, 4]
    assert part.sums.tolist() == [[3], [5]]
    assert part.counts.tolist() == [2, 9]
    assert len(partial.part(3, 4).words) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), max_size=4))
def test_merged_parts_are_the_sums_of_all_rows(seed: int, cuts: list[int]) -> None:
    draw = np.random.default_rng(seed)
    whole, counts, tasks = np.zeros((12, 3)), np.zeros(12, np.int64), []
    for _ in range(4):
        rows = some_rows(draw, 10)
        words = draw.integers(12, size=10, dtype=np.uint32)
        sums = np.zeros((12, 3))
        add_rows(sums, words, rows)
        add_rows(whole, words, rows)
        count = np.bincount(words, minlength=12)
        counts += count
        tasks.append(Partial(sums, count, Tally(), Spares.none(3)))
    edges = sorted({0, 12, *cuts})
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merged = [
            merge_sums([tasks[task].part(first, stop) for task in order], first, stop, 3)
            for first, stop in itertools.pairwise(edges)
        ]
        np.testing.assert_array_equal(np.concatenate([sums for sums, _ in merged]), whole)
        np.testing.assert_array_equal(np.concatenate([some for _, some in merged]), counts)


def test_nothing_merged_is_nothing() -> None:
    sums, counts = merge_sums([], 3, 7, 2)
    assert (sums.tolist(), counts.tolist()) == ([[0, 0]] * 4, [0] * 4)


def test_tallies_worked_by_hand() -> None:
    unit = int(ERROR_SCALE)
    tally = Tally(3, 6 * unit, 4, 3) + Tally(5, 2 * unit)
    assert tally == Tally(8, 8 * unit, 4, 3)
    assert (tally.objective, tally.recall) == (1.0, 0.75)
    assert (Tally().objective, Tally().recall) == (0.0, 1.0)
    # No float64 between: 2**80 + 1 units over 2**30 rows.
    assert Tally(2**30, 2**80 + 1) + Tally(0, 1) == Tally(2**30, 2**80 + 2)


def test_the_tallies_of_a_round_are_added_and_its_best_spares_kept() -> None:
    rows = clustered(2, 3, 1)
    parts = [
        Spares(np.array([key]), np.array([word], np.uint32), rows[word : word + 1])
        for word, key in enumerate([-2.0, -1.0])
    ]
    tally, spares = merge_tallies([Tally(1, 2, 3, 1), Tally(4, 4, 4, 4)], parts, 1)
    assert tally == Tally(5, 6, 7, 5)
    assert (spares.keys.tolist(), spares.words.tolist()) == ([-1], [1])


def test_what_does_not_fit_is_refused() -> None:
    one = WordSums(np.array([4], np.uint32), np.zeros((1, 3)), np.ones(1, np.int64))
    with pytest.raises(ValueError, match="one sum and one count a word; got 2 words"):
        WordSums(np.array([4, 5], np.uint32), np.zeros((1, 3)), np.ones(1, np.int64))
    with pytest.raises(ValueError, match="the words of sums rise"):
        WordSums(np.array([4, 4], np.uint32), np.zeros((2, 3)), np.ones(2, np.int64))
    with pytest.raises(ValueError, match="2 dimensions; got 3"):
        merge_sums([one], 0, 9, 2)
    for first, stop in ((0, 4), (5, 9)):
        with pytest.raises(ValueError, match=f"from {first} to before {stop}; got 4 to 4"):
            merge_sums([one], first, stop, 3)
