"""Exact search beside the naive way: score all pictures in every layer, map all, cut."""

import time
from collections.abc import Callable

import numba
import numpy as np
import pytest
import scipy.sparse
import threadpoolctl
from numpy.typing import NDArray

from pipeline.index.bags import BagsOfWords, bags_from_words
from pipeline.index.postings import document_frequencies, invert
from pipeline.index.weighting import idf
from pipeline.search.exact import search_exact
from pipeline.search.segment import QueryBatch, SegmentData, dense_layer, local_layer
from schemas.query import FusionSpec, LayerMap
from tests.benchmarks.record import Measurement, write_record

IMAGES, WIDTH, WORDS, WORDS_PER_IMAGE, QUERIES, K = 20_000, 1_280, 20_000, 219, 64, 100
THREADS = 2
SPEC = FusionSpec(layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low")))


def synthetic_vectors(rng: np.random.Generator, images: int) -> NDArray[np.float32]:
    """Unit vectors of values that are not negative, most of them 0, around 200 centres."""
    centres = np.maximum(rng.standard_normal((200, WIDTH), dtype=np.float32), 0)
    vectors = centres[rng.integers(200, size=images)]
    vectors = vectors + 1.5 * rng.standard_normal((images, WIDTH), dtype=np.float32)
    vectors = np.maximum(vectors - 0.5, 0).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def synthetic_bags(rng: np.random.Generator, images: int) -> BagsOfWords:
    """Bags of words drawn by Zipf's law: word r as often as 1 / (r + 10)."""
    share = 1.0 / (np.arange(WORDS) + 10.0)
    words = rng.choice(WORDS, size=images * WORDS_PER_IMAGE, p=share / share.sum())
    offsets = np.arange(images + 1, dtype=np.int64) * WORDS_PER_IMAGE
    return bags_from_words(offsets, words.astype(np.uint32))


def best_seconds(*works: Callable[[], object], repeats: int = 9) -> list[float]:
    """Return the shortest time of each work; they take turns, so that both meet the same noise."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, taken in zip(works, seconds, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in seconds]


@pytest.mark.bench
def test_exact_search_is_measured_beside_scoring_everything() -> None:
    rng = np.random.default_rng(7)
    vectors, bags = synthetic_vectors(rng, IMAGES), synthetic_bags(rng, IMAGES)
    asked_vectors, asked_bags = synthetic_vectors(rng, QUERIES), synthetic_bags(rng, QUERIES)
    weights = idf(document_frequencies(invert(bags, WORDS)), IMAGES)
    segment = SegmentData(
        np.arange(IMAGES, dtype=np.int64),
        {"high": dense_layer(vectors), "low": local_layer(bags, weights)},
    )
    queries = QueryBatch({"high": asked_vectors, "low": asked_bags})

    def unit_rows(these: BagsOfWords) -> scipy.sparse.csr_matrix:
        values = these.counts * weights[these.words]
        rows = scipy.sparse.csr_matrix(
            (values, these.words.astype(np.int32), these.offsets), shape=(len(these), WORDS)
        )
        norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        return (scipy.sparse.diags(1.0 / norms) @ rows).tocsr()

    images_by_word = unit_rows(bags).T.tocsr()
    asked_rows = unit_rows(asked_bags)

    def naive() -> NDArray[np.int64]:
        high = np.clip(asked_vectors @ vectors.T, 0, 1)
        low = (asked_rows @ images_by_word).toarray()
        above = np.maximum(high - 0.2, 0) / 0.8
        scores = np.where(high > 0.2, 0.2 + 0.8 * above**0.45, high) + low
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    answer = search_exact([segment], queries, SPEC, K)
    agree = [len(set(a) & set(b)) for a, b in zip(answer.image_ids, naive(), strict=True)]
    assert np.mean(agree) > 0.99 * K, "the peer must give nearly the same images"
    with threadpoolctl.threadpool_limits(limits=THREADS, user_api="blas"):
        seconds = best_seconds(lambda: search_exact([segment], queries, SPEC, K), naive)
    ours, peer = (QUERIES / taken for taken in seconds)
    measurement = Measurement(
        name="exact search of fused layers",
        sizes={
            "images": IMAGES, "width": WIDTH, "words": WORDS, "words_per_image": WORDS_PER_IMAGE,
            "queries": QUERIES, "k": K, "threads": THREADS,
        },
        ours=round(ours, 1),
        peer=round(peer, 1),
        peer_name="numpy and scipy.sparse products, fusion of all, argpartition",
        unit="queries/s",
    )  # fmt: skip
    write_record("search.json", [measurement])
    print(f"ours {ours:.0f} queries/s, peer {peer:.0f}, ratio {measurement.ratio:.2f}")
