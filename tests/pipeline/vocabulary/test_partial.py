"""Partial sums and spares: worked by hand, and merged in every grouping."""

import math
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.vocabulary.assign import Assignment, ExactAssigner
from pipeline.vocabulary.partial import Partial, merge_partials, partial_of
from pipeline.vocabulary.refill import SampleKey, draw_spares, join_spares
from tests.pipeline.vocabulary.vectors import clustered

ROWS = clustered(1_000, 16, 40)
WORDS = ROWS[:50]


def partials(task_rows: int) -> list[Partial]:
    """Partials of the rows, cut into tasks of so many."""
    exact = ExactAssigner(WORDS)
    tasks = [ROWS[start : start + task_rows] for start in range(0, len(ROWS), task_rows)]
    return [
        partial_of(rows, exact.assign(rows), SampleKey(1, 3, task), 20)
        for task, rows in enumerate(tasks)
    ]


def assert_same_bits(left: Partial, right: Partial) -> None:
    """Every number of the one is that of the other."""
    for field in fields(Partial):
        if field.name != "spares":
            np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name))
    np.testing.assert_array_equal(left.spares.keys, right.spares.keys)
    np.testing.assert_array_equal(left.spares.descriptors, right.spares.descriptors)


def test_five_rows_worked_by_hand() -> None:
    rows = np.array([[0], [1], [10], [11], [12]], np.float32)
    assignment = ExactAssigner(np.array([[0], [99], [10]], np.float32)).assign(rows)
    partial = partial_of(rows, assignment, SampleKey(0))
    assert partial.words.tolist() == [0, 2]
    assert partial.sums.tolist() == [[1.0], [33.0]]  # 0 + 1;  10 + 11 + 12
    assert partial.counts.tolist() == [2, 3]
    assert partial.squared_error == 6.0  # 0 + 1 + 0 + 1 + 4
    assert (partial.rows, len(partial.spares)) == (5, 0)


def test_sums_are_those_of_a_plain_loop_bit_for_bit() -> None:
    assignment = ExactAssigner(WORDS).assign(ROWS)
    partial = partial_of(ROWS, assignment, SampleKey(0))
    plain = np.zeros((len(WORDS), ROWS.shape[1]))
    for word, row in zip(assignment.words, ROWS, strict=True):
        plain[word] += row
    np.testing.assert_array_equal(partial.sums, plain[partial.words])


@pytest.mark.parametrize("first", [1, 3, 9])
def test_merging_some_beforehand_changes_no_bit(first: int) -> None:
    parts = partials(100)
    begun = merge_partials(parts[:first], 20)
    assert_same_bits(merge_partials([begun, *parts[first:]], 20), merge_partials(parts, 20))


def test_another_cut_adds_the_same_rows() -> None:
    whole, cut = merge_partials(partials(1_000), 20), merge_partials(partials(70), 20)
    np.testing.assert_array_equal(whole.words, cut.words)
    np.testing.assert_array_equal(whole.counts, cut.counts)
    np.testing.assert_allclose(cut.sums, whole.sums, rtol=1e-13)
    assert cut.squared_error == pytest.approx(whole.squared_error, rel=1e-13)


def test_a_task_without_rows_adds_nothing() -> None:
    empty = partial_of(ROWS[:0], ExactAssigner(WORDS).assign(ROWS[:0]), SampleKey(0), 20)
    assert (len(empty.words), empty.rows, empty.squared_error) == (0, 0, 0.0)
    parts = partials(500)
    assert_same_bits(merge_partials([parts[0], empty, parts[1]], 20), merge_partials(parts, 20))


def test_spares_are_distinct_far_rows_by_falling_key() -> None:
    rows = np.repeat(np.arange(8, dtype=np.float32)[:, None], 5, axis=0)
    rows[7] = -0.0
    weights = np.where(rows[:, 0] > 2, 1.0, 0.0)
    spares = draw_spares(rows, weights, SampleKey(3), 100)
    assert sorted(spares.descriptors[:, 0].tolist()) == [3, 4, 5, 6, 7]
    assert np.all(np.diff(spares.keys) <= 0)


def test_keys_are_log_u_over_the_weight() -> None:
    rows = np.arange(50, dtype=np.float32)[:, None]
    weights = np.linspace(0.5, 2.0, 50)
    spares = draw_spares(rows, weights, SampleKey(9), 50)
    uniforms = SampleKey(9).uniforms(50)
    expected = {row: math.log(uniforms[row]) / weights[row] for row in range(50)}
    for key, row in zip(spares.keys, spares.descriptors[:, 0].astype(int), strict=True):
        assert key == pytest.approx(expected[row], rel=1e-14, abs=1e-15)


def test_rows_are_drawn_as_often_as_they_are_far() -> None:
    rows = np.arange(3, dtype=np.float32)[:, None]
    weights: NDArray[np.float64] = np.array([1.0, 2.0, 5.0])
    drawn = [
        int(draw_spares(rows, weights, SampleKey(0, 0, task), 1).descriptors[0, 0])
        for task in range(4_000)
    ]
    # shares 1/8, 2/8, 5/8; the standard error of the last is sqrt(.625 * .375 / 4000) = .008
    np.testing.assert_allclose(np.bincount(drawn) / 4_000, [0.125, 0.25, 0.625], atol=0.035)


def test_other_keys_give_other_numbers() -> None:
    streams = [SampleKey(1), SampleKey(2), SampleKey(1, 1), SampleKey(1, 0, 1)]
    assert len({stream.uniforms(1)[0] for stream in streams}) == 4
    assert SampleKey(1).uniforms(5)[:3].tolist() == SampleKey(1).uniforms(3).tolist()


def test_joined_spares_are_the_best_of_all() -> None:
    parts = [draw_spares(ROWS, np.ones(len(ROWS)), SampleKey(0, 0, task), 30) for task in (0, 1)]
    joined = join_spares(parts, 30)
    assert len(joined) == 30
    assert joined.keys[0] == max(part.keys[0] for part in parts)
    assert len({row.tobytes() for row in joined.descriptors}) == 30


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one word a descriptor"):
        partial_of(ROWS, ExactAssigner(WORDS).assign(ROWS[:5]), SampleKey(0))
    with pytest.raises(ValueError, match="at least one partial"):
        merge_partials([])
    narrow = partial_of(ROWS[:, :3], Assignment(np.zeros(1_000, np.uint32), np.zeros(1_000)),
                        SampleKey(0))  # fmt: skip
    with pytest.raises(ValueError, match=r"equal dimensions are merged; got \[3, 16\]"):
        merge_partials([*partials(1_000), narrow])
    with pytest.raises(ValueError, match="seed of 64 bits"):
        SampleKey(-1)
