"""Which images may be among the best, found on a graphics card: what `reach.py` does on CPUs.

The card holds the codes of whole vectors and the posting lists. It adds and multiplies in float32,
whose errors are bounded here, and proposes; float64 decides on the CPU. So the answers are those of
a CPU, to the bit.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.search import scan
from pipeline.search.gpu_layers import Near, Vectors, Words, bytes_of
from pipeline.search.matched import DenseMatch, LocalMatch
from pipeline.search.reach import Best, Effort, Reached
from pipeline.search.segment import DenseLayer, SegmentData
from schemas.query import LayerMap

if TYPE_CHECKING:
    from torch import Tensor

GROUP_QUERIES = 128
"""Queries that look at a segment together, at most."""

FIRST_IMAGES = 4_096
"""Images of the first block, all of which are looked at closely: nothing is known of the best."""

ROOM = 1 << 30
"""Bytes of the card that answering takes at least, beside segments."""


def card_is_here() -> bool:
    """Return whether PyTorch sees a graphics card; it is only asked where a driver is."""
    if not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()


class Card:
    """Segments on a graphics card; `find_reached` is that of `reach.py`.

    Args:
        segments: what is asked later is among them.
        device: a device of PyTorch; the CPU is for tests.

    Raises:
        InputError: PyTorch sees no graphics card, or segments do not fit on it.
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
        layers = [layer for segment in segments for layer in segment.layers.values()]
        self._check_room(sum(map(bytes_of, layers)), sum(map(len, segments)))
        self._group = GROUP_QUERIES
        self._dense, self._local = {}, {}
        for layer in layers:
            if isinstance(layer, DenseLayer):
                self._dense[layer] = Vectors(layer, self._device)
            else:
                self._local[layer] = Words(layer, self._device)

    def find_reached(
        self,
        matched: Sequence[Sequence[LocalMatch | DenseMatch]],
        maps: Sequence[LayerMap],
        queries: int,
        images: Sequence[int],
        best: Best,
        effort: Effort,
    ) -> list[Reached]:
        """Return for each segment the pairs that may be among the best of all; see `reach.py`.

        Raises:
            InputError: the card has too little memory left even for one query.
        """
        import torch

        found: list[list[Reached]] = [[] for _ in matched]
        done = 0
        while done < queries:
            group = slice(done, min(done + self._group, queries))
            try:
                with torch.inference_mode():
                    parts = self._look(matched, maps, group, images, best, effort)
            except torch.OutOfMemoryError:
                parts = None  # what its frames hold is freed after this clause
            if parts is None:
                self._halve()
                continue
            for each, part in zip(found, parts, strict=True):
                each.append(part)
            done = group.stop
        effort.pairs += queries * sum(images)
        return [_joined(parts, len(maps)) for parts in found]

    def _look(
        self,
        matched: Sequence[Sequence[LocalMatch | DenseMatch]],
        maps: Sequence[LayerMap],
        group: slice,
        images: Sequence[int],
        best: Best,
        effort: Effort,
    ) -> list[Reached]:
        """Take some queries through all segments."""
        import torch

        k = best.heaps.shape[1]
        count = group.stop - group.start
        floors = torch.from_numpy(best.bars[group]).to(self._device)
        lowest = torch.full((count, k), -torch.inf, dtype=torch.float64, device=self._device)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for number, matches in enumerate(matched):
            near = [
                self._dense[match.layer].near(match, group)
                if isinstance(match, DenseMatch)
                else self._local[match.layer].near(match, group)
                for match in matches
            ]
            pairs = []
            cut = FIRST_IMAGES if number == 0 else images[number]
            for block in _blocks(images[number], cut):
                bars = torch.maximum(lowest[:, -1], floors)
                query_of, rows = self._propose(near, maps, block, bars)
                lower, upper = _bounds(near, maps, query_of, rows)
                effort.narrowed += len(rows)
                kept = torch.nonzero(upper >= bars[query_of])[:, 0]
                query_of, rows, upper = query_of[kept], rows[kept], upper[kept]
                lowest = _keep_best(lowest, query_of, lower[kept])
                pairs.append((query_of, rows, upper))
            found.append(tuple(torch.cat(each) for each in zip(*pairs, strict=True)))  # type: ignore[arg-type]
        bars = torch.maximum(lowest[:, -1], floors)
        parts = [_above(bars, *each) for each in found]
        values = lowest.cpu().numpy()
        scan.keep_all(
            best.heaps[group], best.filled[group], values, np.isfinite(values).sum(axis=1)
        )
        none = (None,) * len(maps)
        return [
            Reached(query_of + group.start, rows, uppers, none) for query_of, rows, uppers in parts
        ]

    def _propose(
        self, near: Sequence[Near], maps: Sequence[LayerMap], block: slice, bars: "Tensor"
    ) -> tuple["Tensor", "Tensor"]:
        """Return the pairs of a block whose bound in float32 reaches the bar, by query and row."""
        import torch

        total = _mapped(near[0].highest(block), maps[0])
        for each, entry in zip(near[1:], maps[1:], strict=True):
            total += _mapped(each.highest(block), entry)
        query_of, rows = torch.nonzero(
            total >= (bars - scan.SINGLE_SLACK).float()[:, None], as_tuple=True
        )
        return query_of, rows + block.start

    def _check_room(self, wanted: int, images: int) -> None:
        import torch

        if not self._on_gpu:
            return
        free, whole = torch.cuda.mem_get_info(self._device)
        if wanted + ROOM > free:
            fitting = max(0, free - ROOM) * images // max(wanted, 1)
            raise InputError(
                f"{images:,} images take {wanted / 2**30:.1f} GiB and answering "
                f"{ROOM / 2**30:.0f} GiB, {free / 2**30:.1f} of {whole / 2**30:.1f} GiB are free "
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


def _blocks(images: int, first: int) -> Iterator[slice]:
    """Yield the first images, then all others."""
    yield slice(0, min(first, images))
    if images > first:
        yield slice(first, images)


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

    lower = rows.new_full(rows.shape, -scan.SLACK, dtype=torch.float64)
    upper = -lower
    for each, entry in zip(near, maps, strict=True):
        low, high = each.ends(query_of, rows)
        lower, upper = lower + _mapped(low, entry), upper + _mapped(high, entry)
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


def _above(
    bars: "Tensor", query_of: "Tensor", rows: "Tensor", uppers: "Tensor"
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that reach the bar, by query and row."""
    import torch

    kept = torch.nonzero(uppers >= bars[query_of])[:, 0]
    query_of, order = torch.sort(query_of[kept], stable=True)
    kept = kept[order]
    return query_of.cpu().numpy(), rows[kept].cpu().numpy(), uppers[kept].cpu().numpy()


def _joined(parts: Sequence[Reached], layers: int) -> Reached:
    """Bring together what groups of queries found in a segment."""
    query_of = [np.empty(0, np.int64), *(part.query_of for part in parts)]
    rows = [np.empty(0, np.int64), *(part.rows for part in parts)]
    uppers = [np.empty(0), *(part.uppers for part in parts)]
    joined = np.concatenate(query_of), np.concatenate(rows), np.concatenate(uppers)
    return Reached(*joined, (None,) * layers)
