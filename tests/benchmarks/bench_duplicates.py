"""What the search for near-duplicates asks of drawn pictures: with a least score, and without.

`DUPLICATES_PICTURES` (100,000) chooses how many. All of them would be asked; a batch is measured.
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, open_segments
from lamella.pipeline.export.pairs import usual_threshold
from lamella.pipeline.index.bags import select
from lamella.pipeline.planted.scale import ScaleSpec
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.merge import floors_of
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, QueryBatch
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.record import Measurement, write_record

PICTURES = int(os.environ.get("DUPLICATES_PICTURES", "100000"))
SEGMENT, QUERIES, K = 20_000, 64, 101


@pytest.mark.bench
def test_a_least_score_makes_the_search_cheaper() -> None:
    spec = ScaleSpec(pictures=max(PICTURES, 1_000_000))
    starts = range(0, PICTURES, SEGMENT)
    folders = [build_segment(spec, first, first + SEGMENT, threads=2).folder for first in starts]
    segments = open_segments([Path(folder) for folder in folders])
    high, low = segments[0].layers[HIGH], segments[0].layers[LOW]
    assert isinstance(high, DenseLayer)
    assert isinstance(low, LocalLayer)
    batch = QueryBatch({HIGH: high.vectors[:QUERIES], LOW: select(low.bags, np.arange(QUERIES))})

    def rate(floors: Float64s | None) -> float:
        search_exact(segments, batch, FUSION, K, floors=floors)  # compiles, and fills caches
        began = time.perf_counter()
        search_exact(segments, batch, FUSION, K, floors=floors)
        return QUERIES / (time.perf_counter() - began)

    above = usual_threshold(FUSION)
    with_it, without = rate(floors_of(FUSION, above, QUERIES)), rate(None)
    print(
        f"\n{PICTURES:,} pictures, F of {above:g} or more: {with_it:.1f} queries/s, all in "
        f"{PICTURES / with_it / 60:.1f} min; the {K} best without it {without:.1f} queries/s"
    )
    write_record(
        "duplicates.json",
        [
            Measurement(
                name="pictures asked for their near-duplicates",
                sizes={"pictures": PICTURES, "queries": QUERIES, "k": K, "above": above},
                ours=with_it,
                peer=without,
                peer_name="the k best without a least score",
                unit="queries/s",
            )
        ],
    )
    assert with_it > without
