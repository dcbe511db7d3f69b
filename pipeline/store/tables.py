"""Parquet for what is streamed, Arrow files for what is memory-mapped; both without surprises.

Bytes depend on the rows alone: no time stamps, no threads in the writers. Parquet pages carry
checksums, which are verified on reading (both are off by default in Arrow).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROW_GROUP = 65_536


PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "write_page_checksum": True,
    "use_dictionary": False,
}
"""How every Parquet file is written. Dictionaries cost time and bytes on vectors."""


def write_parquet(table: pa.Table, path: Path, *, row_group: int = ROW_GROUP) -> int:
    """Write a table and return its number of rows."""
    pq.write_table(table, path, row_group_size=row_group, **PARQUET_OPTIONS)
    return int(table.num_rows)


def write_parquet_parts(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> int:
    """Write tables of one schema to one file, one after the other; return how many rows."""
    rows = 0
    with pq.ParquetWriter(path, schema, **PARQUET_OPTIONS) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
    return rows


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a whole table, verifying page checksums."""
    return pq.read_table(path, columns=columns, page_checksum_verification=True)


def write_arrow(table: pa.Table, path: Path) -> int:
    """Write a table as one record batch of an Arrow file, ready to be memory-mapped."""
    batches = table.combine_chunks().to_batches()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return int(table.num_rows)


def map_arrow(path: Path) -> pa.Table:
    """Open an Arrow file without reading it: its columns are views of the mapped file."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column of numbers without nulls as an array, not copied where it is one chunk."""
    return np.asarray(table.column(name).to_numpy())


def vectors_column(vectors: NDArray[Any]) -> pa.FixedSizeListArray:
    """Return (n, D) numbers as an Arrow column of n fixed-size lists, without a copy."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    field = pa.field("item", flat.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(field, vectors.shape[1]))


def vectors_of(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column made by `vectors_column` as an (n, D) array."""
    chunked = table.column(name)
    dimensions = chunked.type.list_size
    parts = [np.asarray(chunk.flatten()).reshape(-1, dimensions) for chunk in chunked.chunks]
    if len(parts) == 1:
        return parts[0]
    dtype = chunked.type.value_type.to_pandas_dtype()
    return np.concatenate(parts) if parts else np.empty((0, dimensions), dtype)


def binary_vectors_column(vectors: NDArray[Any]) -> pa.Array:
    """Return (n, D) numbers as n fixed-size binary values.

    Parquet stores these many times faster than lists (measured elsewhere: Arrow issue 34510).
    """
    contiguous = np.ascontiguousarray(vectors)
    width = contiguous.shape[1] * contiguous.itemsize
    return pa.Array.from_buffers(
        pa.binary(width), len(contiguous), [None, pa.py_buffer(contiguous.reshape(-1))]
    )


def binary_vectors_of(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
    """Return a column made by `binary_vectors_column` as an (n, D) array."""
    chunked = table.column(name)
    width = chunked.type.byte_width
    dimensions = width // np.dtype(dtype).itemsize
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk) * dimensions, chunk.offset * width)
        for chunk in chunked.chunks
    ]
    flat = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])
    return flat.reshape(-1, dimensions)
