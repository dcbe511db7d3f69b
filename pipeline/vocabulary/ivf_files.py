"""Cells and neighbours of words as Arrow files."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import UInt32s
from lamella.pipeline.store.tables import (
    lists_of_type,
    map_arrow,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)
from lamella.pipeline.vocabulary.ivf import Cells

_CELLS = {"centre": vectors_of_type(pa.float32()), "words": lists_of_type(pa.uint32())}
_NEIGHBOURS = {"neighbours": vectors_of_type(pa.uint32())}


def write_cells(cells: Cells, path: Path) -> int:
    """Write cells as an Arrow file, a row a cell; return their number."""
    lists = pa.LargeListArray.from_arrays(pa.array(cells.offsets), pa.array(cells.members))
    return write_arrow(pa.table({"centre": vectors_column(cells.centres), "words": lists}), path)


def read_cells(path: Path) -> Cells:
    """Map a file of cells."""
    table = map_arrow(path, _CELLS)
    lists = table.column("words").combine_chunks()
    return Cells(
        vectors_of(table, "centre"),
        np.asarray(lists.offsets).astype(np.int64),
        np.asarray(lists.values).astype(np.uint32),
    )


def write_neighbours(neighbours: UInt32s, path: Path) -> int:
    """Write the neighbours of some words as an Arrow file; return the number of words."""
    return write_arrow(pa.table({"neighbours": vectors_column(neighbours)}), path)


def read_neighbours(path: Path) -> UInt32s:
    """Map a file of neighbours, (K, m) uint32."""
    return vectors_of(map_arrow(path, _NEIGHBOURS), "neighbours")
