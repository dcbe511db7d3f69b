"""Far rows for empty words: distinct, drawn by distance, and joined as if drawn at once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.assign import Assignment
from lamella.pipeline.vocabulary.empty_clusters import (
    Spares,
    distinct_rows,
    draw_spares,
    join_spares,
    sampling_keys,
)


def column(*values: float) -> NDArray[np.float32]:
    """Return descriptors of one dimension."""
    return np.array(values, np.float32)[:, None]


def at(distances: NDArray[np.float64]) -> Assignment:
    """Return rows at these squared distances, row n at word n."""
    return Assignment(np.arange(len(distances), dtype=np.uint32), distances)


def test_three_rows_worked_by_hand() -> None:
    # u is 1 less the number of the row: keys log(.5) / 1, log(.5) / 4, log(.25) / 4
    spares = draw_spares(column(3, 7, 9), at(np.array([1.0, 4, 4])), np.array([0.5, 0.5, 0.75]), 2)
    assert spares.descriptors.tolist() == [[7], [9]]
    assert spares.words.tolist() == [1, 2]
    assert spares.keys.tolist() == pytest.approx([-math.log(2) / 4, -math.log(4) / 4], rel=1e-15)


def test_spares_are_distinct_far_rows_by_falling_key() -> None:
    rows = np.repeat(np.arange(8, dtype=np.float32)[:, None], 5, axis=0)
    rows[35:] = column(-0.0, 0.0, 7, 7, -0.0)
    distances = np.where((rows[:, 0] > 2) | (np.arange(40) >= 35), 1.0, 0.0)
    spares = draw_spares(rows, at(distances), np.random.default_rng(3).random(40), 100)
    assert sorted(spares.descriptors[:, 0].tolist()) == [0, 3, 4, 5, 6, 7]  # 0 is -0
    assert np.all(np.diff(spares.keys) <= 0)
    np.testing.assert_array_equal(rows[spares.words], spares.descriptors)


def test_rows_on_words_are_no_spares() -> None:
    assert len(draw_spares(column(1, 2), at(np.zeros(2)), np.array([0.1, 0.2]), 5)) == 0
    assert len(draw_spares(column(1, 2), at(np.ones(2)), np.array([0.1, 0.2]), 0)) == 0


@settings(deadline=None)
@given(st.floats(2.0**-53, 1.0), st.floats(1e-9, 1e9))
def test_keys_are_log_u_over_the_weight(uniform: float, weight: float) -> None:
    key = sampling_keys(np.array([uniform]), np.array([weight]))[0]
    assert key == pytest.approx(math.log(uniform) / weight, rel=1e-14, abs=0)


def test_the_weight_nothing_is_never_drawn() -> None:
    assert sampling_keys(np.array([1.0, 0.5]), np.zeros(2)).tolist() == [-math.inf] * 2
    assert sampling_keys(np.array([1.0]), np.ones(1)).tolist() == [0.0]


def test_rows_are_drawn_as_often_as_they_are_far() -> None:
    rows, distances = column(0, 1, 2), np.array([1.0, 2.0, 5.0])
    numbers = np.random.default_rng(0).random((4_000, 3))
    drawn = [int(draw_spares(rows, at(distances), each, 1).words[0]) for each in numbers]
    # shares 1/8, 2/8, 5/8; the standard error of the last is sqrt(.625 * .375 / 4000) = .008
    np.testing.assert_allclose(np.bincount(drawn) / 4_000, [0.125, 0.25, 0.625], atol=0.035)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 30))
def test_joined_spares_are_those_drawn_at_once(seed: int, limit: int, task_rows: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.integers(20, size=(60, 1)).astype(np.float32)  # many are equal
    distances, numbers = draw.choice([0.0, 1.0, 3.0], size=60), draw.random(60)
    words = np.arange(60, dtype=np.uint32)
    parts = [
        draw_spares(rows[cut], Assignment(words[cut], distances[cut]), numbers[cut], limit)
        for cut in (slice(start, start + task_rows) for start in range(0, 60, task_rows))
    ]
    whole = draw_spares(rows, Assignment(words, distances), numbers, limit)
    for joined in (join_spares(parts, limit), join_spares(parts[::-1], limit)):
        for field in ("keys", "words", "descriptors"):
            np.testing.assert_array_equal(getattr(joined, field), getattr(whole, field))


def test_the_first_of_equal_rows_is_kept() -> None:
    rows = column(5, 2, 5, -0.0, 0.0, 2, 8)
    assert distinct_rows(rows, np.arange(7), 9).tolist() == [0, 1, 3, 6]
    assert distinct_rows(rows, np.arange(7)[::-1].copy(), 3).tolist() == [6, 5, 4]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one key and one word a spare; got 1 keys"):
        Spares(np.zeros(1), np.zeros(2, np.uint32), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="at least one set"):
        join_spares([], 5)
