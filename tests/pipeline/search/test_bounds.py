import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.index.sketch import sketch_vectors
from lamella.pipeline.search import score
from lamella.pipeline.search.bounds import Products, ask_sketch


def products(asked: Products, codes: np.ndarray) -> np.ndarray:
    """Return the products as a search works them out, (Q, n) in float32."""
    return asked.weights @ codes.astype(np.float32).T + asked.bases[:, None]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.sampled_from([-70, -40, 0, 40, 60]),
    st.sampled_from([1, 8, 256]),
)
@settings(max_examples=60, deadline=None)
def test_the_error_is_kept_whatever_the_scale(
    seed: int, width: int, power: int, leading: int
) -> None:
    rng = np.random.default_rng(seed)
    queries = (rng.standard_normal((4, width)) * 2.0**-power).astype(np.float32)
    vectors = (rng.standard_normal((20, width)) * 2.0**power).astype(np.float32)
    vectors[3] = 0
    vectors[5] = vectors[4]
    queries[2] = 0
    query_norms, norms = score.dense_norms(queries), score.dense_norms(vectors)
    sketch = sketch_vectors(vectors, norms, leading=leading)
    asked = ask_sketch(sketch, queries, query_norms)
    exact = score.dense_similarities(queries, vectors, query_norms, norms)

    whole = products(asked.whole, sketch.whole.codes).astype(np.float64)
    error = np.outer(asked.whole.lengths, sketch.whole.errors) + asked.whole.slacks[:, None]
    assert np.all(np.abs(np.clip(whole, 0, 1) - exact) <= error + 1e-12)

    near = products(asked.leads, sketch.leads.codes).astype(np.float64)
    error = np.outer(asked.leads.lengths, sketch.leads.errors) + asked.leads.slacks[:, None]
    error += np.outer(asked.rests, sketch.rests)
    assert np.all(np.abs(np.clip(near, 0, 1) - exact) <= error + 1e-12)


def test_float32_loses_little_beside_the_codes() -> None:
    # (1,280 + 8) terms of 2 ** -24 are 7.7e-5; lengths are 1 and lows 0 here, and a code ends at 1.
    vectors = np.abs(np.random.default_rng(0).standard_normal((50, 1280))).astype(np.float32)
    vectors[0] = np.eye(1280, dtype=np.float32)[0]
    vectors[1] = np.eye(1280, dtype=np.float32)[1]
    norms = score.dense_norms(vectors)
    asked = ask_sketch(sketch_vectors(vectors, norms), vectors[:2], norms[:2])
    assert np.all(asked.whole.slacks < 1e-4)
    assert np.all(asked.whole.slacks > 7e-5)
