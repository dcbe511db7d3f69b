import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.search.pair_products import TOGETHER, multiply, prepare_pairs


def multiplied(weights: np.ndarray, codes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the products of chosen pairs (Q, b) in float32, nan elsewhere."""
    ready = prepare_pairs(weights)
    query_of, rows = np.nonzero(chosen)
    offsets = np.searchsorted(query_of, np.arange(len(weights) + 1)).astype(np.int64)
    found = np.empty(len(rows), np.float32)
    bases = np.zeros(len(weights), np.float32)
    multiply(offsets, rows.astype(np.int32), codes, ready.whole, ready.scales, bases, found)
    out = np.full(chosen.shape, np.nan, np.float32)
    out[chosen] = found
    return out


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 2 * TOGETHER + 5),
    st.integers(1, 600),
    st.sampled_from([-30, 0, 6]),
)
@settings(max_examples=60, deadline=None)
def test_products_are_within_their_bound(
    seed: int, queries: int, width: int, rows: int, power: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((queries, width)) * 10.0 ** (power * rng.random((queries, width)))
    codes = rng.choice(np.array([0, 1, 127, 128, 255], np.uint8), (rows, width))
    chosen = rng.random((queries, rows)) < 0.3
    held = prepare_pairs(weights).held
    wide = codes.astype(np.float64)
    off = np.abs(multiplied(weights, codes, chosen) - held @ wide.T)[chosen]
    allowed = prepare_pairs(weights).relative * (np.abs(held) @ wide.T)[chosen] + 1e-13
    assert np.all(off <= allowed)


@pytest.mark.parametrize("width", [1, TOGETHER, 1_280, 100_000])
def test_the_largest_sums_fit_into_32_bits(width: int) -> None:
    codes = np.full((1, width), 255, np.uint8)
    for sign in (-1.0, 1.0):
        found = multiplied(np.full((1, width), sign), codes, np.ones((1, 1), bool))
        assert found[0, 0] == pytest.approx(sign * 255 * width, rel=1e-6)


def test_base_is_added_and_weights_of_zero_give_it_alone() -> None:
    ready = prepare_pairs(np.zeros((1, 70)))
    out = np.empty(1, np.float32)
    multiply(
        np.array([0, 1]), np.array([2], np.int32), np.full((3, 70), 255, np.uint8), ready.whole,
        ready.scales, np.array([0.25], np.float32), out,
    )  # fmt: skip
    assert out.tolist() == [0.25]


def test_products_worked_by_hand() -> None:
    # 1 * 0 + 2 * 3 - 4 * 255 = -1014; a step is 4 / 32,767.
    found = multiplied(
        np.array([[1.0, 2.0, -4.0]]),
        np.array([[0, 3, 255], [9, 9, 9]], np.uint8),
        np.array([[True, False]]),
    )
    assert found[0, 0] == pytest.approx(-1014, abs=1e-3)
    assert np.isnan(found[0, 1])
