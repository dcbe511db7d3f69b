"""Segments with proposers in memory, as shard servers: what the tests of fast search ask."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import faiss
import numpy as np

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s
from lamella.pipeline.index.postings import document_frequencies
from lamella.pipeline.proposers.opened import Asked, Looked, Proposer
from lamella.pipeline.search.candidates import find_reached
from lamella.pipeline.search.propose import Proposing
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, ResidualLayer, SegmentData
from lamella.schemas.extraction import LayerKind
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import IndexSnapshot, Proposers, Reach


class Exact:
    """A proposer that looks at everything, whatever its reach."""

    def __init__(self, layer: DenseLayer) -> None:
        norms = np.where(layer.norms > 0.0, layer.norms, 1.0)
        self._units = layer.vectors / norms[:, None]

    def __len__(self) -> int:
        return len(self._units)

    def ask(self, units: Float32s, reach: int) -> Asked:
        return Asked(units, None, reach)

    def look(self, asked: Asked, allowed: Bools | None = None) -> Looked:
        units = asked.turned
        # A product at a time: those of a matrix differ with its shape.
        scores = (units[:, None, :].astype(np.float64) * self._units[None]).sum(axis=2)
        rows = np.flatnonzero(np.ones(len(self), np.bool_) if allowed is None else allowed)
        offsets = np.arange(len(units) + 1, dtype=np.int64) * len(rows)
        seen = scores[:, rows].astype(np.float32).reshape(-1)
        return Looked(offsets, np.tile(rows, len(units)), seen)


class Cells:
    """A FAISS index of cells that all segments share."""

    def __init__(self, layer: DenseLayer, centres: Float32s) -> None:
        norms = np.where(layer.norms > 0.0, layer.norms, 1.0)
        units = (layer.vectors / norms[:, None]).astype(np.float32)
        self._quantizer = faiss.IndexFlatIP(centres.shape[1])
        self._quantizer.add(centres)
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantizer, centres.shape[1], len(centres),
            faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT,
        )  # fmt: skip
        self._index.by_residual = False  # as the products with centres are not given
        self._index.train(centres)
        self._index.add(units)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def ask(self, units: Float32s, reach: int) -> Asked:
        return Asked(units, None, reach)

    def look(self, asked: Asked, allowed: Bools | None = None) -> Looked:
        faiss.omp_set_num_threads(1)  # of the calling thread alone
        _, cells = self._quantizer.search(np.ascontiguousarray(asked.turned), asked.reach)
        self._index.nprobe = asked.reach
        look: Any = self._index.range_search_preassigned
        offsets, scores, rows = look(asked.turned, -2.0, cells, None)
        query_of = np.repeat(np.arange(len(asked.turned)), np.diff(offsets.astype(np.int64)))
        kept = np.ones(len(rows), np.bool_) if allowed is None else allowed[rows]
        ends = np.cumsum(np.bincount(query_of[kept], minlength=len(asked.turned)))
        return Looked(np.append(0, ends).astype(np.int64), rows[kept], scores[kept])


class Servers:
    """Shard servers in this process; segments are given to each in turn.

    Args:
        segments: of a corpus, in the order of its snapshot.
        proposers: of each, by global layer; exact ones by default.
        masks: of each, by filter.
    """

    def __init__(
        self,
        segments: Sequence[SegmentData],
        weights: Mapping[str, Float64s],
        servers: int = 1,
        proposers: Sequence[Mapping[str, Proposer]] | None = None,
        masks: Mapping[str, Sequence[Bools]] | None = None,
    ) -> None:
        own = proposers or [exact_proposers(segment) for segment in segments]
        frequencies: dict[str, Int64s] = {}
        for segment in segments:
            for name, layer in segment.layers.items():
                if isinstance(layer, LocalLayer | ResidualLayer):
                    found = document_frequencies(layer.postings)
                    frequencies[name] = frequencies.get(name, np.zeros_like(found)) + found
        self.searchers = []
        for server in range(servers):
            numbers = range(server, len(segments), servers)
            searcher = SegmentSearcher.__new__(SegmentSearcher)
            searcher.segments = [segments[n] for n in numbers]
            searcher._served = dict.fromkeys(numbers)  # type: ignore[assignment]
            searcher._weights, searcher._find = dict(weights), find_reached
            proposing = [Proposing.of(segments[n], n, own[n]) for n in numbers]
            searcher.__dict__["_proposing"] = proposing, frequencies
            held = {where: [each[n] for n in numbers] for where, each in (masks or {}).items()}
            searcher._allowed = _Held(held)  # type: ignore[assignment]
            self.searchers.append(searcher)

    def __len__(self) -> int:
        return len(self.searchers)

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        return [getattr(each, question)(*arguments) for each in self.searchers]


class _Held:
    def __init__(self, masks: Mapping[str, Sequence[Bools]]) -> None:
        self._masks = masks

    def masks(self, where: str) -> Sequence[Bools]:
        return self._masks[where]


def exact_proposers(segment: SegmentData) -> dict[str, Proposer]:
    layers = segment.layers.items()
    return {name: Exact(layer) for name, layer in layers if isinstance(layer, DenseLayer)}


def known(*reaches: Reach, k: int = 10, cells: int = 8) -> Proposers:
    """Return what a snapshot says of its proposers."""
    return Proposers(kind="ivf", faiss="1", cells=cells, k=k, queries=5, reaches=reaches)


def reach(
    cells: int = 8,
    proposed: int = 1_000,
    postings: int = 1 << 40,
    recall: float = 1.0,
    decided: int = 2_000,
) -> Reach:
    return Reach(recall=recall, cells=cells, proposed=proposed, postings=postings, decided=decided)


def drafted(
    images: int, fusion: FusionSpec, kinds: Mapping[str, LayerKind], proposers: Proposers | None
) -> IndexSnapshot:
    """Return what `tune` reads of a snapshot."""
    layers = [SimpleNamespace(name=name, kind=kind) for name, kind in kinds.items()]
    draft = SimpleNamespace(
        number=1,
        indexed=images,
        fusion=fusion,
        proposers=proposers,
        extraction=SimpleNamespace(layers=layers),
    )
    return cast(IndexSnapshot, draft)
