"""Propose images without a scan; `decide` then scores them.

Global layers propose by the indexes of `proposers`, local ones by their posting lists of highest
impact (`heavy_words`). Neither looks at all images of a segment.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s, read_only
from lamella.pipeline.compiled import numba
from lamella.pipeline.proposers.opened import Asked, Found, Proposer
from lamella.pipeline.search import shortlist_kernels
from lamella.pipeline.search.candidates import one_blas_thread
from lamella.pipeline.search.heavy_words import HeavyWords, Lists, Room, heavy_words
from lamella.pipeline.search.score import dense_norms
from lamella.pipeline.search.segment import (
    DenseLayer,
    Features,
    QueryBatch,
    SegmentData,
)
from lamella.pipeline.search.shortlist import SEGMENT_BITS, Shortlist
from lamella.schemas.snapshot import Reach

GROUP_QUERIES = 64
"""The most queries that one thread takes through the segments together."""

SHARES, SPARE = 2, 32
"""How much more than its share of a list a segment is asked for at first."""

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
    threads = numba.get_num_threads()
    size = max(1, min(GROUP_QUERIES, -(-len(queries) // threads)))
    starts = range(0, max(len(queries), 1), size)  # no query at all is a group too
    slices = [slice(start, min(start + size, len(queries))) for start in starts]
    # One query alone has its segments shared out over the threads.
    parts = max(1, min(len(segments), threads // len(slices)))
    numbered = list(enumerate(segments))
    largest = max(len(segment.image_ids) for segment in segments)
    masks = [_ALL] * len(segments) if allowed is None else [_mask(each) for each in allowed]

    def look(task: tuple[slice, int]) -> list[Shortlist]:
        some, part = task
        found = [Shortlist.of(some.stop - some.start, reach.proposed) for _ in layers]
        room = Room.of(largest)
        mine = [(segment, masks[number]) for number, segment in numbered[part::parts]]
        for name, best in zip(layers, found, strict=True):
            of_layer = asked[name]
            if isinstance(of_layer, HeavyWords):
                _keep_sums(mine, name, of_layer, some, room, best)
            else:
                _keep_near(mine, name, of_layer, some, best)
        return found

    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for name in layers:
            features, layer = queries.layers[name], segments[0].layers[name]
            if isinstance(layer, Lists):
                budget = reach.postings
                asked[name] = heavy_words(features, weights[name], frequencies[name], budget)
            else:
                asked[name] = _directions(layer, features, reach)
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


def _mask(allowed: Bools) -> Bools:
    return read_only(allowed, np.bool_, "allowed", ndim=1)


def _keep_sums(
    segments: Sequence[tuple[Proposing, Bools]],
    name: str,
    asked: HeavyWords,
    some: slice,
    room: Room,
    best: Shortlist,
) -> None:
    """Put what the posting lists of segments propose for some queries into their shortlist."""
    for segment, allowed in segments:
        lists = segment.layers[name]
        if not isinstance(lists, Lists):
            raise ValueError(f"layer {name} and its queries are not of one kind")
        lists.keep(asked, some, segment.image_ids, segment.base, allowed, room, best)


def _keep_near(
    segments: Sequence[tuple[Proposing, Bools]],
    name: str,
    asked: _Directions,
    some: slice,
    best: Shortlist,
) -> None:
    """Put what the proposers of segments find for some queries into their shortlist.

    A segment is asked for somewhat more than its share of the list, and for a whole list where the
    last that it gave might not be the last of its images in there: FAISS takes longer to keep a
    list in order than to fill it.
    """
    directed, size = asked.directed[some], best.size
    share = min(size, SHARES * -(-size // len(segments)) + SPARE)
    given: list[tuple[Int64s, Float32s]] = []
    for segment, allowed in segments:
        count = min(share, len(segment.image_ids))
        found = _found(segment, name, asked, some, np.arange(len(directed)), count, allowed)
        # A query without a direction is like nothing.
        rows = np.where(directed[:, None], found.rows, -1)
        _keep_rows(segment, rows, found.scores, best)
        given.append((rows, found.scores[:, -1]))
    best.cut()
    for (segment, allowed), (before, lasts) in zip(segments, given, strict=True):
        count = min(size, len(segment.image_ids))
        again = np.flatnonzero(directed & np.isfinite(lasts) & (lasts >= best.bars))
        if len(again) == 0 or before.shape[1] == count:
            continue
        found = _found(segment, name, asked, some, again, count, allowed)
        rows = np.full((len(directed), count), -1, np.int64)
        scores = np.full((len(directed), count), -np.inf, np.float32)
        scores[again] = found.scores
        for query, mine in zip(again.tolist(), found.rows, strict=True):
            rows[query] = np.where(np.isin(mine, before[query]), -1, mine)
        _keep_rows(segment, rows, scores, best)


def _found(
    segment: Proposing,
    name: str,
    asked: _Directions,
    some: slice,
    which: Int64s,
    count: int,
    allowed: Bools,
) -> Found:
    """Return what the proposer of a segment finds for `which` of some queries."""
    proposer = segment.layers[name]
    if isinstance(proposer, Lists):
        raise ValueError(f"layer {name} and its queries are not of one kind")
    turned, cells = asked.asked.turned[some], asked.asked.cells
    few = replace(
        asked.asked, turned=turned[which], cells=None if cells is None else cells[some][which]
    )
    return proposer.find_asked(few, count, allowed if len(allowed) else None)


def _keep_rows(segment: Proposing, rows: Int64s, scores: Float32s, best: Shortlist) -> None:
    shortlist_kernels.keep_rows(rows, scores, segment.image_ids, segment.base, *best.arrays())
