"""Exact search over up to a million pictures, beside scoring all of them, and beside half of that.

`SEARCH_SIZES="100000 300000 1000000"` chooses sizes, `SEARCH_WORDS="100000 219"` other bags,
`SEARCH_CHECKED` how many queries are compared with brute force to the bit. Products are those of
float32, and then those that are fastest here. The segments, 10 GB for a million, are kept in
`build/bench/scale`.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numba
import numpy as np
import pytest
import scipy.sparse
import torch  # noqa: F401  # auto uses it only where it is there
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, open_segments
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.products import choice
from lamella.pipeline.products.cpu import this_cpu
from lamella.pipeline.search import block_scan, bound_kernels, pair_products, query_layers
from lamella.pipeline.search.bounds import Cascade
from lamella.pipeline.search.cascade import CASCADES
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, QueryBatch, SegmentData
from lamella.pipeline.search.topk import Effort
from tests.benchmarks.brute import assert_same, brute_force, some
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.record import Measurement, write_json, write_record

SIZES = [int(size) for size in os.environ.get("SEARCH_SIZES", "100000 300000 1000000").split()]
CHECKED = int(os.environ.get("SEARCH_CHECKED", "64"))
WORDS = os.environ.get("SEARCH_WORDS", "20000 60").split()
SPEC = ScaleSpec(
    pictures=max(1_000_000, *SIZES), words=int(WORDS[0]), words_per_picture=int(WORDS[1])
)
SEGMENT, K, THREADS = 100_000, 100, 2
BATCHES = (64, 1_024)
KINDS: tuple[choice.Choice, ...] = ("float32", "auto")


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of some work."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def unit_rows(bags: BagsOfWords, weights: NDArray[np.float64]) -> scipy.sparse.csr_matrix:
    """Return weighted bags of length 1, (n, K) float32."""
    values = (bags.counts * weights[bags.words]).astype(np.float32)
    shape = (len(bags), len(weights))
    rows = scipy.sparse.csr_matrix((values, bags.words.astype(np.int32), bags.offsets), shape=shape)
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return (scipy.sparse.diags((1.0 / norms).astype(np.float32)) @ rows).tocsr()


class Naive:
    """What a user would write: products of matrices, fusion of all, argpartition; by segment."""

    def __init__(self, segments: list[SegmentData]) -> None:
        self._vectors, self._words = [], []
        for segment in segments:
            high, low = segment.layers[HIGH], segment.layers[LOW]
            assert isinstance(high, DenseLayer)
            assert isinstance(low, LocalLayer)
            self._vectors.append(np.array(high.vectors))
            self._words.append(unit_rows(low.bags, low.weights).T.tocsr())
            self.weights = low.weights

    def search(self, queries: QueryBatch) -> NDArray[np.int64]:
        """Return the places of the K best of each query, best first."""
        asked, bags = queries.layers[HIGH], queries.layers[LOW]
        assert isinstance(bags, BagsOfWords)
        assert isinstance(asked, np.ndarray)
        rows = unit_rows(bags, self.weights)
        scores = []
        for vectors, words in zip(self._vectors, self._words, strict=True):
            high = np.clip(asked @ vectors.T, 0, 1)
            above = np.maximum(high - np.float32(0.2), 0) / np.float32(0.8)
            fused = np.where(high > 0.2, 0.2 + 0.8 * above ** np.float32(0.45), high)
            scores.append(fused + (rows @ words).toarray())
        joined = np.concatenate(scores, axis=1)
        best = np.argpartition(-joined, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(joined, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)


PARTS: dict[str, list[tuple[Any, str]]] = {
    "first products": [(block_scan.Group, "_near")],
    "close products": [(pair_products, "multiply")],
    "postings": [(query_layers.BagScan, "begin_block")],
    "bounds": [(bound_kernels, name) for name in ("propose", "promising", "reaching", "narrow")],
    "float64": [
        (query_layers.DenseMatch, "similarities_of"),
        (query_layers.LocalMatch, "similarities_of"),
    ],
}
"""The functions that each part of a search is."""


@contextmanager
def timed_parts(seconds: Counter[str]) -> Iterator[None]:
    """Add the processor time of each part of the searches meanwhile; parallel loops count once."""
    with pytest.MonkeyPatch.context() as patch:
        for part, functions in PARTS.items():
            for holder, name in functions:
                patch.setattr(holder, name, _timed(getattr(holder, name), part, seconds))
        yield


def _timed(function: Callable[..., Any], part: str, seconds: Counter[str]) -> Callable[..., Any]:
    def timed(*given: Any, **more: Any) -> Any:
        start = time.thread_time()
        found = function(*given, **more)
        seconds[part] += time.thread_time() - start  # type: ignore[assignment]
        return found

    return timed


def cascade_of(segments: list[SegmentData]) -> Cascade:
    """Return how sketches are read now."""
    high = segments[0].layers[HIGH]
    assert isinstance(high, DenseLayer)
    return CASCADES.now((high.sketch.axes.shape,), max(BATCHES))


def parts_of(segments: list[SegmentData], queries: QueryBatch) -> dict[str, float]:
    """Return nanoseconds of a core for a pair of query and picture, by part and in all."""
    seconds: Counter[str] = Counter()
    start = time.process_time()
    with timed_parts(seconds):
        search_exact(segments, queries, FUSION, K)
    seconds["all"] = time.process_time() - start  # type: ignore[assignment]
    pairs = len(queries) * sum(map(len, segments))
    return {part: round(each / pairs * 1e9, 2) for part, each in seconds.items()}


def our_rates(segments: list[SegmentData], queries: QueryBatch) -> dict[int, float]:
    """Return queries/s by size of batch."""
    search_exact(segments, some(queries, 0, 8), FUSION, K)  # compiled and mapped
    search_exact(segments, queries, FUSION, K)  # cascades are tried
    rates = {}
    for count in BATCHES:
        batch, effort = some(queries, 0, count), Effort()
        search_exact(segments, batch, FUSION, K, effort=effort)
        taken = seconds_of(partial(search_exact, segments, batch, FUSION, K), 2)
        rates[count] = count / taken
        print(
            f"{count} at once: {rates[count]:.1f} queries/s, {effort.narrowed / effort.pairs:.4f} "
            f"of all pairs looked at closely, {effort.decided / effort.pairs:.6f} in float64"
        )
    return rates


def check_bits(segments: list[SegmentData], queries: QueryBatch, count: int) -> None:
    """Compare answers with brute force."""
    for start in range(0, count, 64):
        part = some(queries, start, min(start + 64, count))
        assert_same(search_exact(segments, part, FUSION, K), brute_force(segments, part, K))
    print(f"{count} queries equal brute force to the bit")


def naive_rate(segments: list[SegmentData], queries: QueryBatch) -> float:
    """Return the queries/s of scoring everything, for the smaller batch."""
    naive, batch = Naive(segments), some(queries, 0, BATCHES[0])
    theirs, ours = naive.search(batch), search_exact(segments, batch, FUSION, K).image_ids
    agree = [len(set(a) & set(b)) for a, b in zip(ours, theirs, strict=True)]
    assert np.mean(agree) > 0.99 * K, "the peer must give nearly the same pictures"
    return BATCHES[0] / seconds_of(lambda: naive.search(batch), 2)


def dense_rate(segments: list[SegmentData], queries: QueryBatch, count: int) -> float:
    """Return the queries/s of FAISS on the dense layer alone."""
    faiss.omp_set_num_threads(THREADS)
    flat = faiss.IndexFlatIP(SPEC.dimensions)
    for segment in segments:
        high = segment.layers[HIGH]
        assert isinstance(high, DenseLayer)
        flat.add(high.vectors)
    vectors = queries.layers[HIGH]
    assert isinstance(vectors, np.ndarray)
    asked = vectors[:count]
    return count / seconds_of(lambda: flat.search(asked, K), 1)


@pytest.mark.bench
@pytest.mark.parametrize("size", SIZES)
def test_exact_search_of_many_pictures(size: int) -> None:
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    ends = [(first, min(first + SEGMENT, size)) for first in range(0, size, SEGMENT)]
    built = [build_segment(SPEC, *each, THREADS) for each in ends]
    print(
        f"\n{size:,} pictures: built in {sum(each.seconds for each in built):.1f} s, "
        f"{sum(each.size_bytes for each in built) / size:,.0f} bytes each, "
        f"peak {max(each.peak_bytes for each in built) / 2**30:.2f} GiB"
    )
    vectors, bags, _ = draw_queries(SPEC, max(*BATCHES, CHECKED))
    queries = QueryBatch({HIGH: vectors, LOW: bags})
    with threadpool_limits(THREADS, user_api="blas"):
        segments = open_segments([Path(each.folder) for each in built])
        rates: dict[str, dict[int, float]] = {}
        with peak_memory() as peak:
            for kind in KINDS:
                choice.forget()
                CASCADES.forget()
                choice.use(kind)
                rates[kind] = our_rates(segments, queries)
                cascade, parts = cascade_of(segments), parts_of(segments, queries)
                print(f"{kind}: {cascade}, ns a pair: {parts}")
                facts = {"cpu": asdict(this_cpu()), "cascade": asdict(cascade), "ns": parts}
                write_json(f"search_scale_{size}_{kind}_parts.json", facts)
            peak.look()
        print(f"serving peak {peak.size_bytes / 2**30:.2f} GiB, pages of mapped files included")
        check_bits(segments, queries, CHECKED)
        scored = naive_rate(segments, queries)
        plain = dense_rate(segments, queries, BATCHES[-1])
    sizes = {
        "pictures": size, "dimensions": SPEC.dimensions, "words": SPEC.words, "k": K,
        "words_per_picture": SPEC.words_per_picture, "segments": len(built), "threads": THREADS,
    }  # fmt: skip
    peers = {
        "numpy and scipy products of 64 queries, fusion of all, argpartition": scored,
        "faiss IndexFlatIP of 1,024 queries, the dense layer alone": plain,
    }
    measured = [
        Measurement(
            f"exact fused search, products {kind}", sizes | {"queries": count}, ours, peer, name,
            "queries/s",
        )
        for kind in KINDS
        for count, ours in rates[kind].items()
        for name, peer in peers.items()
    ]  # fmt: skip
    write_record(f"search_scale_{size}.json", measured)
    for each in measured:
        print(
            f"{each.name}, {each.sizes['queries']} at once: {each.ours:.1f} to {each.peer:.1f} "
            f"queries/s, {each.ratio:.2f} times {each.peer_name}"
        )
