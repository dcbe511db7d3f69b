"""Measure search on this machine, on drawn pictures."""

import time
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.bench.segments import HIGH, LOW, draw_segment, open_segments, write_segment_to
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.segment import QueryBatch
from lamella.pipeline.search.topk import Effort
from lamella.schemas.query import FusionSpec, LayerMap

FUSION = FusionSpec(layers=(LayerMap(layer=HIGH, t=0.2, p=0.45), LayerMap(layer=LOW)))
"""The paper's map: drawn vectors are distributed like its features."""


@dataclass(frozen=True)
class Trial:
    """Measurements of building segments and answering queries, without the drawing.

    Attributes:
        looked_at, decided: shares of all pairs of query and picture that got close bounds, and that
            were scored in float64.
    """

    pictures: int
    segments: int
    build_seconds: float
    bytes_per_picture: float
    queries: int
    k: int
    queries_per_second: float
    looked_at: float
    decided: float
    certified: int


def try_search(
    folder: Path,
    pictures: int,
    queries: int,
    *,
    k: int = 100,
    segment_images: int = 20_000,
    seed: int = 0,
    threads: int = 1,
    on_progress: OnProgress = quiet,
) -> Trial:
    """Draw pictures, build their segments in an empty folder, and answer queries exactly.

    Raises:
        ValueError: a number is out of range.
    """
    if segment_images < 1 or queries < 1:
        raise ValueError(
            f"segments and batches hold at least 1; got {segment_images:,} and {queries:,}"
        )
    spec = ScaleSpec(pictures=pictures, seed=seed)
    starts = range(0, pictures, segment_images)
    folders: list[Path] = []
    size, seconds = 0, 0.0
    for number, first in enumerate(starts):
        on_progress(Progress("draw and build", number, len(starts), first, pictures))
        vectors, bags = draw_segment(spec, first, min(first + segment_images, pictures))
        folders.append(folder / f"{number:05d}")
        folders[-1].mkdir()
        began = time.perf_counter()
        size += write_segment_to(folders[-1], first, vectors, bags, spec.words, threads)
        seconds += time.perf_counter() - began
    on_progress(Progress("draw and build", len(starts), len(starts), pictures, pictures))
    asked_vectors, asked_bags, _ = draw_queries(spec, queries)
    batch = QueryBatch({HIGH: asked_vectors, LOW: asked_bags})
    segments = open_segments(folders)
    # Once to compile and map, once to measure.
    on_progress(Progress("answer", 0, 2, 0, 2 * queries))
    search_exact(segments, batch, FUSION, k)
    on_progress(Progress("answer", 1, 2, queries, 2 * queries))
    effort, began = Effort(), time.perf_counter()
    answer = search_exact(segments, batch, FUSION, k, effort=effort)
    taken = time.perf_counter() - began
    on_progress(Progress("answer", 2, 2, 2 * queries, 2 * queries))
    return Trial(
        pictures=pictures,
        segments=len(segments),
        build_seconds=seconds,
        bytes_per_picture=size / pictures,
        queries=queries,
        k=k,
        queries_per_second=queries / taken,
        looked_at=effort.narrowed / effort.pairs,
        decided=effort.decided / effort.pairs,
        certified=int(answer.certified.sum()),
    )
