"""Which images of a segment may be among the best: a block of images at a time, bounds first."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise, product
from threading import Lock
from typing import Any, Protocol, Self, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from pipeline.index.bags import select
from pipeline.search import scan
from pipeline.search.bounds import ask_sketch
from pipeline.search.matched import DenseMatch, LocalMatch
from pipeline.search.score import add_block, start_terms
from schemas.query import LayerMap

Scalar = TypeVar("Scalar", bound=np.generic)
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Singles = NDArray[np.float32]

BLOCK_IMAGES = 8_192
"""Images looked at together: the sums of one query, and a block's leading codes, stay in a
processor's caches."""

FIRST_IMAGES = 1_024
"""Images of the first block."""

GROUP_QUERIES = 128
"""Queries that look at a block together, in one thread, at most."""

SAMPLED = 16
"""Of so many images of a block one shows what words usually give: it only makes bounds tight."""


@dataclass
class Effort:
    """How many pairs of query and image there were, were looked at closely, and were decided."""

    pairs: int = 0
    narrowed: int = 0
    decided: int = 0


@dataclass(frozen=True, eq=False)
class Best:
    """The k best lower bounds of each query so far, whichever segment they came from.

    Attributes:
        heaps: float64 (Q, k), smallest first.
        filled: int64 (Q,), how many are there.
        floors: float64 (Q,), what the k-th best is known to reach from elsewhere.
    """

    heaps: Floats
    filled: Rows
    floors: Floats

    @classmethod
    def of(cls, queries: int, k: int, floors: Floats | None = None) -> Self:
        """Return nothing found yet."""
        floors = np.full(queries, -np.inf) if floors is None else floors
        return cls(np.empty((queries, k)), np.zeros(queries, np.int64), floors)

    @property
    def bars(self) -> Floats:
        """What an image must reach to be among the best, (Q,)."""
        full = self.filled == self.heaps.shape[1]
        return np.maximum(np.where(full, self.heaps[:, 0], -np.inf), self.floors)


@dataclass(frozen=True, eq=False)
class Reached:
    """Pairs of query and row that may be among the best, ordered by both.

    Attributes:
        query_of, rows: int64 (m,).
        uppers: float64 (m,), upper bounds of F.
        known: for each layer the exact similarities (m,) if it is local, else None.
    """

    query_of: Rows
    rows: Rows
    uppers: Floats
    known: tuple[Floats | None, ...]

    def above(self, bars: Floats) -> "Reached":
        """Return the pairs whose upper bound reaches the bar of their query, (Q,)."""
        kept = np.flatnonzero(self.uppers >= bars[self.query_of])
        kept = kept[np.argsort(self.query_of[kept], kind="stable")]
        known = tuple(None if each is None else each[kept] for each in self.known)
        return Reached(self.query_of[kept], self.rows[kept], self.uppers[kept], known)


@dataclass(frozen=True, eq=False)
class Part:
    """What a group of queries found in a block: query, row, upper bound, exact values (B, m)."""

    pairs: tuple[Rows, Rows, Floats, Floats]
    narrowed: int


class Finder(Protocol):
    """What finds the pairs: `find_reached` on CPUs, `on_gpu.Card.find_reached` on a card."""

    def __call__(
        self,
        matched: Sequence[Sequence[LocalMatch | DenseMatch]],
        maps: Sequence[LayerMap],
        queries: int,
        best: Best,
        effort: Effort,
    ) -> list[Reached]: ...


def find_reached(
    matched: Sequence[Sequence[LocalMatch | DenseMatch]],
    maps: Sequence[LayerMap],
    queries: int,
    best: Best,
    effort: Effort,
    most_images: int | None = None,
) -> list[Reached]:
    """Return for each segment the pairs that may be among the best of all.

    A thread takes a group of queries through a segment, and what it reached on to the next.

    Args:
        matched: the layers of each segment, in the order of `maps`.
        maps: one a layer.
        queries: Q.
        best: updated, as is `effort`.
        most_images: how many of each segment are looked at, from the first on; all by default.
    """
    images = [len(matches[0].layer) for matches in matched]
    if most_images is not None:
        images = [min(each, most_images) for each in images]
    threads = numba.get_num_threads()
    fair = GROUP_QUERIES if len(matched) >= threads else -(-queries // threads)
    size = max(1, min(GROUP_QUERIES, fair))
    starts = range(0, max(queries, 1), size)  # no query at all is a group too
    groups = [slice(start, min(start + size, queries)) for start in starts]
    tasks = list(product(range(len(matched)), groups))
    guard = Lock()

    def look(task: tuple[int, slice]) -> list[Part]:
        number, group = task
        with guard:
            own = Best.of(group.stop - group.start, best.heaps.shape[1], best.bars[group])
        parts = _look(matched[number], maps, group, images[number], own)
        with guard:
            scan.keep_all(best.heaps[group], best.filled[group], own.heaps, own.filled)
        return parts

    # A thread has one of BLAS: threads of two libraries would wait for work on the same cores by
    # turning in circles, which made all of this three times as slow.
    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(look, tasks))
    effort.pairs += queries * sum(images)
    effort.narrowed += sum(part.narrowed for parts in found for part in parts)
    by_segment = (found[start : start + len(groups)] for start in range(0, len(found), len(groups)))
    return [
        _join(matches, list(chain.from_iterable(parts)))
        for matches, parts in zip(matched, by_segment, strict=True)
    ]


def _look(
    matches: Sequence[LocalMatch | DenseMatch],
    maps: Sequence[LayerMap],
    queries: slice,
    images: int,
    best: Best,
) -> list[Part]:
    """Take some queries through the blocks of a segment."""
    dense = [(i, match) for i, match in enumerate(matches) if isinstance(match, DenseMatch)]
    local = [(i, match) for i, match in enumerate(matches) if isinstance(match, LocalMatch)]
    order = [maps[i] for i, _ in dense + local]
    sides = [match for _, match in dense], [match for _, match in local]
    group = _Group(*sides, order, queries, best)
    # All of a first block is looked at closely where nothing is known of the best yet.
    ends = [0, *range(FIRST_IMAGES, images, BLOCK_IMAGES), images]
    return [group.look(slice(*each)) for each in pairwise(ends)]


def _join(matches: Sequence[LocalMatch | DenseMatch], parts: Sequence[Part]) -> Reached:
    """Bring together what the groups found in the blocks of a segment."""
    local = [i for i, match in enumerate(matches) if isinstance(match, LocalMatch)]
    query_of, rows, uppers, exact = (
        np.concatenate([part.pairs[i] for part in parts], axis=-1) for i in range(4)
    )
    known: list[Floats | None] = [None] * len(matches)
    for values, i in zip(exact, local, strict=True):
        known[i] = values
    return Reached(query_of, rows, uppers, tuple(known))


@cache
def _blas() -> ThreadpoolController:
    """Return what tells BLAS how many threads to use; finding it takes milliseconds."""
    return ThreadpoolController()


class _Group:
    """Some queries of a batch, made ready for a segment whose blocks come one after the other."""

    def __init__(
        self,
        dense: Sequence[DenseMatch],
        local: Sequence[LocalMatch],
        maps: Sequence[LayerMap],
        queries: slice,
        best: Best,
    ) -> None:
        self._dense, self._local, self._maps = dense, local, maps
        self._first = queries.start
        self._room = _Room()
        self._best = best
        asked = [
            ask_sketch(match.layer.sketch, match.vectors[queries], match.norms[queries])
            for match in dense
        ]
        count = len(self._best.filled)
        self._weights = [each.leads.weights for each in asked]
        self._bases = _stack([each.leads.bases + each.leads.slacks for each in asked], count)
        self._lengths = _stack([each.leads.lengths for each in asked], count)
        self._rests = _stack([each.rests for each in asked], count)
        self._whole = [each.whole for each in asked]
        self._whole_lengths = _stack([each.whole.lengths for each in asked], count)
        self._whole_slacks = _stack([each.whole.slacks for each in asked], count)
        rows = np.arange(queries.start, queries.start + count)
        self._bags = [select(match.bags, rows) for match in local]
        self._norms = [match.norms[queries] for match in local]
        self._terms = [
            start_terms(bags, match.layer.postings, match.layer.weights)
            for bags, match in zip(self._bags, local, strict=True)
        ]

    def look(self, block: slice) -> Part:
        """Return what may be among the best in a block."""
        size, count = block.stop - block.start, len(self._best.filled)
        room = self._room
        exact = room.get("exact", np.float64, len(self._local), count, size)
        for b, match in enumerate(self._local):
            layer = match.layer
            add_block(
                self._bags[b], layer.postings, self._terms[b], self._norms[b], layer.norms,
                block.start, exact[b],
            )  # fmt: skip
        rows = room.get("rows", np.int32, 1, count, size)[0]
        kept = np.empty(count, np.int64)
        lines = self._lines(exact)
        self._propose(block, exact, lines, rows, kept)
        narrowed = int(kept.sum())
        uppers = room.get("uppers", np.float64, 1, count, size)[0]
        self._narrow(block, exact, lines, rows, kept, uppers)
        query_of = np.repeat(np.arange(count), kept)
        places = np.arange(len(query_of)) - np.repeat(np.cumsum(kept) - kept, kept)
        inside = rows[query_of, places].astype(np.int64)
        found = uppers[query_of, places], exact[:, query_of, inside]
        return Part((query_of + self._first, inside + block.start, *found), narrowed)

    def _lines(self, exact: Floats) -> tuple[Singles, Singles]:
        """Return lines above each layer's f, tight where an image of usual words is at the bar."""
        sampled = exact[:, :, ::SAMPLED]
        usual = sampled.sum(axis=(0, 2)) / max(sampled.shape[2], 1)
        touching = (self._best.bars - usual) / max(len(self._dense), 1)
        lines = [scan.lines_above(each.t, each.p, touching) for each in self._maps]
        return np.stack([slope for slope, _ in lines]), np.stack([offset for _, offset in lines])

    def _propose(
        self,
        block: slice,
        exact: Floats,
        lines: tuple[Singles, Singles],
        rows: scan.Places,
        kept: Rows,
    ) -> None:
        size, count = block.stop - block.start, len(kept)
        near = self._room.get("near", np.float32, len(self._dense), count, size)
        sketches = [match.layer.sketch for match in self._dense]
        for weights, sketch, out in zip(self._weights, sketches, near, strict=True):
            np.matmul(weights, sketch.leads.codes[block].astype(np.float32).T, out=out)
        scan.propose(
            near,
            _stack([sketch.leads.errors[block] for sketch in sketches], size),
            _stack([sketch.rests[block] for sketch in sketches], size),
            self._bases,
            self._lengths,
            self._rests,
            exact,
            *lines,
            self._best.bars,
            self._room.get("bounds", np.float32, 1, count, size)[0],
            rows,
            kept,
        )

    def _narrow(
        self,
        block: slice,
        exact: Floats,
        lines: tuple[Singles, Singles],
        rows: scan.Places,
        kept: Rows,
        uppers: Floats,
    ) -> None:
        size, count = block.stop - block.start, len(kept)
        close = self._room.get("near", np.float32, len(self._dense), count, size)
        for match, whole, out in zip(self._dense, self._whole, close, strict=True):
            codes = match.layer.sketch.whole.codes
            scan.multiply(rows, kept, block.start, codes, whole.weights, whole.bases, out)
        scan.narrow(
            close,
            _stack([match.layer.sketch.whole.errors[block] for match in self._dense], size),
            self._whole_lengths,
            self._whole_slacks,
            exact,
            np.array([each.t for each in self._maps]),
            np.array([each.p for each in self._maps]),
            *lines,
            self._best.heaps,
            self._best.filled,
            rows,
            kept,
            uppers,
        )


class _Room:
    """Arrays that every block uses again: fresh memory would cost as much as the work in it."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def get(
        self, name: str, dtype: type[Scalar], layers: int, queries: int, images: int
    ) -> NDArray[Scalar]:
        """Return an array of this name and shape, with whatever is in it."""
        shape = (layers, queries, images)
        if name not in self._held or self._held[name].size < math.prod(shape):
            self._held[name] = np.empty(math.prod(shape), dtype)
        return self._held[name][: math.prod(shape)].reshape(shape)


def _stack(parts: Sequence[Singles], length: int) -> Singles:
    """Return the parts as rows, (len(parts), length) float32, also where there are none."""
    return np.stack(parts) if parts else np.empty((0, length), np.float32)
