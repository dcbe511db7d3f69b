import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.index.bags import BagsOfWords, bags_from_words, select
from lamella.pipeline.index.postings import invert
from lamella.pipeline.search import bound_kernels, score
from lamella.pipeline.search.query_layers import LocalMatch
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import local_layer
from tests import reference

WORDS = 30
seeds = st.integers(0, 2**32 - 1)


def random_bags(rng: np.random.Generator, images: int) -> BagsOfWords:
    sizes = rng.integers(0, 25, size=images)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return bags_from_words(offsets, rng.integers(WORDS, size=offsets[-1], dtype=np.uint32))


def as_dict(bags: BagsOfWords, row: int) -> dict[int, int]:
    entries = slice(bags.offsets[row], bags.offsets[row + 1])
    return dict(zip(bags.words[entries].tolist(), bags.counts[entries].tolist(), strict=True))


def all_bags(queries: BagsOfWords, bags: BagsOfWords, weights: np.ndarray) -> np.ndarray:
    return score.bag_similarities(
        queries,
        invert(bags, WORDS),
        weights,
        score.bag_norms(queries, weights),
        score.bag_norms(bags, weights),
    )


def everyone(queries: int, images: int) -> Candidates:
    offsets = np.arange(queries + 1, dtype=np.int64) * images
    return Candidates(offsets, np.tile(np.arange(images, dtype=np.int64), queries))


def test_bags_are_worked_by_hand() -> None:
    # {0: 1, 1: 2} and {1: 1, 2: 3}, weights 1, 2, 1:
    # product (2 * 2) * (1 * 2) = 8, norms sqrt(1 + 16) and sqrt(4 + 9)
    offsets, ones = np.array([0, 2]), np.array([1.0, 2.0] + [1.0] * (WORDS - 2))
    left = BagsOfWords(offsets, np.array([0, 1], "u4"), np.array([1, 2], "u4"))
    right = BagsOfWords(offsets, np.array([1, 2], "u4"), np.array([1, 3], "u4"))
    assert all_bags(left, right, ones)[0, 0] == pytest.approx(8 / np.sqrt(17 * 13), rel=1e-15)


def test_vectors_are_worked_by_hand_and_clamped() -> None:
    # (3, 4) with (4, 3): 24 / 25; with (-3, -4): -1, clamped to 0; with zeros: 0
    queries = np.array([[3, 4]], dtype=np.float32)
    vectors = np.array([[4, 3], [-3, -4], [0, 0], [6, 8]], dtype=np.float32)
    norms = score.dense_norms(vectors)
    assert norms.tolist() == [5.0, 5.0, 0.0, 10.0]
    found = score.dense_similarities(queries, vectors, score.dense_norms(queries), norms)
    assert found.tolist() == [[0.96, 0.0, 0.0, 1.0]]


@given(seeds, st.integers(0, 6), st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_bags_by_postings_and_by_pairs_are_bitwise_equal(seed: int, q: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    queries, bags, weights = random_bags(rng, q), random_bags(rng, n), rng.random(WORDS)
    fast = all_bags(queries, bags, weights)
    norms = score.bag_norms(queries, weights), score.bag_norms(bags, weights)
    pairs = score.bag_similarities_of(queries, everyone(q, n), bags, weights, *norms)
    assert pairs.tobytes() == fast.tobytes()
    for i in range(q):
        for j in range(n):
            slow = reference.cosine_of_bags(as_dict(queries, i), as_dict(bags, j), weights)
            assert fast[i, j] == pytest.approx(slow, abs=1e-12)


@given(seeds, st.integers(1, 200))
@settings(max_examples=20, deadline=None)
def test_vectors_agree_with_plain_sums_and_do_not_depend_on_company(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((3, width), dtype=np.float32)
    vectors = rng.standard_normal((9, width), dtype=np.float32)
    vectors[4] = 0
    norms, asked = score.dense_norms(vectors), score.dense_norms(queries)
    found = score.dense_similarities(queries, vectors, asked, norms)
    for i in range(3):
        for j in range(9):
            slow = reference.cosine_of_vectors(queries[i], vectors[j])
            assert found[i, j] == pytest.approx(slow, abs=1e-12)
            alone = score.dense_similarities(
                queries[i : i + 1], vectors[j : j + 1], asked[i : i + 1], norms[j : j + 1]
            )
            assert alone[0, 0] == found[i, j]


@given(seeds, st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_bags_in_blocks_and_cut_in_two_are_bitwise_equal(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    queries, bags, weights = random_bags(rng, 3), random_bags(rng, 10), rng.random(WORDS)
    whole = all_bags(queries, bags, weights)
    left, right = (select(bags, np.arange(a, b)) for a, b in ((0, cut), (cut, 10)))
    apart = np.hstack([all_bags(queries, part, weights) for part in (left, right)])
    assert np.array_equal(apart, whole)
    postings = invert(bags, WORDS)
    terms = score.start_terms(queries, postings, weights)
    norms = score.bag_norms(queries, weights), score.bag_norms(bags, weights)
    for first, last in ((0, cut), (cut, 10)):
        block = np.empty((3, last - first))
        score.add_block(queries, postings, terms, *norms, first, block)
        assert np.array_equal(block, whole[:, first:last])
    alone = all_bags(select(queries, np.array([1])), bags, weights)
    assert np.array_equal(alone[0], whole[1])


@given(seeds, st.integers(1, 9), st.sampled_from([1, 255, 256]))
@settings(max_examples=20, deadline=None)
def test_a_scan_sees_each_similarity_but_for_rounding(seed: int, cut: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    queries, bags, weights = random_bags(rng, 3), random_bags(rng, 10), rng.random(WORDS)
    counts = bags.counts.copy()
    counts[:1] = most
    layer = local_layer(BagsOfWords(bags.offsets, bags.words, counts), weights)
    assert (layer.folded is None) == (most > 255 and len(counts) > 0)
    match = LocalMatch(layer, queries, score.bag_norms(queries, weights))
    exact, scan = match.similarities(), match.scan(slice(1, 3))
    for first, last in ((0, cut), (cut, 10)):
        seen = np.empty((2, last - first), np.float32)
        assert not scan.begin_block(first, seen, in_steps=True)
        assert np.abs(seen - exact[1:, first:last]).max() < bound_kernels.LOCAL_ERROR


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(3)
    queries, bags, weights = random_bags(rng, 8), random_bags(rng, 50), rng.random(WORDS)
    before = numba.get_num_threads()
    many = all_bags(queries, bags, weights)
    try:
        numba.set_num_threads(1)
        assert all_bags(queries, bags, weights).tobytes() == many.tobytes()
    finally:
        numba.set_num_threads(before)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 is not"):
        score.dense_norms(np.array([[0.0], [np.nan]], dtype=np.float32))
