"""Propose images without a scan, and decide among proposed ones in float64.

Global layers propose by the indexes of `proposers`, local ones by their posting lists of highest
impact (`heavy_words`). Neither looks at all images of a segment.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from lamella.pipeline.arrays import Bools, Float64s, Int64s, read_only
from lamella.pipeline.compiled import numba
from lamella.pipeline.proposers.opened import Asked, Proposer
from lamella.pipeline.search import shortlist_kernels
from lamella.pipeline.search.candidates import one_blas_thread
from lamella.pipeline.search.heavy_words import HeavyWords, Lists, heavy_words
from lamella.pipeline.search.query_layers import Match, match_layer
from lamella.pipeline.search.score import Candidates, dense_norms
from lamella.pipeline.search.segment import DenseLayer, Features, QueryBatch, SegmentData
from lamella.pipeline.search.shortlist import SEGMENT_BITS, Shortlist
from lamella.schemas.snapshot import Reach

GROUP_QUERIES = 64
"""The most queries that one thread takes through the segments together."""

_ALL = read_only(np.empty(0, np.bool_), np.bool_, "allowed", ndim=1)


@dataclass(frozen=True, eq=False)
class Proposing:
    """What proposes images of one segment.

    Attributes:
        image_ids: (n,) int64.
        base: the place of its first row, see `shortlist.SEGMENT_BITS`.
        layers: by name, an index of the vectors or the posting lists.
    """

    image_ids: Int64s
    base: int
    layers: Mapping[str, Proposer | Lists]

    @classmethod
    def of(
        cls, segment: SegmentData, number: int, proposers: Mapping[str, Proposer]
    ) -> "Proposing":
        """Return that of a segment.

        Args:
            number: its place among the segments of the snapshot.
            proposers: by global layer.

        Raises:
            ValueError: a proposer is of another number of images, or missing.
        """
        layers: dict[str, Proposer | Lists] = {}
        for name, layer in segment.layers.items():
            if not isinstance(layer, DenseLayer):
                layers[name] = Lists.of(layer)
                continue
            layers[name] = proposer = proposers[name]
            if len(proposer) != len(segment):
                raise ValueError(
                    f"the proposer of {name} has {len(proposer):,} images, the segment "
                    f"{len(segment):,}"
                )
        return cls(segment.image_ids, number << SEGMENT_BITS, layers)


def propose(
    segments: Sequence[Proposing],
    queries: QueryBatch,
    layers: Sequence[str],
    reach: Reach,
    weights: Mapping[str, Float64s],
    frequencies: Mapping[str, Int64s],
    allowed: Sequence[Bools] | None = None,
) -> list[Shortlist]:
    """Return for each layer the best `reach.proposed` images of each query that it finds.

    Args:
        segments: no image in two of them.
        queries: Q, in every layer.
        weights, frequencies: of the words of each local layer, (K,), over the whole corpus.
        allowed: which images of each segment may be proposed, (n,) each; all by default.

    Raises:
        ValueError: queries that do not fit a layer.
    """
    segments, allowed = _without_empty(segments, allowed)
    if not segments:
        return [Shortlist.of(len(queries), reach.proposed) for _ in layers]
    asked: dict[str, HeavyWords | _Directions] = {}
    for name in layers:
        features, layer = queries.layers[name], segments[0].layers[name]
        if isinstance(layer, Lists):
            asked[name] = heavy_words(features, weights[name], frequencies[name], reach.postings)
        else:
            asked[name] = _directions(layer, features, reach)
    threads = numba.get_num_threads()
    size = max(1, min(GROUP_QUERIES, -(-len(queries) // threads)))
    starts = range(0, max(len(queries), 1), size)  # no query at all is a group too
    slices = [slice(start, min(start + size, len(queries))) for start in starts]
    # One query alone has its segments shared out over the threads.
    parts = max(1, min(len(segments), threads // len(slices)))
    numbered = list(enumerate(segments))

    def look(task: tuple[slice, int]) -> list[Shortlist]:
        some, part = task
        found = [Shortlist.of(some.stop - some.start, reach.proposed) for _ in layers]
        for number, segment in numbered[part::parts]:
            mask = _ALL if allowed is None else read_only(allowed[number], np.bool_, "allowed", 1)
            for name, best in zip(layers, found, strict=True):
                _keep(segment, name, asked[name], some, reach, mask, best)
        return found

    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(look, product(slices, range(parts))))
    return [
        Shortlist.join(
            [
                Shortlist.best_of([done[start + part][layer] for part in range(parts)])
                for start in range(0, len(done), parts)
            ]
        )
        for layer in range(len(layers))
    ]


def decide(
    segments: Mapping[int, SegmentData],
    queries: QueryBatch,
    layers: Sequence[str],
    query_of: Int64s,
    places: Int64s,
) -> tuple[Int64s, Float64s]:
    """Return which pairs of query and image are of these segments, and S in all layers.

    Args:
        segments: by their number in the snapshot.
        query_of: (m,) int64, rising.
        places: (m,) int64, of the image of each pair, see `shortlist.SEGMENT_BITS`.

    Returns:
        which: (h,) int64; similarities: (C, h) float64, exact.
    """
    numbers = places >> SEGMENT_BITS
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], [(each, each + 1) for each in segments])
    threads = numba.get_num_threads()
    tasks: list[tuple[Int64s, list[Match]]] = []
    like: Sequence[Match | None] = [None for _ in layers]
    for segment, (first, last) in zip(segments.values(), ends.tolist(), strict=True):
        if first < last:
            like = matches = [
                match_layer(segment, queries, name, before)
                for name, before in zip(layers, like, strict=True)
            ]
            # So that threads share the pairs of few segments, and of one query.
            shares = np.array_split(order[first:last], -(-2 * threads // len(segments)))
            tasks += [(share, matches) for share in shares if len(share)]

    def score(task: tuple[Int64s, list[Match]]) -> Float64s:
        mine, matches = task
        offsets = np.searchsorted(query_of[mine], np.arange(len(queries) + 1)).astype(np.int64)
        candidates = Candidates(offsets, places[mine] & ((1 << SEGMENT_BITS) - 1))
        return np.stack([match.similarities_of(candidates, alone=True) for match in matches])

    with ThreadPoolExecutor(threads) as pool:
        values = [np.empty((len(layers), 0)), *pool.map(score, tasks)]
    which = [np.empty(0, np.int64), *(mine for mine, _ in tasks)]
    return np.concatenate(which), np.concatenate(values, axis=1)


def _without_empty(
    segments: Sequence[Proposing], allowed: Sequence[Bools] | None
) -> tuple[list[Proposing], list[Bools] | None]:
    """Return the segments that hold an image, and which of their images may be proposed."""
    held = [number for number, segment in enumerate(segments) if len(segment.image_ids)]
    masks = None if allowed is None else [allowed[number] for number in held]
    return [segments[number] for number in held], masks


@dataclass(frozen=True, eq=False)
class _Directions:
    """Queries of a dense layer as its proposers take them, and which have a direction, (Q,)."""

    asked: Asked
    directed: Bools


def _directions(layer: Proposer, features: Features, reach: Reach) -> _Directions:
    """Return queries (Q, D) as the proposers of all segments take them.

    Raises:
        ValueError: they are no vectors, not finite, or of another length than the layer's.
    """
    if not isinstance(features, np.ndarray):
        raise ValueError("a layer of vectors is asked by vectors; the queries are words")
    norms = dense_norms(features)
    units = features / np.where(norms > 0.0, norms, 1.0)[:, None]
    return _Directions(layer.ask(units.astype(np.float32), reach.cells), norms > 0.0)


def _keep(
    segment: Proposing,
    name: str,
    asked: HeavyWords | _Directions,
    some: slice,
    reach: Reach,
    allowed: Bools,
    best: Shortlist,
) -> None:
    """Put what a layer of a segment proposes for some queries into their shortlist."""
    layer = segment.layers[name]
    if isinstance(layer, Lists) and isinstance(asked, HeavyWords):
        layer.keep(asked, some, segment.image_ids, segment.base, allowed, best)
        return
    if isinstance(layer, Lists) or isinstance(asked, HeavyWords):
        raise ValueError(f"layer {name} and its queries are not of one kind")
    count = min(reach.proposed, len(segment.image_ids))
    cells = asked.asked.cells
    few = replace(
        asked.asked, turned=asked.asked.turned[some], cells=None if cells is None else cells[some]
    )
    found = layer.find_asked(few, count, allowed if len(allowed) else None)
    # A query without a direction is like nothing.
    rows = np.where(asked.directed[some, None], found.rows, -1)
    shortlist_kernels.keep_rows(rows, found.scores, segment.image_ids, segment.base, *best.arrays())
