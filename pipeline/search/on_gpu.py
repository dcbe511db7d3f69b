"""Find on a GPU the images that may be among the best, as `candidates.py` does on CPUs.

The GPU holds the posting lists, and vectors as bfloat16. It adds and multiplies in float32 with
bounded errors and only proposes; float64 decides on the CPU, so answers do not depend on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError
from lamella.pipeline.search import bound_kernels
from lamella.pipeline.search.gpu_layers import (
    Near,
    Vectors,
    Words,
    ask_vectors,
    ask_words,
    bytes_of,
    near_to,
)
from lamella.pipeline.search.query_layers import DenseMatch, Match, ResidualMatch
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, ResidualLayer, SegmentData
from lamella.pipeline.search.topk import Best, Effort, Reached
from lamella.pipeline.text import byte_size
from lamella.schemas.query import LayerMap
from lamella.schemas.snapshot import IndexSnapshot

if TYPE_CHECKING:
    from torch import Tensor

Matches = Sequence[Match]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Queries and images (m,), counted over all segments, and upper bounds of F."""

GROUP_QUERIES = 128
"""The most queries that scan a slab together."""

SLAB_IMAGES = 1 << 19
"""Images of a slab, unless a segment is larger: their similarities to 128 queries take 256 MiB."""

FIRST_IMAGES = 4_096
"""Images of the first block; all get close bounds, as there is no bar yet."""

ROOM = 4 << 30
"""Bytes of GPU memory that answering takes beside the stored layers."""


def card_is_here() -> bool:
    """Return whether PyTorch sees a GPU; it is imported only where there is a driver."""
    if not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()


def serves_layers(snapshot: IndexSnapshot) -> bool:
    """Return whether a card can hold all layers of a snapshot: residuals stay on CPUs."""
    return all(each.encoding.kind != "asmk" for each in snapshot.vocabularies.values())


def check_layers(snapshot: IndexSnapshot) -> None:
    """Check that a card can hold all layers of a snapshot.

    Raises:
        InputError: it cannot.
    """
    if not serves_layers(snapshot):
        raise InputError(_ON_CPUS)


_ON_CPUS = (
    "graphics cards search bags of words and vectors, and this index has residuals "
    '(vocabulary.encoding.kind is asmk): set engine.search_on = "cpu" or "auto"'
)


@dataclass(frozen=True, eq=False)
class _Slab:
    """Neighbouring segments, their layers together, by name."""

    first: int  # image, counted over all segments
    images: int
    layers: dict[str, Vectors | Words]


class Card:
    """Segments on a GPU; `find_reached` does for all of them what that of `candidates.py` does.

    Args:
        segments: whose layers have one name, kind and weighting throughout.
        device: a device of PyTorch; the CPU is for tests.

    Raises:
        InputError: PyTorch sees no GPU, segments do not fit on it, or a layer has residuals.
    """

    def __init__(self, segments: Sequence[SegmentData], device: str = "cuda") -> None:
        import torch

        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        if self._on_gpu and not torch.cuda.is_available():
            raise InputError(
                "PyTorch sees no graphics card here: search on a node with one, or set "
                'engine.search_on = "cpu"'
            )
        self._sizes = [len(segment) for segment in segments]
        layers = [layer for segment in segments for layer in segment.layers.values()]
        if any(isinstance(layer, ResidualLayer) for layer in layers):
            raise InputError(_ON_CPUS)
        held_bytes = sum(bytes_of(each) for each in layers if not isinstance(each, ResidualLayer))
        self._check_room(held_bytes, sum(self._sizes))
        self._group = GROUP_QUERIES
        self._slabs: list[_Slab] = []
        first = 0
        for part in _slabs(segments):
            held = {name: self._hold(part, name) for name in part[0].layers}
            self._slabs.append(_Slab(first, sum(map(len, part)), held))
            first += self._slabs[-1].images
        self._names = {
            layer: name for segment in segments for name, layer in segment.layers.items()
        }

    def find_reached(
        self,
        matched: Sequence[Matches],
        maps: Sequence[LayerMap],
        queries: int,
        best: Best,
        effort: Effort,
    ) -> list[Reached]:
        """Return for each segment the pairs that may be among the best; see `candidates.py`.

        Raises:
            InputError: the GPU has too little memory left even for one query.
            ValueError: the segments are not all of the card's.
        """
        import torch

        if [len(matches[0].layer) for matches in matched] != self._sizes:
            raise ValueError("a card looks at all of its segments, and at no other")
        found: list[Pairs] = []
        done = 0
        while done < queries and matched:
            group = slice(done, min(done + self._group, queries))
            try:
                with torch.inference_mode():
                    pairs = self._look(matched[0], maps, group, best, effort)
            except torch.OutOfMemoryError:
                pairs = None  # what its frames hold is freed after this clause
            if pairs is None:
                self._halve()
                continue
            found.append(pairs)
            done = group.stop
        effort.pairs += queries * sum(self._sizes)
        return self._by_segment(found)

    def _look(
        self, matches: Matches, maps: Sequence[LayerMap], group: slice, best: Best, effort: Effort
    ) -> Pairs:
        """Scan all slabs for some queries."""
        import torch

        asked = [
            ask_vectors(match, group, self._device)
            if isinstance(match, DenseMatch)
            else ask_words(match, group, self._device)
            for match in matches
            if not isinstance(match, ResidualMatch)
        ]
        names = [self._names[match.layer] for match in matches]
        floors = torch.from_numpy(best.bars(group)).to(self._device)
        shape = (len(floors), best.heaps.shape[1])
        lowest = torch.full(shape, -torch.inf, dtype=torch.float64, device=self._device)
        pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        for slab in self._slabs:
            near = [
                near_to(slab.layers[name], each) for name, each in zip(names, asked, strict=True)
            ]
            for block in _blocks(slab):
                bars = torch.maximum(lowest[:, -1], floors)
                query_of, rows = _propose(near, maps, block, bars)
                lower, upper = _bounds(near, maps, query_of, rows)
                effort.narrowed += len(rows)
                lowest = _keep_best(lowest, query_of, lower)
                pairs.append((query_of, rows + slab.first, upper))
        query_of, rows, upper = (torch.cat(each) for each in zip(*pairs, strict=True))
        kept = torch.nonzero(upper >= torch.maximum(lowest[:, -1], floors)[query_of])[:, 0]
        places = torch.stack([query_of[kept] + group.start, rows[kept]]).cpu().numpy()
        values = lowest.cpu().numpy()
        there = np.isfinite(values)
        ends = np.append(0, np.cumsum(there.sum(axis=1)))
        best.keep(group, ends, values[there])
        return places[0], places[1], upper[kept].cpu().numpy()

    def _by_segment(self, found: Sequence[Pairs]) -> list[Reached]:
        """Return the pairs of each segment, by query and row."""
        none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        query_of, rows, uppers = (np.concatenate(each) for each in zip(none, *found, strict=True))
        ends = np.cumsum(self._sizes)
        segment_of = np.searchsorted(ends, rows, side="right")
        order = np.lexsort((rows, query_of, segment_of))
        cuts = np.searchsorted(segment_of[order], np.arange(1, len(ends)))
        return [
            Reached(query_of[part], rows[part] - (end - size), uppers[part])
            for part, end, size in zip(np.split(order, cuts), ends, self._sizes, strict=True)
        ]

    def _hold(self, segments: Sequence[SegmentData], name: str) -> Vectors | Words:
        layers = [segment.layers[name] for segment in segments]
        dense = [layer for layer in layers if isinstance(layer, DenseLayer)]
        local = [layer for layer in layers if isinstance(layer, LocalLayer)]
        return Vectors(dense, self._device) if dense else Words(local, self._device)

    def _check_room(self, wanted: int, images: int) -> None:
        import torch

        if not self._on_gpu:
            return
        free, whole = torch.cuda.mem_get_info(self._device)
        if wanted + ROOM > free:
            fitting = max(0, free - ROOM) * images // max(wanted, 1)
            raise InputError(
                f"{images:,} images take {byte_size(wanted)} and answering "
                f"{byte_size(ROOM)}, {byte_size(free)} of {byte_size(whole)} are free "
                f"on {torch.cuda.get_device_name(self._device)}: it holds {fitting:,} images; "
                'use more cards, or set engine.search_on = "cpu"'
            )

    def _halve(self) -> None:
        """Take half as many queries at a time from here on."""
        import torch

        if self._on_gpu:
            torch.cuda.empty_cache()
        if self._group == 1:
            raise InputError(
                "the graphics card has no memory left to answer even one query: end what else "
                'uses it, use more cards, or set engine.search_on = "cpu"'
            )
        self._group //= 2


def _slabs(segments: Sequence[SegmentData]) -> Iterator[list[SegmentData]]:
    """Yield the neighbouring segments of each slab."""
    part: list[SegmentData] = []
    for segment in segments:
        if part and sum(map(len, part)) + len(segment) > SLAB_IMAGES:
            yield part
            part = []
        part.append(segment)
    if part:
        yield part


def _blocks(slab: _Slab) -> Iterator[slice]:
    """Yield all images of a slab, apart from the first of all."""
    start = 0
    if slab.first == 0:
        start = min(FIRST_IMAGES, slab.images)
        yield slice(0, start)
    if start < slab.images:
        yield slice(start, slab.images)


def _propose(
    near: Sequence[Near], maps: Sequence[LayerMap], block: slice, bars: "Tensor"
) -> tuple["Tensor", "Tensor"]:
    """Return the pairs of a block whose bound in float32 reaches the bar, by query and row."""
    import torch

    total = _mapped(near[0].highest(block), maps[0]).mul_(maps[0].weight)
    for each, entry in zip(near[1:], maps[1:], strict=True):
        total.add_(_mapped(each.highest(block), entry), alpha=entry.weight)
    reaches = total >= (bars - bound_kernels.SINGLE_SLACK).float()[:, None]
    query_of, rows = torch.nonzero(reaches, as_tuple=True)
    return query_of, rows + block.start


def _mapped(similarity: "Tensor", entry: LayerMap) -> "Tensor":
    """Return f of similarities in [0, 1], in the precision they have; they may be written over."""
    import torch

    t, p = entry.t, entry.p
    if t == 1.0 or p == 1.0:
        return similarity
    if p == 0.0:
        return torch.where(similarity > t, 1.0, similarity)
    above = (similarity - t).clamp_(min=0.0).pow_(p)
    return similarity.clamp_(max=t).add_(above, alpha=(1.0 - t) ** (1.0 - p))


def _bounds(
    near: Sequence[Near], maps: Sequence[LayerMap], query_of: "Tensor", rows: "Tensor"
) -> tuple["Tensor", "Tensor"]:
    """Return lower and upper bounds of F of some pairs, float64 (m,)."""
    import torch

    lower = rows.new_full(rows.shape, -bound_kernels.SLACK, dtype=torch.float64)
    upper = torch.neg(lower)
    for each, entry in zip(near, maps, strict=True):
        low, high = each.ends(query_of, rows)
        lower.add_(_mapped(low, entry), alpha=entry.weight)
        upper.add_(_mapped(high, entry), alpha=entry.weight)
    return lower, upper


def _keep_best(lowest: "Tensor", query_of: "Tensor", values: "Tensor") -> "Tensor":
    """Return the k largest of what each query has (Q, k) and of some pairs' values, falling."""
    import torch

    counts = torch.bincount(query_of, minlength=len(lowest))
    starts = torch.cumsum(counts, 0) - counts
    places = torch.arange(len(query_of), device=query_of.device) - starts[query_of]
    shape = (len(lowest), int(counts.max()))
    table = torch.full(shape, -torch.inf, dtype=values.dtype, device=values.device)
    table[query_of, places] = values
    return torch.topk(torch.cat([lowest, table], dim=1), lowest.shape[1], dim=1).values
