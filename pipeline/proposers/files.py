"""The files of proposers: frames as Arrow files, indexes as FAISS serialises them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Float32s, UInt8s
from lamella.pipeline.errors import CorruptFile, IncompatibleInputs, one_line
from lamella.pipeline.proposers.frame import Frame
from lamella.pipeline.proposers.library import faiss_module
from lamella.pipeline.store.commit import open_committed, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import (
    column,
    map_arrow,
    of,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)
from lamella.schemas.files import FileRef
from lamella.schemas.query import ProposerKind
from lamella.schemas.snapshot import Proposers

_AXES = {
    "axis": vectors_of_type(pa.float32()),
    "low": of(pa.float32()),
    "span": of(pa.float32()),
}
_CENTRES = {"centre": vectors_of_type(pa.float32())}


def write_axes(frame: Frame, path: Path) -> int:
    """Write the axes of a frame and the range of each, a row an axis; return their number."""
    columns = {
        "axis": vectors_column(frame.axes),
        "low": pa.array(frame.lows),
        "span": pa.array(frame.spans),
    }
    return write_arrow(pa.table(columns), path)


def write_centres(frame: Frame, path: Path) -> int:
    """Write the centres of a frame, a row a cell; return their number."""
    return write_arrow(pa.table({"centre": vectors_column(frame.centres)}), path)


def read_frame(store: Store, files: Mapping[str, FileRef]) -> Frame:
    """Read a frame from its files, `axes` and, where there are cells, `centres`.

    Raises:
        MissingFile, CorruptFile: as `read_committed`, or the files do not fit together.
    """
    axes = read_committed(store, files["axes"], lambda path: map_arrow(path, _AXES))
    centres = np.empty((0, axes.num_rows), np.float32)
    if "centres" in files:
        centres = read_committed(store, files["centres"], _read_centres)
    return read_committed(
        store,
        files["axes"],
        lambda _: Frame(
            vectors_of(axes, "axis"), column(axes, "low"), column(axes, "span"), centres
        ),
    )


def _read_centres(path: Path) -> Float32s:
    centres: Float32s = vectors_of(map_arrow(path, _CENTRES), "centre")
    return centres


def write_index(data: UInt8s, images: int, path: Path) -> int:
    """Write a serialised index; return the number of its images."""
    data.tofile(path)
    return images


def read_index(store: Store, reference: FileRef, frame: Frame, images: int, made: Proposers) -> Any:
    """Return the index in a file, once it is the file that the snapshot names.

    FAISS trusts what it reads, so nothing else is given to it. Codes and ids of cells stay in the
    file, which is mapped; a graph is held in memory.

    Args:
        frame: of its layer.
        images: how many it has to hold.
        made: what the snapshot says of its proposers.

    Raises:
        MissingFile, CorruptFile: as `read_committed`.
        CorruptFile: it is not what the snapshot says: it was written wrong.
        IncompatibleInputs: likewise, and another FAISS wrote it.
    """
    path, faiss = open_committed(store, reference), faiss_module()
    try:
        index = _read(faiss, path, made.kind)
        wrong = _wrong(faiss, index, frame, images, made.kind)
    except (RuntimeError, AttributeError) as error:  # FAISS cannot read it, or it lacks a part
        wrong = one_line(error)
    if not wrong:
        return index
    if faiss.__version__ != made.faiss:
        raise IncompatibleInputs(
            f"{reference.path} was built by FAISS {made.faiss}, and FAISS {faiss.__version__}, "
            f"which is installed, does not read it ({wrong}): install faiss {made.faiss}, or give "
            "`lamella index` with the same settings again, which makes the proposers anew"
        )
    raise CorruptFile(
        f"{reference.path} has the SHA-256 on record and is not what it must be: {wrong}; so it "
        f"was written wrong, by whoever made {store.url}: index anew, or use a store that you trust"
    )


def _read(faiss: Any, path: Path, kind: ProposerKind) -> Any:
    """Return the index in a file; its cells are mapped.

    A file that is changed in place after its check can give a mapped list wrong numbers, and each
    row that is found is checked. Links of a graph are addresses that FAISS follows unchecked.
    """
    if kind == "ivf":
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    return faiss.deserialize_index(np.fromfile(path, np.uint8))


def _wrong(faiss: Any, index: Any, frame: Frame, images: int, kind: ProposerKind) -> str:
    """Return what of an index contradicts the snapshot, "" if nothing does."""
    classes = {"ivf": "IndexIVFScalarQuantizer", "hnsw": "IndexHNSWSQ", "cagra": "IndexHNSWCagra"}
    pairs = [
        ("its class", type(index).__name__, classes.get(kind)),
        ("its dimensions", index.d, len(frame.axes)),
        ("its images", index.ntotal, images),
        ("its metric", index.metric_type, faiss.METRIC_INNER_PRODUCT),
    ]
    if all(found == wanted for _, found, wanted in pairs):
        pairs += _inside(faiss, index, frame, images, kind)
    unlike = (
        f"{what} {found}, {wanted} wanted" for what, found, wanted in pairs if found != wanted
    )
    return ", ".join(unlike)


def _inside(
    faiss: Any, index: Any, frame: Frame, images: int, kind: ProposerKind
) -> list[tuple[str, Any, Any]]:
    """Return parts of an index on which a search relies, each as it is and as it must be."""
    if kind == "ivf":
        lists = faiss.downcast_InvertedLists(index.invlists)
        return [
            ("its lists", type(lists).__name__, "ArrayInvertedLists"),
            ("its cells", index.nlist, len(frame.centres)),
            ("images in its cells", lists.compute_ntotal(), images),
            ("bytes of a code", lists.code_size, len(frame.axes)),
            ("codes of differences", index.by_residual, False),
        ]
    graph = index.hnsw
    links = faiss.vector_to_array(graph.neighbors)
    ends = faiss.vector_to_array(graph.offsets).astype(np.int64)
    sound = len(ends) == images + 1 and ends[-1] == len(links) and not np.any(np.diff(ends) < 0)
    inside = not len(links) or (links.min() >= -1 and links.max() < images)
    return [
        ("its links", bool(sound and inside), True),
        ("its entry point", -1 <= graph.entry_point < images, True),
        ("images in its storage", faiss.downcast_index(index.storage).ntotal, images),
    ]
