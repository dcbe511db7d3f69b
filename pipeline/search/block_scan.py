"""Scan the blocks of a segment for a group of queries: cheap bounds first, then close ones."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int32s, Int64s
from lamella.pipeline.index.sketch import Codes
from lamella.pipeline.search import bound_kernels, pair_products
from lamella.pipeline.search.bounds import LEADS_FIRST, Cascade, Products, Ready, ask_sketch
from lamella.pipeline.search.query_layers import DenseMatch, Match, Scan
from lamella.pipeline.search.step_kernels import drop_others, propose_again
from lamella.pipeline.search.topk import Best, Reached
from lamella.schemas.query import LayerMap

Scalar = TypeVar("Scalar", bound=np.generic)

BLOCK_IMAGES = 16_384
"""Images a block: the sums of one query then fit in a core's own cache."""

STRIP_IMAGES = 2_048
"""Images per BLAS call: float32 codes and product fit in cache."""

FIRST_IMAGES = 1_024
"""Images of the first block."""

SAMPLED = 1_024
"""Images of a block that estimate typical word similarities, which only makes bounds tighter."""


@dataclass(frozen=True)
class Waiting:
    """Pairs of a block whose bound reached the bar, kept until the bar has risen."""

    block: slice
    pairs: bound_kernels.Flat


class Group:
    """A group of queries and a range of images of one segment.

    `look` scans the blocks: it computes close bounds for the most promising pairs of each, and lets
    the others wait. `end` treats those that still reach the bar, once it is as high as it gets.

    Args:
        matches: the layers of the segment.
        maps: one a layer, with weights of at most 1.
        queries: which of the batch.
        images: which of the segment are scanned.
        best: of the whole batch, updated.
        allowed: which images may be answers, (n,); all by default.
        cascade: how sketches are read; it changes no answer.
    """

    def __init__(
        self,
        matches: Sequence[Match],
        maps: Sequence[LayerMap],
        queries: slice,
        images: slice,
        best: Best,
        allowed: Bools | None = None,
        cascade: Cascade = LEADS_FIRST,
    ) -> None:
        dense = [(i, match) for i, match in enumerate(matches) if isinstance(match, DenseMatch)]
        local = [(i, match) for i, match in enumerate(matches) if not isinstance(match, DenseMatch)]
        self._dense, self._local = [match for _, match in dense], [match for _, match in local]
        self._weights, self._t, self._p = (
            np.array([getattr(maps[i], name) for i, _ in dense + local], np.float64)
            for name in ("weight", "t", "p")
        )
        self._queries, self._images, self._best = queries, images, best
        self._allowed, self._cascade = allowed, cascade
        self._waiting: list[Waiting] = []
        self._found: list[Reached] = []
        self.narrowed = self.payloads = self.payloads_read = 0

    def look(self) -> None:
        """Scan the blocks."""
        count = self._queries.stop - self._queries.start
        asked = [
            ask_sketch(
                match.layer.sketch,
                match.vectors[self._queries],
                match.norms[self._queries],
                self._cascade,
            )
            for match in self._dense
        ]
        self._first = _Products.of([each.first for each in asked], count)
        self._rests = _stack([each.rests for each in asked], count)
        self._whole = _Products.of([each.whole for each in asked], count)
        scans = [match.scan(self._queries, self._images.start) for match in self._local]
        self._errors = np.stack([scan.errors for scan in scans]) if scans else np.empty((0, count))
        images = self._images.stop - self._images.start
        highest = np.empty((count, min(self._best.heaps.shape[1], max(images, 1))))
        filled = np.zeros(count, np.int64)
        room = _Room()
        for block in self._blocks():
            near = self._near(block, room)
            known, proposed = self._propose(block, near, scans, room)
            now, later = bound_kernels.promising(*proposed, near, known, highest, filled)
            self._look_closely(Waiting(block, now))
            self._waiting.append(Waiting(block, later))
        self.payloads = sum(scan.payloads for scan in scans)
        self.payloads_read = sum(scan.payloads_read for scan in scans)
        self._waiting = list(self._reaching())

    def end(self) -> Reached:
        """Return the pairs that may be among the best."""
        for each in self._reaching():
            self._look_closely(each)
        self._waiting = []
        return Reached.join(self._found)

    def _blocks(self) -> Iterator[slice]:
        """Yield the blocks of the range."""
        # The first block is small: with no bar yet, all of it waits.
        first, stop = self._images.start, self._images.stop
        ends = [first, *range(first + FIRST_IMAGES, stop, BLOCK_IMAGES), stop]
        yield from (slice(*each) for each in pairwise(ends))

    def _near(self, block: slice, room: "_Room") -> Float32s:
        """Return the products with the codes of all rows of a block, (A, Q, b) float32."""
        size = block.stop - block.start
        near = room.get(
            "near", np.float32, len(self._dense), self._queries.stop - self._queries.start, size
        )
        for ready, match, out in zip(self._first.ready, self._dense, near, strict=True):
            codes = self._codes(match).codes[block]
            for start in range(0, size, STRIP_IMAGES):
                strip = codes[start : start + STRIP_IMAGES]
                ready.multiply(strip, out[:, start : start + len(strip)])
        return near

    def _codes(self, match: DenseMatch) -> Codes:
        """Return the codes of all rows of a layer that are read first."""
        sketch = match.layer.sketch
        return sketch.whole if self._cascade.whole else sketch.leads

    def _propose(
        self, block: slice, near: Float32s, scans: Sequence[Scan], room: "_Room"
    ) -> tuple[Float32s, tuple[Int32s, Float32s, Int64s]]:
        """Return the similarities of a block's local layers, at most, (B, Q, b) float32, and the
        rows that reach the bar, their bounds, and their number.

        Once there is a bar, residuals are first bounded by the words in common, and only those of
        rows that reach the bar are read. Without a dense layer nearly all rows would reach it.
        """
        count, size = self._queries.stop - self._queries.start, block.stop - block.start
        bars = self._best.bars(self._queries)
        in_steps = bool(self._dense) and bool(np.isfinite(bars).any())
        known = room.get("known", np.float32, len(scans), count, size)
        later = [
            scan.begin_block(block.start, out, in_steps)
            for scan, out in zip(scans, known, strict=True)
        ]
        rows = room.get("rows", np.int32, 1, count, size)[0]
        uppers = room.get("uppers", np.float32, 1, count, size)[0]
        kept = np.empty(count, np.int64)
        sums = known[:, :, :SAMPLED].sum(axis=2, dtype=np.float64)
        usual = self._weights[len(self._dense) :] @ sums / max(min(size, SAMPLED), 1)
        lines = self._lines(bars - usual)
        bound_kernels.propose(
            near,
            _stack([self._codes(match).errors[block] for match in self._dense], size),
            _stack([match.layer.sketch.rests[block] for match in self._dense], size),
            self._first.bases + self._first.slacks,
            self._first.lengths,
            self._rests,
            known,
            *lines,
            self._weights,
            bars,
            uppers,
            rows,
            kept,
        )
        if self._allowed is not None:
            drop_others(self._allowed[block], uppers, rows, kept)
        if any(later):
            for scan, out, waits in zip(scans, known, later, strict=True):
                if waits:
                    scan.end_block(block.start, out, rows, kept)
            lowest = bars - bound_kernels.SINGLE_SLACK
            propose_again(near, known, *lines, self._weights, lowest, uppers, rows, kept)
        return known, (rows, uppers, kept)

    def _lines(self, touching: Float64s) -> tuple[Float32s, Float32s]:
        """Return lines above each layer's f, tight where dense layers add up to `touching`."""
        dense = float(self._weights[: len(self._dense)].sum())
        return bound_kernels.lines_above(self._t, self._p, touching, dense or 1.0)

    def _reaching(self) -> Iterator[Waiting]:
        """Yield waiting pairs that still reach the bar."""
        for each in self._waiting:
            bars = self._best.bars(self._queries)
            pairs = bound_kernels.reaching(
                each.pairs, *self._lines_for(each.pairs, bars), self._weights, bars
            )
            if len(pairs[1]):
                yield Waiting(each.block, pairs)

    def _look_closely(self, waiting: Waiting) -> None:
        """Compute close bounds of some pairs, and raise the bar by the lower ones."""
        block, pairs = waiting.block, waiting.pairs
        offsets, rows, _ = pairs
        self.narrowed += len(rows)
        near = np.empty((len(self._dense), len(rows)), np.float32)
        whole = self._whole
        each_layer = zip(self._dense, whole.ready, whole.bases, near, strict=True)
        for match, ready, bases, out in each_layer:
            codes = match.layer.sketch.whole.codes[block]
            pair_products.multiply(offsets, rows, codes, ready.whole, ready.scales, bases, out)
        bars = self._best.bars(self._queries)
        query_of = np.empty(len(rows), np.int64)
        lowers, uppers = np.empty((2, len(rows)))
        left = bound_kernels.narrow(
            pairs,
            near,
            _stack([match.layer.sketch.whole.errors[block] for match in self._dense], 0),
            whole.lengths,
            whole.slacks,
            self._t,
            self._p,
            self._weights,
            *self._lines_for(pairs, bars),
            self._errors,
            bars,
            query_of,
            lowers,
            uppers,
        )
        query_of = query_of[:left]
        ends = np.searchsorted(query_of, np.arange(len(offsets)))
        self._best.keep(self._queries, ends, lowers[:left])
        found = rows[:left].astype(np.int64) + block.start
        self._found.append(Reached(query_of + self._queries.start, found, uppers[:left].copy()))

    def _lines_for(self, pairs: bound_kernels.Flat, bars: Float64s) -> tuple[Float32s, Float32s]:
        """Return lines that are tight for some pairs."""
        return self._lines(bars - bound_kernels.means(pairs, len(self._dense), self._weights))


@dataclass(frozen=True, eq=False)
class _Products(Generic[Ready]):
    """`bounds.Products` of A layers: weights of each, the rest (A, Q) float32."""

    bases: Float32s
    lengths: Float32s
    slacks: Float32s
    ready: list[Ready]

    @classmethod
    def of(cls, layers: Sequence[Products[Ready]], queries: int) -> Self:
        """Return layers together."""
        return cls(
            _stack([each.bases for each in layers], queries),
            _stack([each.lengths for each in layers], queries),
            _stack([each.slacks for each in layers], queries),
            [each.ready for each in layers],
        )


class _Room:
    """Arrays that blocks share: fresh memory would cost as much as the work in it."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def get(
        self, name: str, dtype: type[Scalar], layers: int, queries: int, images: int
    ) -> NDArray[Scalar]:
        """Return the array of this name and shape, not cleared."""
        shape = (layers, queries, images)
        if name not in self._held or self._held[name].size < math.prod(shape):
            self._held[name] = np.empty(math.prod(shape), dtype)
        return self._held[name][: math.prod(shape)].reshape(shape)


def _stack(parts: Sequence[Float32s], length: int) -> Float32s:
    """Return the parts as rows, (len(parts), length) float32, also where there are none."""
    return np.stack(parts) if parts else np.empty((0, length), np.float32)
