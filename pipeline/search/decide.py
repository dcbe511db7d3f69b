"""Score proposed images in float64: to estimate their F, and to decide."""

from collections.abc import Mapping, Sequence

import numpy as np

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.compiled import numba
from lamella.pipeline.search.fuse import fuse, map_similarity
from lamella.pipeline.search.pool import run_tasks
from lamella.pipeline.search.query_layers import Match, match_layer
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import Answer, QueryBatch, SegmentData
from lamella.pipeline.search.shortlist import ROWS, SEGMENT_BITS, Proposed, best_pairs
from lamella.schemas.query import FusionSpec

ALONE_PAIRS = 8_192
"""Up to so many pairs are scored by the calling thread: threads would wait for each other's
Python."""


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
    served = np.zeros(int(numbers.max(initial=-1)) + 1, np.bool_)
    served[[each for each in segments if each < len(served)]] = True
    mine = served[numbers]
    query_of, places = query_of[mine], places[mine]
    ids, values = score_pairs(segments, queries, layers, query_of, places)
    scores = fuse(values, spec)
    kept = best_pairs(query_of, ids, scores, len(queries), k)  # so that few are sorted
    return best_of(query_of[kept], ids[kept], scores[kept], values[:, kept], len(queries), k)


def estimate(
    segments: Mapping[int, SegmentData],
    queries: QueryBatch,
    spec: FusionSpec,
    lists: Sequence[Proposed],
) -> list[Proposed]:
    """Return what layers propose with estimates of F: what is known, and f of other dense layers.

    Args:
        segments: as for `decide`, of all these images.
        lists: of each layer.
    """
    dense = [each for each in spec.layers if isinstance(queries.layers[each.layer], np.ndarray)]
    estimated = []
    for entry, each in zip(spec.layers, lists, strict=True):
        total = each.estimates
        if entry not in dense:  # of a local layer, the share of a cosine that was read
            total = entry.weight * map_similarity(total, entry.t, entry.p)
        others = [other for other in dense if other != entry]
        if others:
            names = [other.layer for other in others]
            _, values = score_pairs(segments, queries, names, each.query_of, each.places)
            for other, found in zip(others, values, strict=True):
                total = total + other.weight * map_similarity(found, other.t, other.p)
        estimated.append(each.known(total))
    return estimated


def score_pairs(
    segments: Mapping[int, SegmentData],
    queries: QueryBatch,
    layers: Sequence[str],
    query_of: Int64s,
    places: Int64s,
) -> tuple[Int64s, Float64s]:
    """Return the ids (m,) of the images of pairs, and their similarities (C, m) float64.

    Args:
        query_of: (m,) int64, rising.
        places: as for `decide`, of these segments alone.
    """
    numbers = places >> SEGMENT_BITS
    if len(segments) < 1 << 16 and numbers.max(initial=0) < 1 << 16:
        numbers = numbers.astype(np.uint16)  # so few bits are sorted without comparing
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], [(each, each + 1) for each in segments]).reshape(-1, 2)
    threads = numba.get_num_threads() if len(places) > ALONE_PAIRS else 1
    tasks: list[tuple[Int64s, Int64s, list[Match]]] = []
    like: Sequence[Match | None] = [None for _ in layers]
    for segment, (first, last) in zip(segments.values(), ends.tolist(), strict=True):
        if first < last:
            like = matches = [
                match_layer(segment, queries, name, before)
                for name, before in zip(layers, like, strict=True)
            ]
            # So that threads share the pairs of few segments.
            shares = np.array_split(order[first:last], -(-2 * threads // len(segments)))
            tasks += [(share, segment.image_ids, matches) for share in shares if len(share)]
    ids, values = np.empty(len(places), np.int64), np.empty((len(layers), len(places)))

    def score(task: tuple[Int64s, Int64s, list[Match]]) -> None:
        mine, image_ids, matches = task
        rows = places[mine] & ROWS
        offsets = np.searchsorted(query_of[mine], np.arange(len(queries) + 1)).astype(np.int64)
        candidates = Candidates(offsets, rows)
        ids[mine] = image_ids[rows]
        for number, match in enumerate(matches):
            values[number, mine] = match.similarities_of(candidates, alone=True)

    run_tasks(score, tasks, threads)
    return ids, values
