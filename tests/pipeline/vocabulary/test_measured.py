"""Summed distances to words: whole numbers that no cut of the rows changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.measured import LARGEST_ERROR, measured_counts, whole_error
from tests.pipeline.vocabulary.vectors import clustered

WORDS = np.eye(2, dtype=np.float32)


def test_the_distances_of_all_batches_are_added_up() -> None:
    assigner = ExactAssigner(WORDS)
    rows = np.array([[1, 0], [0, 0.5], [3, 0]], np.float32)  # 0, .25 and 4 from their words
    parts = [assigner.nearest(part, 2).squared_distances for part in (rows[:2], rows[2:])]
    assert measured_counts("low", parts) == {"error.low": 4_250_000, "measured.low": 3}


def test_nothing_assigned_is_nothing_measured() -> None:
    assert measured_counts("low", []) == {"error.low": 0, "measured.low": 0}


@given(st.lists(st.integers(0, 300), max_size=5))
def test_the_sum_does_not_depend_on_the_batches(cuts: list[int]) -> None:
    rows = clustered(300, 8, 5)
    assigner = ExactAssigner(rows[:7])
    whole = [assigner.assign(rows).squared_distances]
    parts = [assigner.nearest(part, 3).squared_distances for part in np.split(rows, sorted(cuts))]
    assert measured_counts("low", whole) == measured_counts("low", parts)


def test_what_is_absurdly_far_does_not_overflow() -> None:
    assert whole_error(np.array([1e30, LARGEST_ERROR])) == 2 * 10**11
