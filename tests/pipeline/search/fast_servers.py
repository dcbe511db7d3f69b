"""Segments with proposers in memory, as shard servers: what the tests of fast search ask."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import faiss
import numpy as np

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s
from lamella.pipeline.index.postings import document_frequencies
from lamella.pipeline.proposers.opened import Asked, Found, Proposer
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

    def find(self, units: Float32s, count: int, reach: int, allowed: Bools | None = None) -> Found:
        return self.find_asked(self.ask(units, reach), count, allowed)

    def find_asked(self, asked: Asked, count: int, allowed: Bools | None = None) -> Found:
        units = asked.turned
        # A product at a time: those of a matrix differ with its shape.
        scores = (units[:, None, :].astype(np.float64) * self._units[None]).sum(axis=2)
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(scores, rows, axis=1)
        return Found(np.where(np.isfinite(best), rows, -1), best.astype(np.float32))


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
        self._index.train(centres)
        self._index.add(units)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def ask(self, units: Float32s, reach: int) -> Asked:
        return Asked(units, None, reach)

    def find(self, units: Float32s, count: int, reach: int, allowed: Bools | None = None) -> Found:
        return self.find_asked(self.ask(units, reach), count, allowed)

    def find_asked(self, asked: Asked, count: int, allowed: Bools | None = None) -> Found:
        faiss.omp_set_num_threads(1)  # of the calling thread alone
        parameters: Any = faiss.SearchParametersIVF
        near = parameters(nprobe=asked.reach)
        if allowed is not None:
            bitmap: Any = faiss.IDSelectorBitmap
            near.sel = bitmap(np.packbits(allowed, bitorder="little"))
        scores, rows = self._index.search(np.ascontiguousarray(asked.turned), count, params=near)
        return Found(rows, scores)


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
    cells: int = 8, proposed: int = 1_000, postings: int = 1 << 40, recall: float = 1.0
) -> Reach:
    return Reach(recall=recall, cells=cells, proposed=proposed, postings=postings)


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
