"""Build the proposer of a segment with FAISS, from unit vectors and the frame of their layer."""

from typing import Any

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, UInt8s
from lamella.pipeline.index.sketch import LEADING, unit_rows
from lamella.pipeline.proposers.frame import Frame
from lamella.pipeline.proposers.library import faiss_module, one_thread
from lamella.pipeline.run.budget import PROCESS_BYTES
from lamella.pipeline.signs import signed
from lamella.schemas.query import ProposerKind

NEIGHBOURS = 32
"""Links of an image in a graph, twice as many on its lowest level; FAISS's default."""

BLOCK_ROWS = 4_096
"""Rows that are added at a time."""


def build_proposer(kind: ProposerKind, frame: Frame, vectors: Float32s, norms: Float64s) -> UInt8s:
    """Return the serialised index of vectors over their lengths, whose ids are their rows.

    FAISS runs with one thread: the same bytes whatever the environment allows. An index of cells
    comes without the centres, which are in the frame, once for all segments.

    Args:
        vectors: (n, D), read a block at a time.
        norms: (n,), their lengths.
    """
    faiss = faiss_module()
    with one_thread(faiss):
        starts = signed(range(0, max(len(vectors), 1), BLOCK_ROWS))
        blocks = (_turned(frame, vectors, norms, start) for start in starts)
        if kind == "cagra":
            index = _on_gpu(faiss, np.concatenate(list(blocks)))
        else:
            index = _cells(faiss, frame) if kind == "ivf" else _graph(faiss, frame)
            for rows in blocks:
                _add(faiss, index, frame, rows)
        data: UInt8s = faiss.serialize_index(index)
    return data


def proposer_memory(images: int, dimensions: int) -> dict[str, int]:
    """Return the peak bytes of a worker that builds a segment's proposers, by what holds them.

    Args:
        dimensions: of a vector, of the widest layer.
    """
    axes = min(LEADING, dimensions)
    return {
        "process": PROCESS_BYTES,
        "vectors": 4 * images * dimensions + 5 * 4 * BLOCK_ROWS * dimensions,
        # An image's codes, its links and, with room to grow, both once more to be written.
        "index": 4 * images * bytes_of_image("hnsw", axes),
    }


def bytes_of_image(kind: ProposerKind, axes: int) -> int:
    """Return about the bytes of an image in a proposer: codes, and its id or its links."""
    if kind == "ivf":
        return axes + 8
    codes = axes if kind == "hnsw" else 4 * axes
    # Links, a few on higher levels (one image in 31 is there); its level, and where its links end.
    return codes + 4 * (2 * NEIGHBOURS + 1) + 4 + 8


def _turned(frame: Frame, vectors: Float32s, norms: Float64s, start: int) -> Float32s:
    """Return a block of vectors on the axes, each over its length."""
    block = slice(start, start + BLOCK_ROWS)
    return frame.turn(unit_rows(vectors[block], norms[block]))


def _cells(faiss: Any, frame: Frame) -> Any:
    dimensions = len(frame.axes)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimensions),
        dimensions,
        len(frame.centres),
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    _set_ranges(faiss, index.sq, frame)
    index.is_trained = True
    return index


def _graph(faiss: Any, frame: Frame) -> Any:
    dimensions, codes = len(frame.axes), faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexHNSWSQ(dimensions, codes, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    storage = faiss.downcast_index(index.storage)
    _set_ranges(faiss, storage.sq, frame)
    storage.is_trained = index.is_trained = True
    return index


def _set_ranges(faiss: Any, quantizer: Any, frame: Frame) -> None:
    faiss.copy_array_to_vector(np.concatenate([frame.lows, frame.spans]), quantizer.trained)


def _add(faiss: Any, index: Any, frame: Frame, rows: Float32s) -> None:
    if not len(frame.centres):
        index.add(rows)
        return
    ids = np.arange(index.ntotal, index.ntotal + len(rows), dtype=np.int64)
    cells = frame.cells_of(rows)  # has a name, for FAISS gets no more than its address
    addresses = (faiss.swig_ptr(each) for each in (rows, ids, cells))
    index.add_core(len(rows), *addresses)


def _on_gpu(faiss: Any, rows: Float32s) -> Any:
    dimensions, metric = rows.shape[1], faiss.METRIC_INNER_PRODUCT
    built = faiss.GpuIndexCagra(faiss.StandardGpuResources(), dimensions, metric)
    built.train(rows)
    index = faiss.IndexHNSWCagra(dimensions, NEIGHBOURS, metric)
    built.copyTo(index)
    return index
