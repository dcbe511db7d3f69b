import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.search.bound_kernels import keep_best, lines_above, means, promising, reaching
from lamella.pipeline.search.fuse import map_similarity


@given(
    st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.lists(st.floats(-2.0, 3.0), min_size=1, max_size=4)
)
@settings(deadline=None)
def test_lines_lie_above_f(t: float, p: float, touching: list[float]) -> None:
    similarities = np.append(np.linspace(0.0, 1.0, 401), [t, min(t + 1e-9, 1.0)])
    mapped = map_similarity(similarities, t, p)
    singles = similarities.astype(np.float32)
    slopes, offsets = lines_above(np.array([t]), np.array([p]), np.array(touching), 1.0)
    for slope, offset in zip(slopes[0], offsets[0], strict=True):
        line = np.maximum(singles, slope * singles + offset)
        assert np.all(line >= mapped - 1e-6)


def test_a_line_touches_where_it_is_asked_to() -> None:
    # f(.5) = .2 + .8 (.3 / .8) ** .45 = .7145; the slope there is .45 (.3 / .8) ** -.55
    # of one layer of weight 1, or of weights that add up to 2.
    t, p = np.array([0.2]), np.array([0.45])
    ((slope,),), ((offset,),) = lines_above(t, p, np.array([0.7145]), 1.0)
    assert lines_above(t, p, np.array([2 * 0.7145]), 2.0)[0] == slope
    assert slope == pytest.approx(0.45 * 0.375**-0.55, rel=1e-3)
    assert slope * 0.5 + offset == pytest.approx(0.7145, abs=1e-4)


def test_a_plain_layer_has_the_plain_line() -> None:
    slopes, offsets = lines_above(np.array([1, 0.2]), np.array([0.45, 1]), np.array([0.3, 0.8]), 1)
    assert (slopes == 1.0).all()
    assert (offsets == 0.0).all()


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(1, 10))
@settings(deadline=None)
def test_the_heap_keeps_the_best(values: list[float], k: int) -> None:
    heap, filled = np.empty(k), 0
    for value in values:
        filled = keep_best(heap, filled, value)
    best = sorted(values, reverse=True)[:k]
    assert sorted(heap[:filled].tolist(), reverse=True) == best
    assert not best or heap[0] == best[-1]


def test_the_highest_bounds_are_picked_and_the_rest_waits() -> None:
    # One query, one dense and one local layer, bounds of rows 2, 5, 6, 9 that reached the bar.
    rows = np.array([[2, 5, 6, 9, 0, 0]], np.int32)
    uppers = np.array([[0.5, 0.9, 0.4, 1.2, 0, 0]], np.float32)
    near = np.arange(10, dtype=np.float32).reshape(1, 1, 10) / np.float32(10)
    highest, filled = np.empty((1, 2)), np.zeros(1, np.int64)
    now, later = promising(rows, uppers, np.array([4]), near, near / np.float32(2), highest, filled)
    assert now[1].tolist() == [2, 5, 9]  # .5 and .9 are the two best until 1.2 comes
    assert later[1].tolist() == [6]
    assert [now[0].tolist(), later[0].tolist()] == [[0, 3], [0, 1]]
    assert np.allclose(now[2], [[0.2, 0.5, 0.9], [0.1, 0.25, 0.45]])
    assert sorted(highest[0].tolist()) == pytest.approx([0.9, 1.2])


def test_what_waits_is_dropped_when_the_bar_has_risen() -> None:
    # Two queries; the lines are S itself, so a bound is the sum of the layers' similarities.
    offsets, rows = np.array([0, 3, 4]), np.array([1, 4, 8, 4], np.int32)
    most = np.array([[0.2, 0.5, 0.4, 0.1], [0.1, 0.3, 0.2, 0.1]], np.float32)
    ones, zeros = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    left = reaching(
        (offsets, rows, most), ones, zeros, np.ones(len(most)), np.array([0.6, -np.inf])
    )
    assert left[0].tolist() == [0, 2, 3]
    assert left[1].tolist() == [4, 8, 4]  # .8 and .6 of the first query
    assert left[2].tolist() == most[:, 1:].tolist()
    assert means(left, 1, np.ones(len(most))).tolist() == pytest.approx([0.25, 0.1])
