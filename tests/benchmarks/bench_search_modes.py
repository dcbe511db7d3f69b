"""What the modes without proof find of the exact answer, over drawn pictures.

`candidates` fuses the N best of each layer, `paper` the N best of the high layer alone.
`SEARCH_SIZES` chooses sizes, as for `bench_search_scale.py`, whose segments are used.
"""

import os
from pathlib import Path

import pytest

from pipeline.planted.drawn import HIGH, LOW, open_segments
from pipeline.planted.scale import ScaleSpec, draw_queries
from pipeline.planted.trial import FUSION
from pipeline.search.audit import measure_recall
from pipeline.search.exact import search_exact, top_by_layer
from pipeline.search.merge import fuse_candidates
from pipeline.search.segment import QueryBatch
from schemas.query import SearchMode
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.record import Measurement, write_record

SIZES = [int(size) for size in os.environ.get("SEARCH_SIZES", "100000 1000000").split()]
SPEC = ScaleSpec(pictures=max(1_000_000, *SIZES))
SEGMENT, K, QUERIES, THREADS = 100_000, 100, 64, 2
PROPOSED = (200, 1_000, 5_000)


@pytest.mark.bench
@pytest.mark.parametrize("size", SIZES)
def test_recall_of_the_modes_without_proof(size: int) -> None:
    ends = [(first, min(first + SEGMENT, size)) for first in range(0, size, SEGMENT)]
    built = [build_segment(SPEC, *each, THREADS) for each in ends]
    segments = open_segments([Path(each.folder) for each in built])
    vectors, bags, _ = draw_queries(SPEC, QUERIES)
    queries = QueryBatch({HIGH: vectors, LOW: bags})
    exact = search_exact(segments, queries, FUSION, K)
    measured = []
    for n in PROPOSED:
        lists = [top_by_layer(segment, queries, [HIGH, LOW], n) for segment in segments]
        recall: dict[SearchMode, float] = {}
        for mode in ("candidates", "paper"):
            answer = fuse_candidates(lists, FUSION, K, n, size, mode)
            found = measure_recall(answer.image_ids, exact.image_ids)
            recall[mode] = found.found / found.wanted
        print(f"\n{size:,}, N = {n:,}: {recall}")
        sizes = {"pictures": size, "proposed": n, "queries": QUERIES, "k": K}
        measured.append(
            Measurement(
                "recall of candidates",
                sizes,
                recall["candidates"],
                recall["paper"],
                "paper mode",
                "share of the exact answers",
            )
        )
    write_record(f"search_modes_{size}.json", measured)
