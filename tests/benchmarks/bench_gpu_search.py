"""Exact search of drawn pictures with a graphics card, beside what one would write for the card.

`GPU_SEARCH_PICTURES` says how many, `GPU_SEARCH_CHECKED` how many queries are compared with brute
force to the bit. Segments are kept in `build/bench/scale`, 10 GB for a million.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, open_segments
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.search.exact import _match, search_exact
from lamella.pipeline.search.on_gpu import Card
from lamella.pipeline.search.segment import Answer, DenseLayer, LocalLayer, QueryBatch, SegmentData
from lamella.pipeline.search.topk import Best, Effort
from tests.benchmarks.brute import assert_same, brute_force, some
from tests.benchmarks.corpus import Built, build_segment
from tests.benchmarks.record import Measurement, write_record

PICTURES = int(os.environ.get("GPU_SEARCH_PICTURES", "1000000"))
CHECKED = int(os.environ.get("GPU_SEARCH_CHECKED", "128"))
SPEC = ScaleSpec(pictures=max(1_000_000, PICTURES))
SEGMENT, K = 20_000, 100
BATCHES = (64, 1_024)


def built_segment(ends: tuple[int, int]) -> Built:
    return build_segment(SPEC, *ends, 1)


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time of some work on the card."""
    taken = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


class Plain:
    """What one would write with PyTorch: products of matrices on the card, fusion of all, topk."""

    def __init__(self, segments: list[SegmentData]) -> None:
        self._vectors, self._words = [], []
        for segment in segments:
            high, low = segment.layers[HIGH], segment.layers[LOW]
            assert isinstance(high, DenseLayer)
            assert isinstance(low, LocalLayer)
            self._vectors.append(torch.from_numpy(np.array(high.vectors)).cuda())
            owners = np.repeat(np.arange(len(low)), np.diff(low.bags.offsets))
            weighted = low.bags.counts * low.weights[low.bags.words] / low.norms[owners]
            self._words.append(
                torch.sparse_csr_tensor(
                    torch.from_numpy(low.bags.offsets.astype(np.int32)),
                    torch.from_numpy(low.bags.words.astype(np.int32)),
                    torch.from_numpy(weighted.astype(np.float32)),
                    size=(len(low), len(low.weights)),
                ).cuda()
            )
            self.weights = low.weights

    def search(self, queries: QueryBatch) -> NDArray[np.int64]:
        """Return the places of the K best of each query."""
        asked, bags = queries.layers[HIGH], queries.layers[LOW]
        assert isinstance(bags, BagsOfWords)
        units = torch.nn.functional.normalize(torch.from_numpy(np.array(asked)).cuda())
        words = torch.zeros((len(self.weights), len(queries)))
        owners = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
        words[bags.words.astype(np.int64), owners] = torch.from_numpy(
            (bags.counts * self.weights[bags.words]).astype(np.float32)
        )
        columns = torch.nn.functional.normalize(words.cuda(), dim=0)
        scores = []
        for vectors, sparse in zip(self._vectors, self._words, strict=True):
            high = (units @ vectors.T).clamp_(0, 1)
            above = ((high - 0.2).clamp_(min=0) / 0.8) ** 0.45
            fused = torch.where(high > 0.2, 0.2 + 0.8 * above, high)
            scores.append(fused + (sparse @ columns).T)
        found: NDArray[np.int64] = torch.cat(scores, dim=1).topk(K, dim=1).indices.cpu().numpy()
        return found


def propose(card: Card, segments: list[SegmentData], queries: QueryBatch) -> None:
    """Do the card's part of a search alone."""
    matched = _match(segments, queries, FUSION)
    best, effort = Best.of(len(queries), K), Effort()
    card.find_reached(matched, FUSION.layers, len(queries), best, effort)


def copied_per_second() -> float:
    """Return the bytes a second of a copy on the card, read and written."""
    source = torch.empty(1 << 32, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds_of(lambda: target.copy_(source), 5)


def postings_touched(segments: list[SegmentData], queries: QueryBatch) -> int:
    """Return how many postings the words of a batch have in all segments."""
    bags = queries.layers[LOW]
    assert isinstance(bags, BagsOfWords)
    layers = [segment.layers[LOW] for segment in segments]
    words = bags.words
    return sum(
        int((each.postings.offsets[1:][words] - each.postings.offsets[:-1][words]).sum())
        for each in layers
        if isinstance(each, LocalLayer)
    )


@pytest.mark.bench
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA here")
def test_exact_search_on_a_card() -> None:
    began = time.perf_counter()
    ends = [(at, min(at + SEGMENT, PICTURES)) for at in range(0, PICTURES, SEGMENT)]
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(min(cores, len(ends)), get_context("spawn")) as pool:
        built = list(pool.map(built_segment, ends))
    vectors, bags, _ = draw_queries(SPEC, max(*BATCHES, CHECKED))
    queries = QueryBatch({HIGH: vectors, LOW: bags})
    segments = open_segments([Path(each.folder) for each in built])
    name = torch.cuda.get_device_name()
    print(f"\n{name}, {cores} cores: drawn and built in {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    card = Card(segments)
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    print(f"sent in {time.perf_counter() - began:.1f} s, {held / 2**30:.2f} GiB on the card")
    bandwidth = copied_per_second()
    torch.cuda.empty_cache()
    rates, shares = {}, {}
    for count in BATCHES:
        batch, effort = some(queries, 0, count), Effort()

        def on_card(asked: QueryBatch = batch, told: Effort | None = None) -> Answer:
            return search_exact(segments, asked, FUSION, K, effort=told, find=card.find_reached)

        ours = on_card(told=effort)
        taken = seconds_of(on_card)
        proposing = seconds_of(partial(propose, card, segments, batch))
        rates[count] = count / taken
        groups = -(-count // 128)
        moved = 2 * PICTURES * SPEC.dimensions * groups + 5 * postings_touched(segments, batch)
        shares[count] = moved / taken / bandwidth
        began = time.perf_counter()
        assert_same(ours, search_exact(segments, batch, FUSION, K))
        on_cpus = count / (time.perf_counter() - began)
        print(
            f"{count} at once: {rates[count]:,.0f} queries/s, {taken * 1e3:.1f} ms, of which "
            f"{proposing * 1e3:.1f} ms until the card has proposed, "
            f"{effort.narrowed / effort.pairs:.4%} of all pairs beyond the first bound, "
            f"{effort.decided / effort.pairs:.4%} in float64; "
            f"{shares[count]:.1%} of {bandwidth / 1e12:.2f} TB/s; on CPUs {on_cpus:,.0f} queries/s"
        )
    print(f"peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on the card")
    began, checked = time.perf_counter(), 0
    while checked < CHECKED:
        part = some(queries, checked, min(checked + 128, CHECKED))
        found = search_exact(segments, part, FUSION, K, find=card.find_reached)
        assert_same(found, brute_force(segments, part, K))
        checked += len(part)
    print(f"{checked} queries equal brute force, {time.perf_counter() - began:.0f} s")
    plain, batch = Plain(segments), some(queries, 0, BATCHES[0])
    theirs, mine = plain.search(batch), search_exact(segments, batch, FUSION, K).image_ids
    agree = [len(set(a) & set(b)) for a, b in zip(mine, theirs, strict=True)]
    assert np.mean(agree) > 0.99 * K, "the peer must give nearly the same pictures"
    scored = BATCHES[0] / seconds_of(lambda: plain.search(batch))
    print(f"plain PyTorch on the card: {scored:,.0f} queries/s")
    sizes = {
        "pictures": PICTURES, "dimensions": SPEC.dimensions, "words": SPEC.words, "k": K,
        "segments": len(segments), "card_gib": round(held / 2**30, 2),
    }  # fmt: skip
    peer = "products on the card of 64 queries, fusion of all, topk"
    measured = [
        Measurement(f"search, {name}", sizes | {"queries": n}, rate, scored, peer, "queries/s")
        for n, rate in rates.items()
    ]
    measured += [
        Measurement("memory", sizes | {"queries": n}, share, 1.0, "a copy on the card", "share")
        for n, share in shares.items()
    ]
    write_record("gpu_search.json", measured)
