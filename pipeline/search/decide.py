"""Decide among proposed images in float64."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.compiled import numba
from lamella.pipeline.search import shortlist_kernels
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.query_layers import Match, match_layer
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import Answer, QueryBatch, SegmentData
from lamella.pipeline.search.shortlist import ROWS, SEGMENT_BITS, Shortlist
from lamella.schemas.query import FusionSpec


def decide(
    segments: Mapping[int, SegmentData],
    queries: QueryBatch,
    spec: FusionSpec,
    k: int,
    query_of: Int64s,
    places: Int64s,
) -> Answer:
    """Return the k best of some pairs of query and image, of those that are of these segments.

    Args:
        segments: by their number in the snapshot.
        query_of: (m,) int64, rising.
        places: (m,) int64, of the image of each pair, see `shortlist.SEGMENT_BITS`.
    """
    layers = [entry.layer for entry in spec.layers]
    numbers = places >> SEGMENT_BITS
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], [(each, each + 1) for each in segments])
    threads = numba.get_num_threads()
    tasks: list[tuple[Int64s, Int64s, list[Match]]] = []
    like: Sequence[Match | None] = [None for _ in layers]
    for segment, (first, last) in zip(segments.values(), ends.tolist(), strict=True):
        if first < last:
            like = matches = [
                match_layer(segment, queries, name, before)
                for name, before in zip(layers, like, strict=True)
            ]
            # So that threads share the pairs of few segments, and of one query.
            shares = np.array_split(order[first:last], -(-2 * threads // len(segments)))
            tasks += [(share, segment.image_ids, matches) for share in shares if len(share)]

    def score(
        task: tuple[Int64s, Int64s, list[Match]],
    ) -> tuple[Int64s, Int64s, Float64s, Float64s]:
        mine, ids, matches = task
        rows = places[mine] & ROWS
        offsets = np.searchsorted(query_of[mine], np.arange(len(queries) + 1)).astype(np.int64)
        candidates = Candidates(offsets, rows)
        values = np.stack([match.similarities_of(candidates, alone=True) for match in matches])
        return query_of[mine], ids[rows], fuse(values, spec), values

    with ThreadPoolExecutor(threads) as pool:
        nothing = (np.empty(0, np.int64),) * 2 + (np.empty(0), np.empty((len(layers), 0)))
        done = [nothing, *pool.map(score, tasks)]
    asked, ids, scores = (np.concatenate([each[part] for each in done]) for part in range(3))
    values = np.concatenate([each[3] for each in done], axis=1)
    best = Shortlist.of(len(queries), k)  # so that few are sorted
    pairs = np.arange(len(scores))
    shortlist_kernels.keep_scored(asked, ids, scores, pairs, best.arrays())
    _, kept = best.pairs()
    return best_of(asked[kept], ids[kept], scores[kept], values[:, kept], len(queries), k)
