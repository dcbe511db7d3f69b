from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.pipeline.index.files import read_sketch, write_axes, write_sketch
from lamella.pipeline.index.sketch import (
    Codes,
    Sketch,
    leading_axes,
    sketch_vectors,
    skew_of,
    unit_rows,
)
from lamella.pipeline.search.score import dense_norms

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, count: int, width: int, power: int = 0) -> np.ndarray:
    """Vectors of any scale with what is hard: zeros, twins, and one that is far from the others."""
    rng = np.random.default_rng(seed)
    vectors = np.maximum(rng.standard_normal((count, width)), -0.5) * 2.0**power
    if count > 4:
        vectors[1] = 0
        vectors[2] = vectors[3]
        vectors[4] = 0
        vectors[4, rng.integers(width)] = 1e-3
    return vectors.astype(np.float32)


def far_off(codes: Codes, rows: np.ndarray) -> np.ndarray:
    """Return how far rows are from their codes, in float64."""
    back = codes.lows.astype(np.float64) + codes.codes * codes.steps.astype(np.float64)
    return np.linalg.norm(rows - back, axis=1)


@given(seeds, st.integers(0, 40), st.integers(1, 20), st.sampled_from([-70, 0, 60]))
@settings(max_examples=60, deadline=None)
def test_what_was_lost_is_not_more_than_is_said(
    seed: int, count: int, width: int, power: int
) -> None:
    vectors = drawn(seed, count, width, power)
    norms = dense_norms(vectors)
    sketch = sketch_vectors(vectors, norms, leading=4)
    units = vectors.astype(np.float64) / np.where(norms > 0, norms, 1)[:, None]
    axes = sketch.axes.astype(np.float64)
    on_axes = units @ axes.T
    assert np.all(far_off(sketch.whole, units) <= sketch.whole.errors)
    assert np.all(far_off(sketch.leads, on_axes) <= sketch.leads.errors)
    assert np.all(np.linalg.norm(units - on_axes @ axes, axis=1) <= sketch.rests)
    # A byte is half a step off at most, and float32 some 1e-6.
    assert np.all(sketch.whole.errors <= np.linalg.norm(sketch.whole.steps) / 2 + 1e-5)
    assert np.all(sketch.rests <= 1.0 + 1e-3)


def test_codes_by_hand() -> None:
    # Units (1, 0), (0, 1), (.6, .8): from 0 to 1 in 255 steps, so .6 is 153 and .8 is 204.
    vectors = np.array([[2, 0], [0, 1], [3, 4]], np.float32)
    whole = sketch_vectors(vectors, dense_norms(vectors)).whole
    assert whole.codes.tolist() == [[255, 0], [0, 255], [153, 204]]
    assert whole.lows.tolist() == [0, 0]
    np.testing.assert_allclose(whole.steps, 1 / 255, rtol=1e-6)


def test_axes_keep_most_of_the_length() -> None:
    # In the plane of (3, 4, 0) and (0, 0, 1), most along the first: its unit is (.6, .8, 0).
    vectors = np.array([[3, 4, 0]] * 9 + [[0, 0, 2]] * 4, np.float32)
    axes = leading_axes(vectors, dense_norms(vectors), 2)
    np.testing.assert_allclose(np.abs(axes), np.array([[0.6, 0.8, 0], [0, 0, 1]]), atol=1e-7)
    sketch = sketch_vectors(vectors, dense_norms(vectors), leading=2)
    assert np.all(sketch.rests < 2e-3)
    assert np.all(sketch_vectors(vectors, dense_norms(vectors), leading=1).rests[9:] > 0.99)


def test_the_bytes_do_not_depend_on_threads() -> None:
    vectors = drawn(3, 5_000, 12)
    norms = dense_norms(vectors)
    one, two = (sketch_vectors(vectors, norms, leading=4, threads=threads) for threads in (1, 3))
    assert parts_of(one) == parts_of(two)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_files_give_back_the_same_sketch(tmp_path: Path, count: int) -> None:
    vectors = drawn(1, count, 6)
    sketch = sketch_vectors(vectors, dense_norms(vectors), leading=3)
    assert write_sketch(sketch, tmp_path / "sketch.arrow") == count
    assert write_axes(sketch, tmp_path / "axes.arrow") == 6
    read = read_sketch(tmp_path / "sketch.arrow", tmp_path / "axes.arrow")
    assert parts_of(read) == parts_of(sketch)


def test_a_sketch_refuses_what_does_not_fit() -> None:
    vectors = drawn(0, 5, 6)
    sketch = sketch_vectors(vectors, dense_norms(vectors), leading=3)
    with pytest.raises(ValueError, match="n rows throughout"):
        Sketch(sketch.axes, sketch.leads, sketch.rests[:4], sketch.whole)
    with pytest.raises(ValueError, match="axes"):
        Sketch(sketch.axes[:2], sketch.leads, sketch.rests, sketch.whole)
    with pytest.raises(ValueError, match="n errors, d lows"):
        Codes(sketch.whole.lows, sketch.whole.steps, sketch.whole.codes, sketch.rests[:2])
    wrong = np.full(5, np.nan, np.float32)
    with pytest.raises(ValueError, match="finite"):
        Codes(sketch.whole.lows, sketch.whole.steps, sketch.whole.codes, wrong)
    assert skew_of(sketch.axes) < 1e-6


def test_fewer_vectors_than_axes_have_a_sketch_too() -> None:
    # Four vectors span four axes.
    vectors = np.maximum(np.random.default_rng(0).standard_normal((4, 1280)), 0)
    vectors[:, :700] = 0
    sketch = sketch_vectors(vectors.astype(np.float32), dense_norms(vectors.astype(np.float32)))
    assert sketch.axes.shape == (4, 1280)
    assert skew_of(sketch.axes) < 1e-6
    assert np.all(sketch.rests < 2e-3)
    assert np.all(sketch.leads.errors < 0.01)


def test_zero_vectors_have_no_direction() -> None:
    vectors = np.zeros((3, 4), np.float32)
    sketch = sketch_vectors(vectors, dense_norms(vectors), leading=2)
    assert sketch.axes.tolist() == [[1, 0, 0, 0]]
    assert not unit_rows(vectors, dense_norms(vectors)).any()
    assert np.all(sketch.rests < 2e-3)


def parts_of(sketch: Sketch) -> list[bytes]:
    arrays: list[NDArray[Any]] = [sketch.axes, sketch.rests]
    for codes in (sketch.leads, sketch.whole):
        arrays += [codes.lows, codes.steps, codes.codes, codes.errors]
    return [array.tobytes() for array in arrays]
