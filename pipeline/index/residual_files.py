"""Residuals as Arrow files that are memory-mapped, checked as they are read.

A shard's file, like one of queries, has them by image. A segment's has them in the order of its
posting lists alone: a search reads a word's residuals in one run, and finds an image's by looking
for its row in the lists of its words, a few steps each. So they lie on disk once.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.files import IMAGE_IDS, as_lists, lists_of
from lamella.pipeline.index.residuals import Residuals, by_word, check_payload
from lamella.pipeline.store.tables import (
    column,
    lists_of_type,
    map_arrow,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)


def _is_residual(found: Any) -> bool:
    return any(vectors_of_type(kind)(found) for kind in (pa.float16(), pa.uint8()))


_RESIDUALS = IMAGE_IDS | {
    "words": lists_of_type(pa.uint32()),
    "counts": lists_of_type(pa.uint32()),
    "residuals": lambda found: (
        bool(pa.types.is_large_list(found)) and _is_residual(found.value_type)
    ),
}
_PAYLOAD = {"residual": _is_residual}


def write_residuals(image_ids: NDArray[np.int64], residuals: Residuals, path: Path) -> int:
    """Write each image's words, counts and residuals; return the number of images."""
    bags = residuals.bags
    columns = {
        "image_id": pa.array(image_ids),
        "words": as_lists(bags.offsets, pa.array(bags.words)),
        "counts": as_lists(bags.offsets, pa.array(bags.counts)),
        "residuals": as_lists(bags.offsets, vectors_column(residuals.payload)),
    }
    return write_arrow(_with(pa.table(columns), residuals.dimensions), path)


def read_residuals(path: Path) -> tuple[NDArray[np.int64], Residuals]:
    """Map a file of residuals by image: image ids (n,) and their residuals.

    Raises:
        ValueError: it is none.
    """
    table = map_arrow(path, _RESIDUALS)
    offsets, words = lists_of(table, "words", np.uint32)
    _, counts = lists_of(table, "counts", np.uint32)
    lists = table.column("residuals")
    kept = pa.chunked_array([chunk.values for chunk in lists.chunks], lists.type.value_type)
    payload = vectors_of(pa.table({"residual": kept}), "residual")
    bags = BagsOfWords(offsets, words, counts)
    return column(table, "image_id").astype(np.int64), Residuals(bags, payload, _dimensions(table))


def write_payload(residuals: Residuals, path: Path) -> int:
    """Write residuals in the order of their posting lists; return their number."""
    table = pa.table({"residual": vectors_column(by_word(residuals))})
    return write_arrow(_with(table, residuals.dimensions), path)


def read_payload(path: Path) -> tuple[NDArray[Any], int]:
    """Map a segment's residuals: (m, width) as `check_payload` returns them, and the dimensions.

    Raises:
        ValueError: it is no such file, or a residual has not unit length.
    """
    table = map_arrow(path, _PAYLOAD)
    dimensions = _dimensions(table)
    return check_payload(vectors_of(table, "residual"), dimensions), dimensions


def _with(table: Any, dimensions: int) -> Any:
    return table.replace_schema_metadata({"dimensions": str(dimensions)})


def _dimensions(table: Any) -> int:
    """Return the dimensions that a file states; `check_payload` compares them with its width."""
    return int((table.schema.metadata or {}).get(b"dimensions", b"none"))
