"""Proposers of a segment, opened: they find images that are likely near, without a look at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lamella.pipeline.arrays import Bools, Float32s, Int64s
from lamella.pipeline.errors import CorruptFile, InputError
from lamella.pipeline.proposers.files import read_frame, read_index
from lamella.pipeline.proposers.frame import Frame
from lamella.pipeline.proposers.library import faiss_module, one_thread
from lamella.pipeline.store.protocol import Store
from lamella.schemas.snapshot import IndexSnapshot, Proposers, SegmentRef

BELOW_ALL = -2.0
"""Below the product of any two vectors of length 1."""


@dataclass(frozen=True, eq=False)
class Looked:
    """The images of a segment that a proposer looked at, flat by query and in no order.

    Attributes:
        offsets: (Q + 1,) int64, where the images of each query begin.
        rows: (m,) int64, of the segment.
        scores: (m,) float32: cosines but for rounding and the part off the axes.
    """

    offsets: Int64s
    rows: Int64s
    scores: Float32s


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries as the proposers of a layer take them: the same in all segments of a snapshot.

    Attributes:
        turned: (Q, d) float32, on the axes of the frame.
        cells: (Q, reach) int64 that are looked into; None for graphs.
        reach: as for `Proposer.ask`.
    """

    turned: Float32s
    cells: Int64s | None
    reach: int


class Proposer(Protocol):
    """Looks at likely images of a segment in a layer, in the thread that calls; several may at
    once.

    To look into many segments, `ask` one: the comparison with all centres is then made once.
    """

    def __len__(self) -> int:
        """The number of images."""
        ...

    def ask(self, units: Float32s, reach: int) -> Asked:
        """Return queries as all segments take them.

        Args:
            units: (Q, D) float32, of length 1.
            reach: cells that are looked into (ivf), or entries of the search list (hnsw, cagra).

        Raises:
            ValueError: queries of other dimensions.
        """
        ...

    def look(self, asked: Asked, allowed: Bools | None = None) -> Looked:
        """Return the images in the cells of each query, or those its search list ended with.

        Args:
            allowed: (n,) images that may be found; all by default.

        Raises:
            ValueError: queries of another layer, or not as many `allowed` as images.
            CorruptFile: the index names an image that there is not.
        """
        ...


@dataclass(frozen=True, eq=False)
class FaissProposer:
    """A proposer that asks an index of FAISS.

    Attributes:
        path: of its file, for messages.
        index: as `read_index` returns it.
    """

    path: str
    frame: Frame
    index: Any
    images: int

    def __len__(self) -> int:
        """See `Proposer`."""
        return self.images

    def ask(self, units: Float32s, reach: int) -> Asked:
        """See `Proposer`."""
        turned, cells = self.frame.turn(units), len(self.frame.centres)
        near = self.frame.cells_near(turned, min(reach, cells)) if cells else None
        return Asked(turned, near, reach)

    def look(self, asked: Asked, allowed: Bools | None = None) -> Looked:
        """See `Proposer`."""
        faiss, queries = faiss_module(), len(asked.turned)
        if asked.turned.shape[1] != len(self.frame.axes) or (
            allowed is not None and allowed.shape != (self.images,)
        ):
            raise ValueError(
                f"queries are on {len(self.frame.axes)} axes, `allowed` is of {self.images:,} "
                f"images; got {asked.turned.shape}, {None if allowed is None else allowed.shape}"
            )
        if not self.images or not queries:
            none = np.empty(0, np.int64), np.empty(0, np.float32)
            return Looked(np.zeros(queries + 1, np.int64), *none)
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        with one_thread(faiss):
            if asked.cells is None:
                looked = self._in_graph(faiss, asked, selector)
            else:
                looked = self._in_cells(faiss, asked.turned, asked.cells, selector)
        if len(looked.rows) and (looked.rows.min() < 0 or looked.rows.max() >= self.images):
            raise CorruptFile(
                f"{self.path} names row {looked.rows.max()} of {self.images:,}: it was written "
                "wrong; index anew, or use a store that you trust"
            )
        return looked

    def _in_graph(self, faiss: Any, asked: Asked, selector: Any) -> Looked:
        """Return the images that the search list of each query ended with."""
        settings = faiss.SearchParametersHNSW(sel=selector, efSearch=asked.reach)
        most = min(asked.reach, self.images)
        scores, rows = self.index.search(asked.turned, most, params=settings)
        there = rows >= 0
        offsets = np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int64)
        return Looked(offsets, rows[there], scores[there])

    def _in_cells(self, faiss: Any, turned: Float32s, cells: Int64s, selector: Any) -> Looked:
        """Return all images in the cells of each query: FAISS takes longer to put some in order."""
        settings = faiss.SearchParametersIVF(sel=selector, nprobe=cells.shape[1])
        found = faiss.RangeSearchResult(len(turned))
        unused = np.zeros(cells.shape, np.float32)  # how near centres are matters to residuals
        given = faiss.swig_ptr(turned), BELOW_ALL, faiss.swig_ptr(cells), faiss.swig_ptr(unused)
        self.index.range_search_preassigned_c(len(turned), *given, found, False, settings)
        offsets = faiss.rev_swig_ptr(found.lims, len(turned) + 1).astype(np.int64)
        count = int(offsets[-1])
        rows = faiss.rev_swig_ptr(found.labels, count).copy()
        return Looked(offsets, rows, faiss.rev_swig_ptr(found.distances, count).copy())


def open_frames(store: Store, snapshot: IndexSnapshot) -> dict[str, Frame]:
    """Return the frames of a snapshot, by global layer.

    Raises:
        InputError: the snapshot has no proposers.
        MissingFile, CorruptFile: a file is missing or damaged, or was written wrong.
    """
    made = _made(snapshot)
    layers = [layer.name for layer in snapshot.extraction.layers if layer.kind == "global"]
    return {layer: read_frame(store, _files_of(made, layer)) for layer in layers}


def open_proposers(
    store: Store,
    snapshot: IndexSnapshot,
    segment: SegmentRef,
    frames: Mapping[str, Frame] | None = None,
) -> dict[str, Proposer]:
    """Return the proposers of a segment, by global layer.

    Args:
        frames: as `open_frames` returns them, to be read once for several segments.

    Raises:
        InputError: the snapshot has no proposers, or FAISS is not installed.
        IncompatibleInputs: another FAISS built them, whose files this one does not read.
        MissingFile, CorruptFile: a file is missing or damaged, or was written wrong.
    """
    made = _made(snapshot)
    opened: dict[str, Proposer] = {}
    for layer, frame in (frames or open_frames(store, snapshot)).items():
        if (reference := segment.files.get(f"{layer}.proposer")) is None:
            raise CorruptFile(
                f"segment {segment.key} of snapshot {snapshot.number} has no proposer of layer "
                f"{layer}, and the snapshot says it has: index anew, or use a store that you trust"
            )
        index = read_index(store, reference, frame, segment.images, made)
        opened[layer] = FaissProposer(reference.path, frame, index, segment.images)
    return opened


def _made(snapshot: IndexSnapshot) -> Proposers:
    if snapshot.proposers is None:
        raise InputError(
            f"snapshot {snapshot.number} was indexed without proposers: index again with "
            'index.proposer = "ivf" or "hnsw", which makes these alone, or search in mode exact'
        )
    return snapshot.proposers


def _files_of(made: Proposers, layer: str) -> dict[str, Any]:
    """Return the files of a layer's frame, `axes` and `centres`.

    Raises:
        CorruptFile: the snapshot does not name them all.
    """
    wanted = ("axes", "centres") if made.cells else ("axes",)
    missing = [name for name in wanted if f"{layer}.{name}" not in made.frames]
    if missing:
        raise CorruptFile(
            f"the snapshot names no {missing[0]} of the frame of layer {layer}: it was written "
            "wrong; index anew, or use a store that you trust"
        )
    return {name: made.frames[f"{layer}.{name}"] for name in wanted}
