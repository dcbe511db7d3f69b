"""Propose images without a scan; `decide` then scores them.

Global layers propose by the indexes of `proposers`, local ones by their posting lists of highest
impact (`heavy_words`). Neither looks at all images of a segment.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s, UInt32s, read_only
from lamella.pipeline.compiled import numba
from lamella.pipeline.proposers.opened import Asked, Looked, Proposer
from lamella.pipeline.search import shortlist_kernels
from lamella.pipeline.search.candidates import one_blas_thread
from lamella.pipeline.search.fuse import map_similarity
from lamella.pipeline.search.heavy_words import HeavyWords, Lists, heavy_words
from lamella.pipeline.search.pool import run_tasks
from lamella.pipeline.search.score import dense_norms
from lamella.pipeline.search.segment import (
    DenseLayer,
    Features,
    QueryBatch,
    SegmentData,
)
from lamella.pipeline.search.shortlist import SEGMENT_BITS, Proposed, Shortlist
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.snapshot import Reach

FEWEST_QUERIES, GROUP_QUERIES = 8, 64
"""How many queries one thread takes through the segments together. With fewer, threads would wait
for each other's Python."""

STEPS = 1_024
"""Steps of the table of a map: what is known of a proposed image is rounded anyway."""

_NO_LISTS = Lists(
    np.zeros(1, np.int64), np.empty(0, np.uint32), 0, np.empty(0, np.uint8),
    np.empty(0, np.float32), 1.0,
)  # fmt: skip

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
    spec: FusionSpec,
    reach: Reach,
    weights: Mapping[str, Float64s],
    frequencies: Mapping[str, Int64s],
    allowed: Sequence[Bools] | None = None,
) -> list[Proposed]:
    """Return for each layer the best `reach.proposed` images of each query that it finds.

    A dense layer ranks the images that it looked at by what is known of them: its own f(S), and
    that of the first local layer as far as its posting lists were read. A local layer ranks those
    that no dense layer looked at. Where no other dense layer can tell more of them, it proposes
    `reach.decided` images: no more can be decided on.

    Args:
        segments: no image in two of them.
        queries: Q, in every layer.
        spec: the layers and their maps.
        weights, frequencies: of the words of each local layer, (K,), over the whole corpus.
        allowed: which images of each segment may be proposed, (n,) each; all by default.

    Raises:
        ValueError: queries that do not fit a layer.
    """
    segments, allowed = _without_empty(segments, allowed)
    layers = [entry.layer for entry in spec.layers]
    sizes = {name: _size(name, layers, queries, reach) for name in layers}
    if not segments:
        return [Proposed.of(Shortlist.of(len(queries), size)) for size in sizes.values()]
    tables = {entry.layer: _table(entry) for entry in spec.layers}
    threads = numba.get_num_threads()
    size = max(FEWEST_QUERIES, min(GROUP_QUERIES, -(-len(queries) // threads)))
    starts = range(0, max(len(queries), 1), size)  # no query at all is a group too
    slices = [slice(start, min(start + size, len(queries))) for start in starts]
    largest = max(len(segment.image_ids) for segment in segments)
    masks = [_ALL] * len(segments) if allowed is None else [_mask(each) for each in allowed]
    pairs = list(zip(segments, masks, strict=True))
    asked: dict[str, HeavyWords | _Directions] = {}

    def look(some: slice) -> list[Proposed]:
        found = {name: Shortlist.of(some.stop - some.start, sizes[name]) for name in layers}
        mine = {name: _of(each, some) for name, each in asked.items()}
        with _room(largest) as room:
            for segment, mask in pairs:
                _look_into(segment, mask, mine, tables, room, found)
        return [Proposed.of(found[name], some.start) for name in layers]

    with one_blas_thread():
        for name in layers:
            features, layer = queries.layers[name], segments[0].layers[name]
            if isinstance(layer, Lists):
                budget = reach.postings
                asked[name] = heavy_words(features, weights[name], frequencies[name], budget)
            else:
                asked[name] = _directions(layer, features, reach)
        done = run_tasks(look, slices, threads)
    return [Proposed.join([each[number] for each in done]) for number in range(len(layers))]


def _size(name: str, layers: Sequence[str], queries: QueryBatch, reach: Reach) -> int:
    """Return how many images a layer proposes."""
    dense = [each for each in layers if isinstance(queries.layers.get(each), np.ndarray)]
    return reach.proposed if set(dense) - {name} else min(reach.decided, reach.proposed)


def _table(entry: LayerMap) -> Float64s:
    """Return the map of a layer times its weight, at even steps over [0, 1]."""
    steps = np.linspace(0.0, 1.0, STEPS + 1)
    return entry.weight * map_similarity(steps, entry.t, entry.p)


def _without_empty(
    segments: Sequence[Proposing], allowed: Sequence[Bools] | None
) -> tuple[list[Proposing], list[Bools] | None]:
    """Return the segments that hold an image, and which of their images may be proposed."""
    held = [number for number, segment in enumerate(segments) if len(segment.image_ids)]
    masks = None if allowed is None else [allowed[number] for number in held]
    return [segments[number] for number in held], masks


def _mask(allowed: Bools) -> Bools:
    return read_only(allowed, np.bool_, "allowed", ndim=1)


_Room = tuple[Float32s, UInt32s, UInt32s, UInt32s, Float64s]
"""What a thread works in, see `shortlist_kernels.keep_known`."""


_ROOMS: list[_Room] = []
"""Rooms that no thread works in: the pages of new ones would have to be found again."""


@contextmanager
def _room(rows: int) -> Iterator[_Room]:
    """Lend a room for so many rows; one that an error left as it was is not lent again."""
    try:
        room = _ROOMS.pop()
    except IndexError:
        room = None
    if room is None or len(room[0]) < rows:
        met, over, passed = (np.empty(rows + 1, np.uint32) for _ in range(3))
        room = np.zeros(rows, np.float32), met, over, passed, np.empty(rows + 1)
    yield room
    _ROOMS.append(room)


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


def _of(asked: HeavyWords | _Directions, some: slice) -> HeavyWords | _Directions:
    """Return some queries."""
    if isinstance(asked, HeavyWords):
        starts = asked.starts[some.start : some.stop + 1]
        return replace(asked, starts=starts, norms=asked.norms[some])
    cells = None if asked.asked.cells is None else asked.asked.cells[some]
    few = replace(asked.asked, turned=asked.asked.turned[some], cells=cells)
    return _Directions(few, asked.directed[some])


def _look_into(
    segment: Proposing,
    allowed: Bools,
    asked: Mapping[str, HeavyWords | _Directions],
    tables: Mapping[str, Float64s],
    room: _Room,
    found: Mapping[str, Shortlist],
) -> None:
    """Put what a segment proposes for some queries into the list of each layer."""
    dense = [name for name, each in asked.items() if isinstance(each, _Directions)]
    local = [name for name, each in asked.items() if isinstance(each, HeavyWords)]
    first = local[0] if local else None
    for number, name in enumerate(dense):
        drain = number == 0 and first is not None
        _keep(segment, allowed, name, first, drain, asked, tables, room, found)
    for name in local if not dense else local[1:]:
        _keep(segment, allowed, None, name, True, asked, tables, room, found)


def _keep(
    segment: Proposing,
    allowed: Bools,
    dense: str | None,
    local: str | None,
    drain: bool,
    asked: Mapping[str, HeavyWords | _Directions],
    tables: Mapping[str, Float64s],
    room: _Room,
    found: Mapping[str, Shortlist],
) -> None:
    """Do what `shortlist_kernels.keep_known` does for one dense layer, one local one, or both."""
    queries = len(next(iter(found.values())).held)
    seen = Looked(np.zeros(queries + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    directed = np.zeros(queries, np.bool_)
    if dense is not None:
        proposer, units = segment.layers[dense], asked[dense]
        if isinstance(proposer, Lists) or not isinstance(units, _Directions):
            raise ValueError(f"layer {dense} and its queries are not of one kind")
        seen = proposer.look(units.asked, allowed if len(allowed) else None)
        directed = units.directed
    lists, words = _NO_LISTS, _no_words(queries)
    if local is not None:
        held, chosen = segment.layers[local], asked[local]
        if not isinstance(held, Lists) or not isinstance(chosen, HeavyWords):
            raise ValueError(f"layer {local} and its queries are not of one kind")
        lists, words = held, chosen
    near, own = dense or local, local or dense
    assert near is not None
    assert own is not None
    shortlist_kernels.keep_known(
        (seen.offsets, seen.rows, seen.scores), directed, tables[near], found[near].arrays(),
        (words.starts, words.words, words.factors, words.norms),
        (lists.offsets, lists.entries, lists.bits, lists.counts), lists.inverse_norms,
        lists.greatest, tables[own], found[own].arrays(), drain, allowed, segment.image_ids,
        segment.base, room,
    )  # fmt: skip


def _no_words(queries: int) -> HeavyWords:
    """Return queries without any word."""
    nothing = np.empty(0, np.uint32), np.empty(0, np.float32)
    return HeavyWords(np.zeros(queries + 1, np.int64), *nothing, np.ones(queries))
