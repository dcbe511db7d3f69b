import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.products import trial
from lamella.pipeline.products.codes import LARGEST, prepare
from lamella.pipeline.products.rows import BFloat16Rows
from lamella.pipeline.products.trial import what_is_wrong
from lamella.schemas.job import ProductKind
from tests.pipeline.products.answers import KINDS

seeds = st.integers(0, 2**32 - 1)


def multiplied(weights: np.ndarray, codes: np.ndarray, kind: ProductKind) -> np.ndarray:
    out = np.full((len(weights), len(codes) + 3), np.nan, np.float32)
    prepare(weights, kind).multiply(codes, out[:, : len(codes)])
    assert np.isnan(out[:, len(codes) :]).all(), "it writes into its part alone"
    return out[:, : len(codes)]


@given(
    seeds,
    st.integers(1, 20),
    st.integers(1, 200),
    st.integers(0, 70),
    st.sampled_from([-30, -12, 0, 6]),
    st.sampled_from(KINDS),
)
@settings(max_examples=150, deadline=None)
def test_products_are_within_their_bound(
    seed: int, queries: int, width: int, rows: int, power: int, kind: ProductKind
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((queries, width)) * 10.0 ** (power * rng.random((queries, width)))
    weights[:, rng.random(width) < 0.2] = 0.0
    codes = rng.choice(np.array([0, 1, 127, 128, 255], np.uint8), (rows, width))
    codes[::2] = rng.integers(0, 256, codes[::2].shape)
    ready = prepare(weights, kind)
    found = multiplied(weights, codes, kind).astype(np.float64)
    wide = codes.astype(np.float64)
    allowed = ready.relative * (np.abs(ready.held) @ wide.T) + 1e-13
    assert np.all(np.abs(found - ready.held @ wide.T) <= allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_products_worked_by_hand(kind: ProductKind) -> None:
    # 1 * 0 + 2 * 3 - 4 * 255 = -1014, which is 507 * 2: bfloat16 has steps of 4 there.
    codes = np.array([[0, 3, 255], [0, 0, 0]], np.uint8)
    found = multiplied(np.array([[1.0, 2.0, -4.0]]), codes, kind)
    # In 8 bits a step is 4 / 63: 1 is 16 of them, 2 is 31 or 32.
    assert found[0, 0] == pytest.approx(-1014, abs={"float32": 0, "bfloat16": 2, "int8": 0.2}[kind])
    assert found[0, 1] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zero_give_zeros(kind: ProductKind) -> None:
    codes = np.full((5, 9), 255, np.uint8)
    assert not multiplied(np.zeros((2, 9)), codes, kind).any()


def test_the_largest_sums_do_not_saturate() -> None:
    """All codes 255, all weights the largest: 2 * 255 * 63 in each step, below 2 ** 15."""
    assert 2 * 255 * LARGEST < 2**15 <= 2 * 255 * (LARGEST + 2)
    for width in (1, 2, 63, 64, 65, 1_280):
        weights = np.stack([np.full(width, 63.0), np.full(width, -63.0)])
        found = multiplied(weights, np.full((33, width), 255, np.uint8), "int8")
        assert np.array_equal(found[0], np.full(33, 63.0 * 255 * width))
        assert np.array_equal(found[1], -found[0])


def test_codes_that_may_only_be_read_are_multiplied_without_a_warning() -> None:
    codes = np.full((4, 8), 2, np.uint8)
    codes.flags.writeable = False
    for kind in KINDS:
        assert np.allclose(multiplied(np.ones((1, 8)), codes, kind), 16.0, rtol=2.0**-8)


@given(seeds, st.integers(1, 15), st.integers(1, 100), st.sampled_from([-60, -20, 0, 20, 40]))
@settings(max_examples=80, deadline=None)
def test_products_of_rows_are_within_their_bound(
    seed: int, rows: int, width: int, power: int
) -> None:
    rng = np.random.default_rng(seed)
    left = (rng.standard_normal((rows, width)) * 2.0**power).astype(np.float32)
    right = (rng.standard_normal((31, width)) * 2.0 ** rng.integers(-20, 8)).astype(np.float32)
    left[0], right[3] = 0.0, 0.0
    found = np.empty((rows, 31), np.float32)
    held = BFloat16Rows(right)
    errors = held.multiply(left, found)
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    assert np.all(np.abs(found - exact) <= errors[:, None])
    some = np.array([30, 2, 7], np.uint32)
    part = np.empty((rows, 3), np.float32)
    errors = held.some(some).multiply(left, part)
    assert np.all(np.abs(part - exact[:, some]) <= errors[:, None])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_here(kind: ProductKind) -> None:
    assert what_is_wrong(kind) == ""


def test_what_is_wrong_and_how_fast_each_is_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(kind: str, *_: int) -> float:
        if kind == "int8":
            raise RuntimeError("could not create a primitive")
        return 1.0

    monkeypatch.setattr(trial, "gflops", raising)
    assert trial.facts() == {
        "float32": {"wrong": "", "gflops": 1.0},
        "bfloat16": {"wrong": "", "gflops": 1.0},
        "int8": {"wrong": "could not create a primitive", "gflops": 0.0},
    }
