"""The fast mode beside exact search over up to ten million drawn pictures.

`CANDIDATES_SIZES="1000000 10000000"` chooses sizes, `CANDIDATES_DIMENSIONS="1280 128"` the lengths
of vectors at a million pictures and below; above that it is the last of these. So a million is
measured with the vectors of ten million too, and growth is compared at one length. Ten million of
128 dimensions and 30 words a picture, instead of 1,280 and 60, fit into 24 GiB.
`CANDIDATES_CHECKED` is how many held-out queries are answered exactly, 16 by default above a
million pictures and 64 below. Segments are kept in `build/bench/scale`, proposers beside them.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, open_segments
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.search.audit import measure_recall
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.reaches import DEFAULT_RECALL, reach_for
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, QueryBatch, SegmentData
from lamella.pipeline.search.tune import tune
from lamella.schemas.snapshot import Proposers, Reach
from tests.benchmarks.bench_search_scale import seconds_of
from tests.benchmarks.brute import some
from tests.benchmarks.corpus import Built, build_segment
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.record import Measurement, write_json, write_record
from tests.pipeline.search.fast_servers import Servers, drafted

SIZES = [int(size) for size in os.environ.get("CANDIDATES_SIZES", "1000000 10000000").split()]
WIDTHS = [int(width) for width in os.environ.get("CANDIDATES_DIMENSIONS", "1280 128").split()]
MILLION = 1_000_000
CASES = [(size, width) for size in SIZES for width in (WIDTHS if size <= MILLION else WIDTHS[-1:])]
SEGMENT, K, THREADS = 100_000, 100, 2
BATCHES = (64, 1_024)


@dataclass(frozen=True)
class Found:
    """What was measured of one corpus; rates are queries/s by the number asked at once."""

    pictures: int
    dimensions: int
    reach: dict[str, Any]
    reaches: list[dict[str, Any]]
    recall: float
    checked: int
    candidates: dict[int, float]
    exact: dict[int, float]
    frame_seconds: float
    build_seconds: float
    tune_seconds: float
    segment_bytes: float
    proposer_bytes: float
    peak_bytes: int


def frame_of(folder: Path, segments: list[SegmentData]) -> tuple[Any, float]:
    """Return the frame of some segments, and the seconds it took; it is made once."""
    from lamella.pipeline.proposers.frame import (  # type: ignore[import-not-found,unused-ignore]
        Frame,
        cells_for,
        drawn,
        fit_frame,
    )

    path = folder / "frame.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            names = ("axes", "lows", "spans", "centres")
            return Frame(*(kept[name] for name in names)), float(kept["seconds"])

    def draw(share: float) -> Iterator[Any]:
        for segment in segments:
            rows, layer = drawn(segment.image_ids, share), high_of(segment)
            yield segment.image_ids[rows], layer.vectors[rows], layer.norms[rows]

    images, start = sum(map(len, segments)), time.perf_counter()
    frame, _ = fit_frame(draw, images, cells_for(images))
    seconds = time.perf_counter() - start
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        path, axes=frame.axes, lows=frame.lows, spans=frame.spans, centres=frame.centres,
        seconds=seconds,
    )  # fmt: skip
    return frame, seconds


def proposer_of(folder: Path, frame: Any, segment: SegmentData) -> tuple[Any, float, int]:
    """Return the proposer of a segment, the seconds it took and its bytes; it is made once."""
    from lamella.pipeline.proposers.build import (  # type: ignore[import-not-found,unused-ignore]
        build_proposer,
    )
    from lamella.pipeline.proposers.opened import (  # type: ignore[attr-defined,unused-ignore]
        FaissProposer,
    )

    path, took = folder / f"{segment.image_ids[0]:08d}.faiss", folder / "seconds.json"
    seconds = json.loads(took.read_text()) if took.exists() else {}
    if path.name not in seconds:
        start, layer = time.perf_counter(), high_of(segment)
        build_proposer("ivf", frame, layer.vectors, layer.norms).tofile(path)
        seconds[path.name] = time.perf_counter() - start
        took.write_text(json.dumps(seconds))
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    proposer = FaissProposer(str(path), frame, index, len(segment))
    return proposer, seconds[path.name], path.stat().st_size


def high_of(segment: SegmentData) -> DenseLayer:
    """Return the dense layer."""
    layer = segment.layers[HIGH]
    assert isinstance(layer, DenseLayer)
    return layer


def rates_of(
    answer: Callable[[QueryBatch], object], queries: QueryBatch, batches: tuple[int, ...]
) -> dict[int, float]:
    """Return queries/s by size of batch."""
    answer(some(queries, 0, 8))  # compiled and mapped
    return {
        count: count / seconds_of(partial(answer, some(queries, 0, count)), 2) for count in batches
    }


def measure(size: int, width: int) -> Found:
    """Build what is not there, tune, and measure."""
    # The segments of a million are the first of ten million, where both have one length.
    most = max(each for each, other in CASES if other == width)
    few = width < ScaleSpec.dimensions
    spec = ScaleSpec(pictures=most, dimensions=width, words_per_picture=30 if few else 60)
    ends = [(first, min(first + SEGMENT, size)) for first in range(0, size, SEGMENT)]
    built: list[Built] = [build_segment(spec, *each, THREADS) for each in ends]
    segments = open_segments([Path(each.folder) for each in built])
    folder = Path(built[0].folder).parent / f"proposers-{size}"
    frame, frame_seconds = frame_of(folder, segments)
    made = [proposer_of(folder, frame, segment) for segment in segments]
    words = segments[0].layers[LOW]
    assert isinstance(words, LocalLayer)
    servers = Servers(segments, {LOW: words.weights}, 1, [{HIGH: each} for each, _, _ in made])
    known = Proposers(
        kind="ivf", faiss=faiss.__version__, cells=len(frame.centres), k=K, queries=0, reaches=()
    )
    coordinator = Coordinator(servers, size, known)
    start = time.perf_counter()
    draft = drafted(size, FUSION, {HIGH: "global", LOW: "local"}, known)
    tuned = tune(coordinator, draft, K)
    tune_seconds = time.perf_counter() - start
    reach = reach_for(tuned, min(DEFAULT_RECALL, tuned.reaches[-1].recall), K)
    for each in tuned.reaches:
        print(f"  {each}")

    checked = int(os.environ.get("CANDIDATES_CHECKED", "64" if size <= MILLION else "16"))
    vectors, bags, _ = draw_queries(spec, max(*BATCHES, checked))
    queries = QueryBatch({HIGH: vectors, LOW: bags})
    held_out = some(queries, 0, checked)
    exact = coordinator.answer(held_out, FUSION, K)
    found = coordinator.answer_by(reach, held_out, FUSION, K)
    recall = measure_recall(found.image_ids, exact.image_ids)
    with peak_memory() as peak:
        fast = rates_of(partial(coordinator.answer_by, reach, spec=FUSION, k=K), queries, BATCHES)
        fast |= {1: 32 / seconds_of(partial(one_by_one, coordinator, reach, queries), 2)}
    every = BATCHES if size <= MILLION else (checked,)
    scanned = rates_of(partial(coordinator.answer, spec=FUSION, k=K), queries, every)
    return Found(
        pictures=size,
        dimensions=width,
        reach=reach.model_dump(),
        reaches=[each.model_dump() for each in tuned.reaches],
        recall=recall.found / recall.wanted,
        checked=checked,
        candidates=fast,
        exact=scanned,
        frame_seconds=frame_seconds,
        build_seconds=sum(seconds for _, seconds, _ in made),
        tune_seconds=tune_seconds,
        segment_bytes=sum(each.size_bytes for each in built) / size,
        proposer_bytes=sum(each for _, _, each in made) / size,
        peak_bytes=peak.size_bytes,
    )


def one_by_one(coordinator: Coordinator, reach: Reach, queries: QueryBatch) -> None:
    """Ask 32 queries, each alone."""
    for row in range(32):
        coordinator.answer_by(reach, some(queries, row, row + 1), FUSION, K)


@pytest.mark.bench
@pytest.mark.parametrize(("size", "width"), CASES)
def test_candidates_beside_exact_search(size: int, width: int) -> None:
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    print(f"\n{size:,} pictures of {width:,} dimensions")
    with threadpool_limits(THREADS, user_api="blas"):
        found = measure(size, width)
    write_json(f"candidates_{size}_{width}.json", asdict(found))
    print(json.dumps(asdict(replace(found, reaches=[]))))
    sizes = {"pictures": size, "dimensions": width, "k": K, "threads": THREADS}
    peer = f"exact search, {max(found.exact)} at once"
    measured = [
        Measurement(
            "candidates", sizes | {"queries": count, "recall": found.recall}, rate,
            found.exact[max(found.exact)], peer, "queries/s",
        )
        for count, rate in found.candidates.items()
    ]  # fmt: skip
    write_record(f"candidates_{size}_{width}_rates.json", measured)
    for each in measured:
        print(f"{each.sizes['queries']} at once: {each.ours:.1f} queries/s, {each.ratio:.1f} times")


@pytest.mark.bench
def test_growth_of_the_cost_of_a_query() -> None:
    pairs = [(size, width) for size, width in CASES if width == WIDTHS[-1]]
    paths = [Path(f"build/bench/candidates_{size}_{width}.json") for size, width in pairs]
    if len(paths) < 2 or not all(path.exists() for path in paths):
        pytest.skip("growth is that of two sizes, which were measured before")
    first, last = (json.loads(paths[place].read_text()) for place in (0, -1))
    growth = {
        count: first["candidates"][count] / last["candidates"][count]
        for count in first["candidates"]
    }
    write_json("candidates_growth.json", {"from": pairs[0], "to": pairs[-1], "times": growth})
    print(f"from {pairs[0]} to {pairs[-1]} a query costs {growth} times as much")
