"""Rows against lists of words: the plain float64 loop says what is nearest, ties and all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.compare import error_bounds, squared_norms_of
from lamella.pipeline.vocabulary.ivf_kernels import (
    grouped,
    nearest_in_lists,
    select_nearest,
    squared_norms_of_bits,
    widen,
)
from tests.pipeline.vocabulary.vectors import clustered, plain_distances

Floats = NDArray[np.float32]
EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)
NOTHING = np.uint32(0xFFFFFFFF)
seeds = st.integers(0, 2**32 - 1)


def crowded(draw: np.random.Generator, count: int, dimensions: int) -> Floats:
    """Words of which some are equal and others closer than float32 products can tell."""
    base = clustered(max(1, count // 3), dimensions, 4, seed=int(draw.integers(1 << 30)))
    words = base[draw.integers(len(base), size=count)]
    shift = draw.choice([0.0, 1e-7, 1e-5, 0.1], size=(count, 1))
    return (words + shift * draw.standard_normal(words.shape)).astype(np.float32)


def windows_of(rows: Floats, words: Floats) -> NDArray[np.float64]:
    longest = float(np.sqrt(squared_norms_of(words).max()))
    return 2 * error_bounds(np.sqrt(squared_norms_of(rows)), longest, rows.shape[1])


def half_norms_of(words: Floats) -> Floats:
    return (squared_norms_of(words) / 2).astype(np.float32)


def search(
    rows: Floats,
    words: Floats,
    groups: list[tuple[list[int], int]],
    lists: list[list[int]],
    found: NDArray[np.uint32],
    distances: NDArray[np.float64],
) -> None:
    """Run the kernel on groups (rows, list) and lists of words."""
    nearest_in_lists(
        rows,
        squared_norms_of(rows),
        windows_of(rows, words),
        np.array([row for members, _ in groups for row in members], np.int64),
        np.cumsum([0] + [len(members) for members, _ in groups]).astype(np.int64),
        np.array([chosen for _, chosen in groups], np.int64),
        np.cumsum([0] + [len(one) for one in lists]).astype(np.int64),
        np.array([word for one in lists for word in one], np.uint32),
        words,
        half_norms_of(words),
        found,
        distances,
    )


def test_every_finite_float16_is_widened_to_its_own_value() -> None:
    halves = EVERY_HALF.view(np.float16)
    finite = EVERY_HALF[np.isfinite(halves)]
    assert len(finite) == 2 * 31 * 1024  # signs, exponents but the last, mantissas
    for shape in ((-1, 1), (-1, 8), (8, -1)):
        bits = finite.reshape(shape)
        wide = widen(bits, np.arange(len(bits)))
        np.testing.assert_array_equal(
            wide.view(np.uint32), bits.view(np.float16).astype(np.float32).view(np.uint32)
        )


def test_rows_are_widened_in_the_order_asked_for() -> None:
    halves = np.array([[1, -2], [0.5, 3], [-0.25, 65504]], np.float16)
    wide = widen(halves.view(np.uint16), np.array([2, 0, 2]))
    assert wide.tolist() == [[-0.25, 65504], [1, -2], [-0.25, 65504]]
    assert widen(halves.view(np.uint16), np.empty(0, np.int64)).shape == (0, 2)


def test_squared_norms_of_bits_are_exact_and_infinite_for_what_is_no_number() -> None:
    halves = EVERY_HALF.view(np.float16)
    norms = squared_norms_of_bits(EVERY_HALF[:, None])
    wide = np.where(np.isfinite(halves), halves, np.inf).astype(np.float64)
    np.testing.assert_array_equal(norms, wide * wide)


def test_squared_norms_of_bits_add_up_over_the_dimensions() -> None:
    rows = np.array([[3, -4, 0], [1, np.nan, 1], [np.inf, 2, 2], [2, 0, -np.inf]], np.float16)
    assert squared_norms_of_bits(rows.view(np.uint16)).tolist() == [25, np.inf, np.inf, np.inf]
    some = clustered(300, 33, 20).astype(np.float16)
    np.testing.assert_array_equal(
        squared_norms_of_bits(some.view(np.uint16)), squared_norms_of(some.astype(np.float32))
    )


def test_two_groups_worked_by_hand() -> None:
    words = np.array([[0], [4], [10], [10]], np.float32)
    rows = np.array([[1], [7], [9]], np.float32)
    found, distances = np.full(3, NOTHING), np.full(3, np.inf)
    # Group 0 sees the words 1 and 3, group 1 the words 0, 2 and 3, group 2 none.
    # Row 0: (1 - 4)^2 = 9, then (1 - 0)^2 = 1. Row 1: 9 to word 1 as to 3, the lower word.
    # Row 2 is in group 1 alone: 1 to the words 2 and 3, the lower word.
    groups = [([0, 1], 0), ([0, 2], 1), ([1, 2], 2)]
    search(rows, words, groups, [[1, 3], [0, 2, 3], []], found, distances)
    assert found.tolist() == [0, 1, 2]
    assert distances.tolist() == [1, 9, 1]


@settings(max_examples=120, deadline=None)
@given(seeds, st.integers(1, 9), st.integers(1, 5), st.integers(1, 40), st.integers(1, 19))
def test_nearest_in_lists_is_a_plain_loop(
    seed: int, many: int, group_count: int, word_count: int, dimensions: int
) -> None:
    draw = np.random.default_rng(seed)
    words = crowded(draw, word_count, dimensions)
    rows = np.concatenate([words[draw.integers(word_count, size=6)], crowded(draw, 6, dimensions)])
    plain = plain_distances(rows, words)
    lists = [
        draw.permutation(word_count)[: draw.integers(word_count + 1)].tolist()
        for _ in range(group_count)
    ]
    # Groups of 1 to 9 rows: full and broken fours. A row may be in several, a list empty.
    groups = [
        (draw.permutation(len(rows))[:many].tolist(), int(draw.integers(group_count)))
        for _ in range(group_count)
    ]
    found, distances = np.full(len(rows), NOTHING), np.full(len(rows), np.inf)
    for row in np.flatnonzero(draw.random(len(rows)) < 0.5).tolist():
        found[row] = draw.choice([draw.integers(word_count), plain[row].argmin()])
        distances[row] = plain[row, found[row]]
    expected = {
        row: {(float(distances[row]), int(found[row]))}
        | {
            (float(plain[row, w]), w)
            for members, one in groups
            if row in members
            for w in lists[one]
        }
        for row in range(len(rows))
    }
    search(rows, words, groups, lists, found, distances)
    answers = list(zip(distances.tolist(), found.tolist(), strict=True))
    assert answers == [min(expected[row]) for row in range(len(rows))]


def test_a_start_that_is_better_already_stays() -> None:
    words = np.array([[5], [1], [9]], np.float32)
    rows = np.array([[1.5]], np.float32)
    found, distances = np.array([1], np.uint32), np.array([0.25])
    search(rows, words, [([0], 0)], [[0, 2]], found, distances)
    assert (found.tolist(), distances.tolist()) == ([1], [0.25])


def test_a_start_as_near_gives_way_to_a_lower_word_alone() -> None:
    words = np.array([[1], [1], [1]], np.float32)
    rows = np.array([[3]], np.float32)
    for listed, kept in (([0], 0), ([2], 1), ([2, 0], 0)):
        found, distances = np.array([1], np.uint32), np.array([4.0])
        search(rows, words, [([0], 0)], [listed], found, distances)
        assert (found.tolist(), distances.tolist()) == ([kept], [4.0])


def selected(plain: NDArray[np.float64], candidates: NDArray[np.uint32], count: int) -> list[int]:
    """Return what is nearest by (distance, id), in rising order of the ids."""
    order = sorted(zip(plain.tolist(), candidates.tolist(), strict=True))
    return sorted(word for _, word in order[:count])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_selection_worked_by_hand(count: int) -> None:
    words = np.array([[9], [0], [2], [2], [5]], np.float32)
    rows = np.array([[1]], np.float32)
    candidates = np.array([1, 2, 3, 4], np.uint32)
    near = words[candidates]
    # 1 to each of the words 1, 2 and 3, and 16 to word 4
    chosen = select_nearest(
        rows, rows @ near.T, half_norms_of(near), windows_of(rows, words), candidates, words, count
    )
    assert chosen.tolist() == [[1, 2, 3, 4][:count]]


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 40), st.integers(1, 19))
def test_selection_is_sorting_by_distance_and_id_for_every_count(
    seed: int, candidate_count: int, dimensions: int
) -> None:
    draw = np.random.default_rng(seed)
    words = crowded(draw, candidate_count + 10, dimensions)
    rows = np.concatenate([words[:3], crowded(draw, 3, dimensions)])
    candidates = np.sort(draw.permutation(len(words))[:candidate_count]).astype(np.uint32)
    near = words[candidates]
    plain = plain_distances(rows, near)
    for count in range(1, candidate_count + 1):
        chosen = select_nearest(
            rows,
            rows @ near.T,
            half_norms_of(near),
            windows_of(rows, words),
            candidates,
            words,
            count,
        )
        assert chosen.tolist() == [selected(each, candidates, count) for each in plain]


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_selection_bears_the_full_rounding_error(seed: int) -> None:
    draw = np.random.default_rng(seed)
    words = crowded(draw, 30, 16)
    rows = np.concatenate([words[:3], crowded(draw, 3, 16)])
    windows, half_norms = windows_of(rows, words), half_norms_of(words)
    exact = words.astype(np.float64)
    scores = (exact**2).sum(axis=1) / 2 - rows.astype(np.float64) @ exact.T
    # Pushed up or down by nine tenths of what products may be off; the rest is for float32.
    push = draw.choice([-0.9, 0.9], size=scores.shape) * windows[:, None] / 2
    products = (half_norms - (scores + push)).astype(np.float32)
    off = np.abs((half_norms - products) - scores) / (windows[:, None] / 2)
    assert 0.8 < off.min() <= off.max() < 1
    plain = plain_distances(rows, words)
    candidates = np.arange(len(words), dtype=np.uint32)
    for count in range(1, len(words) + 1):
        chosen = select_nearest(rows, products, half_norms, windows, candidates, words, count)
        assert chosen.tolist() == [selected(each, candidates, count) for each in plain]


def test_groups_worked_by_hand() -> None:
    order, starts = grouped(np.array([2, 0, 2, 3, 0], np.uint32), 5)
    assert order.tolist() == [1, 4, 0, 2, 3]
    assert starts.tolist() == [0, 2, 2, 4, 5, 5]


@given(st.lists(st.integers(0, 6), max_size=50))
@settings(deadline=None)
def test_grouping_is_a_stable_sort(groups: list[int]) -> None:
    values = np.array(groups, np.uint32)
    order, starts = grouped(values, 7)
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(np.diff(starts), np.bincount(values, minlength=7))
    assert (starts[0], starts[-1]) == (0, len(groups))
