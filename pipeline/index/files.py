"""Bags, posting lists and vectors as Arrow files that are memory-mapped, not parsed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.postings import Postings
from lamella.pipeline.index.sketch import Codes, Sketch
from lamella.pipeline.store.tables import (
    column,
    lists_of_type,
    map_arrow,
    of,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)

IMAGE_IDS = {"image_id": of(pa.int64())}
MEMBERS = IMAGE_IDS | {"shard": of(pa.int32()), "row": of(pa.int32())}
_BAGS = IMAGE_IDS | {name: lists_of_type(pa.uint32()) for name in ("words", "counts")}
_POSTINGS = {
    "rows": lists_of_type(pa.uint32()),
    "counts": lists_of_type(pa.uint8(), pa.uint16(), pa.uint32()),
}
_DENSE = IMAGE_IDS | {"vector": vectors_of_type(pa.float32()), "norm": of(pa.float64())}
_SKETCH = {
    "lead": vectors_of_type(pa.uint8()),
    "lead_error": of(pa.float32()),
    "rest": of(pa.float32()),
    "code": vectors_of_type(pa.uint8()),
    "error": of(pa.float32()),
}
_AXES = {
    "low": of(pa.float32()),
    "step": of(pa.float32()),
    "axes": vectors_of_type(pa.float32()),
}


def read_image_ids(path: Path) -> NDArray[np.int64]:
    """Map the file of a segment's image ids, (n,)."""
    return column(read_members(path), "image_id")


def read_members(path: Path) -> Any:
    """Map the file of a segment's images: image_id, rising; the number of the image's shard in the
    segment; and its row in that shard's image table.
    """
    return map_arrow(path, MEMBERS)


def as_lists(offsets: NDArray[np.int64], values: Any) -> Any:
    """Return an Arrow column of lists that shares its offsets and its values, an Arrow array."""
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)


def lists_of(table: Any, name: str, dtype: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the offsets (n + 1,) and the values (m,) of a column of lists."""
    chunks = table.column(name).chunks
    if not chunks:
        return np.zeros(1, np.int64), np.empty(0, dtype)
    (chunk,) = chunks
    return chunk.offsets.to_numpy(), chunk.values.to_numpy()


def write_bags(image_ids: NDArray[np.int64], bags: BagsOfWords, path: Path) -> int:
    """Write a forward file: each image's words and counts; return the number of images."""
    columns = {
        "image_id": pa.array(image_ids),
        "words": as_lists(bags.offsets, pa.array(bags.words)),
        "counts": as_lists(bags.offsets, pa.array(bags.counts)),
    }
    return write_arrow(pa.table(columns), path)


def read_bags(path: Path) -> tuple[NDArray[np.int64], BagsOfWords]:
    """Map a forward file: image ids (n,) and their bags. Raises ValueError where it is none."""
    table = map_arrow(path, _BAGS)
    offsets, words = lists_of(table, "words", np.uint32)
    _, counts = lists_of(table, "counts", np.uint32)
    return column(table, "image_id").astype(np.int64), BagsOfWords(offsets, words, counts)


def write_postings(postings: Postings, path: Path) -> int:
    """Write an inverted file: each word's rows and counts; return the number of words."""
    columns = {
        "rows": as_lists(postings.offsets, pa.array(postings.rows)),
        "counts": as_lists(postings.offsets, pa.array(postings.counts)),
    }
    return write_arrow(pa.table(columns), path)


def read_postings(path: Path) -> Postings:
    """Map an inverted file. Raises ValueError where it is none."""
    table = map_arrow(path, _POSTINGS)
    offsets, rows = lists_of(table, "rows", np.uint32)
    _, counts = lists_of(table, "counts", np.uint32)
    return Postings(offsets, rows, counts)


def write_dense(
    image_ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    norms: NDArray[np.float64],
    path: Path,
) -> int:
    """Write a dense file: vectors (n, D) and their lengths (n,); return n."""
    columns = {
        "image_id": pa.array(image_ids),
        "vector": vectors_column(vectors),
        "norm": pa.array(norms),
    }
    return write_arrow(pa.table(columns), path)


def read_dense(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """Map a dense file: image ids (n,), vectors (n, D), lengths (n,).

    Raises:
        ValueError: it is no such file.
    """
    table = map_arrow(path, _DENSE)
    return (
        column(table, "image_id").astype(np.int64),
        vectors_of(table, "vector"),
        column(table, "norm"),
    )


def write_sketch(sketch: Sketch, path: Path) -> int:
    """Write what a sketch holds of each vector; return the number of vectors."""
    columns = {
        "lead": vectors_column(sketch.leads.codes),
        "lead_error": pa.array(sketch.leads.errors),
        "rest": pa.array(sketch.rests),
        "code": vectors_column(sketch.whole.codes),
        "error": pa.array(sketch.whole.errors),
    }
    return write_arrow(pa.table(columns), path)


def check_finite(image_ids: NDArray[np.int64], vectors: NDArray[Any], layer: str) -> None:
    """Check vectors of a segment, (n, D), as they are read: a file that was written wrong opens.

    Args:
        image_ids: (n,), whose they are.

    Raises:
        CorruptFile: one is not finite.
    """
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise CorruptFile(
            f"image {image_ids[np.argmin(finite)]} has a vector in layer {layer} that is not "
            "finite: its segment was written wrong; index anew, or use a store that you trust"
        )


def write_axes(sketch: Sketch, path: Path) -> int:
    """Write what a sketch holds of all vectors together: a row a dimension; return their number."""
    columns = {
        "low": pa.array(sketch.whole.lows),
        "step": pa.array(sketch.whole.steps),
        "axes": vectors_column(np.ascontiguousarray(sketch.axes.T)),
    }
    leads = {
        "lead_lows": sketch.leads.lows.astype("<f4").tobytes(),
        "lead_steps": sketch.leads.steps.astype("<f4").tobytes(),
    }
    return write_arrow(pa.table(columns).replace_schema_metadata(leads), path)


def read_sketch(sketch: Path, axes: Path) -> Sketch:
    """Map a sketch from its two files. Raises ValueError, KeyError where they are none."""
    rows, shared = map_arrow(sketch, _SKETCH), map_arrow(axes, _AXES)
    stored = shared.schema.metadata or {}
    lows, steps = (np.frombuffer(stored[name], "<f4") for name in (b"lead_lows", b"lead_steps"))
    return Sketch(
        axes=np.ascontiguousarray(vectors_of(shared, "axes").T),
        leads=Codes(lows, steps, vectors_of(rows, "lead"), column(rows, "lead_error")),
        rests=column(rows, "rest"),
        whole=Codes(
            column(shared, "low"),
            column(shared, "step"),
            vectors_of(rows, "code"),
            column(rows, "error"),
        ),
    )
