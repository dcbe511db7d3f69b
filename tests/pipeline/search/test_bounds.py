import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.index.sketch import sketch_vectors
from lamella.pipeline.products.codes import Weights
from lamella.pipeline.search import score
from lamella.pipeline.search.bounds import Cascade, Products, ask_sketch
from lamella.pipeline.search.pair_products import PairWeights, multiply
from lamella.schemas.job import ProductKind


def products(asked: Products[Weights] | Products[PairWeights], codes: np.ndarray) -> np.ndarray:
    """Return the products as a search works them out, (Q, n) in float32."""
    out = np.empty((len(asked.bases), len(codes)), np.float32)
    if isinstance(asked.ready, PairWeights):
        rows = np.tile(np.arange(len(codes), dtype=np.int32), len(out))
        offsets = np.arange(len(out) + 1, dtype=np.int64) * len(codes)
        whole, scales = asked.ready.whole, asked.ready.scales
        multiply(offsets, rows, codes, whole, scales, asked.bases, out.reshape(-1))
        return out
    asked.ready.multiply(codes, out)
    return out + asked.bases[:, None]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.sampled_from([-70, -40, 0, 40, 60]),
    st.sampled_from([1, 8, 256]),
    st.sampled_from(["float32", "bfloat16", "int8"]),
)
@settings(max_examples=100, deadline=None)
def test_the_error_is_kept_whatever_the_scale(
    seed: int, width: int, power: int, leading: int, kind: ProductKind
) -> None:
    rng = np.random.default_rng(seed)
    queries = (rng.standard_normal((4, width)) * 2.0**-power).astype(np.float32)
    vectors = (rng.standard_normal((20, width)) * 2.0**power).astype(np.float32)
    vectors[3] = 0
    vectors[5] = vectors[4]
    queries[2] = 0
    query_norms, norms = score.dense_norms(queries), score.dense_norms(vectors)
    sketch = sketch_vectors(vectors, norms, leading=leading)
    asked = ask_sketch(sketch, queries, query_norms, Cascade(kind))
    at_once = ask_sketch(sketch, queries, query_norms, Cascade(kind, whole=True))
    assert not at_once.rests.any()
    exact = score.dense_similarities(queries, vectors, query_norms, norms)

    for one in (asked.whole, at_once.first):
        whole = products(one, sketch.whole.codes).astype(np.float64)
        error = np.outer(one.lengths, sketch.whole.errors) + one.slacks[:, None]
        assert np.all(np.abs(np.clip(whole, 0, 1) - exact) <= error + 1e-12)

    near = products(asked.first, sketch.leads.codes).astype(np.float64)
    error = np.outer(asked.first.lengths, sketch.leads.errors) + asked.first.slacks[:, None]
    error += np.outer(asked.rests, sketch.rests)
    assert np.all(np.abs(np.clip(near, 0, 1) - exact) <= error + 1e-12)


def test_float32_loses_little_beside_the_codes() -> None:
    # (1,280 + 8) terms of 2 ** -24 are 7.7e-5; lengths are 1 and lows 0 here, and a code ends at 1.
    vectors = np.abs(np.random.default_rng(0).standard_normal((50, 1280))).astype(np.float32)
    vectors[0] = np.eye(1280, dtype=np.float32)[0]
    vectors[1] = np.eye(1280, dtype=np.float32)[1]
    norms = score.dense_norms(vectors)
    cascade = Cascade("float32", whole=True)
    asked = ask_sketch(sketch_vectors(vectors, norms), vectors[:2], norms[:2], cascade)
    assert np.all(asked.first.slacks < 1e-4)
    assert np.all(asked.first.slacks > 7e-5)


def test_what_other_numbers_lose_is_small_beside_similarities() -> None:
    vectors = np.abs(np.random.default_rng(0).standard_normal((50, 1280))).astype(np.float32)
    norms = score.dense_norms(vectors)
    sketch = sketch_vectors(vectors, norms)
    kinds: tuple[ProductKind, ...] = ("float32", "bfloat16", "int8")
    asked = [ask_sketch(sketch, vectors, norms, Cascade(kind, whole=True)) for kind in kinds]
    exactly, sixteen, eight = (each.first.slacks.max() for each in asked)
    # The result of a product of at most 1 is rounded to bfloat16, by 2 ** -8 of it, and the query.
    assert exactly < 1e-4 < 2.0**-8 < sixteen < 2.0**-7
    # The largest weight is some 5 to 8 times the usual one, which loses 5 to 8 / 63 / sqrt(12).
    assert 0.01 < eight < 0.06
    for each in asked:  # pairs that are left are looked at in 16 bits, whatever was before
        assert np.array_equal(each.whole.slacks, asked[0].whole.slacks)
    # The largest weight is 6,604, and rounding loses 5 to 8 / 6,604 / sqrt(12) as above.
    assert 2e-5 < asked[0].whole.slacks.max() < 5e-4
