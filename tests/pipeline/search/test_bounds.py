import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.search import score
from pipeline.search.bounds import dense_bounds, unit_queries


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([-70, -40, 0, 40, 70]))
@settings(max_examples=60, deadline=None)
def test_the_error_is_kept_whatever_the_scale(seed: int, width: int, power: int) -> None:
    rng = np.random.default_rng(seed)
    queries = (rng.standard_normal((4, width)) * 2.0**-power).astype(np.float32)
    vectors = (rng.standard_normal((20, width)) * 2.0**power).astype(np.float32)
    vectors[3] = 0
    vectors[5] = vectors[4]
    queries[2] = 0
    asked, norms = score.dense_norms(queries), score.dense_norms(vectors)
    near, errors = dense_bounds(unit_queries(queries, asked), vectors, norms)
    exact = score.dense_similarities(queries, vectors, asked, norms)
    assert np.all(np.abs(near.astype(np.float64) - exact) <= errors)


def test_the_error_is_that_of_the_formula() -> None:
    # gamma_{n + 8} = (n + 8) u / (1 - (n + 8) u) with n = 1,280 and u = 2 ** -24: 7.6776e-5
    vectors = np.ones((2, 1280), dtype=np.float32)
    vectors[1] = 0
    norms = score.dense_norms(vectors)
    near, errors = dense_bounds(unit_queries(vectors, norms), vectors, norms)
    assert errors.tolist() == [pytest.approx(7.6776e-5, rel=1e-4), 0.0]
    assert near[0, 0] == pytest.approx(1.0, abs=1e-6)
    assert near[1].tolist() == [0.0, 0.0]
