"""What the modes without proof find of the exact answer, over drawn pictures and over real ones.

`candidates` fuses the N best of each layer, `paper` the N best of the high layer alone.
`SEARCH_SIZES` chooses sizes, as for `bench_search_scale.py`, whose segments are used. The real
corpora are indexed once, as `lamella index` does, under build/bench.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, open_segments
from lamella.pipeline.jobs.resolve import resolve_fusion
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.search.audit import measure_recall
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.exact import search_exact, top_by_layer
from lamella.pipeline.search.merge import fuse_candidates
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.schemas.job import FusionSettings
from lamella.schemas.query import FusionSpec, SearchMode
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.descriptors import FOLDERS, KEPT, SHARED, copy_pictures
from tests.benchmarks.record import Measurement, write_record
from tests.builders import index_into

SIZES = [int(size) for size in os.environ.get("SEARCH_SIZES", "100000 1000000").split()]
SPEC = ScaleSpec(pictures=max(1_000_000, *SIZES))
SEGMENT, K, QUERIES, THREADS = 100_000, 100, 64, 2
PROPOSED = (200, 1_000, 5_000)

REAL = {"oxford": "oxford5k", "ukb": "ukbench", "all": "."}
REAL_STORE = Path("build/bench/search_modes")
REAL_QUERIES, REAL_WORDS = 500, 5_000
REAL_PROPOSED = {K: (K, 200, 500, 1_000, 5_000), 10: (10, 20, 50, 100, 200)}
"""N by k: a layer proposes k images at least. N of the corpus's size or more proposes all of it."""

Proposing = Literal["candidates", "paper"]
PROPOSING: tuple[Proposing, ...] = ("candidates", "paper")
Asked = Callable[[Proposing, int], Answer]
"""Gives the answer of a mode with n images proposed by a layer."""


def measure(
    sizes: dict[str, int], fusion: FusionSpec, exact: Answer, proposed: Sequence[int], ask: Asked
) -> list[Measurement]:
    """Return the recall of both modes for each number of images proposed, and print it."""
    measured = []
    high = fusion.layers[0]
    for n in proposed:
        recall: dict[Proposing, float] = {}
        for mode in PROPOSING:
            found = measure_recall(ask(mode, n).image_ids, exact.image_ids)
            recall[mode] = found.found / found.wanted
        print(f"\n({high.t:g}, {high.p:g}), {sizes}, N = {n:,}: {recall}")
        measured.append(
            Measurement(
                f"recall of candidates under ({high.t:g}, {high.p:g})",
                {**sizes, "proposed": n},
                recall["candidates"],
                recall["paper"],
                "paper mode",
                "share of the exact answers",
            )
        )
    return measured


@pytest.mark.bench
@pytest.mark.parametrize("size", SIZES)
def test_recall_of_the_modes_without_proof(size: int) -> None:
    ends = [(first, min(first + SEGMENT, size)) for first in range(0, size, SEGMENT)]
    built = [build_segment(SPEC, *each, THREADS) for each in ends]
    segments = open_segments([Path(each.folder) for each in built])
    vectors, bags, _ = draw_queries(SPEC, QUERIES)
    queries = QueryBatch({HIGH: vectors, LOW: bags})

    def ask(mode: Proposing, n: int) -> Answer:
        lists = [top_by_layer(segment, queries, [HIGH, LOW], n) for segment in segments]
        return fuse_candidates(lists, FUSION, K, n, size, mode)

    exact = search_exact(segments, queries, FUSION, K)
    sizes = {"pictures": size, "queries": QUERIES, "k": K}
    write_record(f"search_modes_{size}.json", measure(sizes, FUSION, exact, PROPOSED, ask))


@pytest.mark.bench
@pytest.mark.parametrize("corpus", REAL)
def test_recall_of_the_modes_without_proof_on_photographs(corpus: str) -> None:
    if not (SHARED / "data").exists():
        pytest.skip("the photographs are in ../shared/data")
    source = copy_pictures(FOLDERS, KEPT / "pictures") / REAL[corpus]
    job = load_job(None, {"vocabulary.words": REAL_WORDS})
    snapshot = index_into(REAL_STORE, source, job=job, threads=THREADS)
    searcher = SegmentSearcher(str(REAL_STORE), snapshot)
    coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
    ids = coordinator.image_ids()
    chosen = ids[np.unique(np.linspace(0, len(ids) - 1, REAL_QUERIES).round().astype(int))]
    layers = snapshot.extraction.layers
    queries = coordinator.features(chosen.tolist(), [layer.name for layer in layers])
    paper = resolve_fusion(layers, FusionSettings())
    measured = []
    for fusion, k in product((snapshot.fusion, paper), REAL_PROPOSED):
        ask = partial(_ask, coordinator, queries, fusion, k)
        exact = coordinator.answer(queries, fusion, k)
        sizes = {"pictures": len(ids), "queries": len(chosen), "k": k}
        proposed = [n for n in REAL_PROPOSED[k] if n < len(ids)]
        measured += measure(sizes, fusion, exact, proposed, ask)
    write_record(f"search_modes_{corpus}.json", measured)


def _ask(
    coordinator: Coordinator,
    queries: QueryBatch,
    fusion: FusionSpec,
    k: int,
    mode: SearchMode,
    n: int,
) -> Answer:
    return coordinator.answer(queries, fusion, k, mode=mode, candidates=n)
