"""Read and write tables: Parquet for what is streamed, Arrow files for what is memory-mapped.

The bytes depend on the rows alone: writers use no time stamps and no threads. Parquet pages have
checksums, which are verified when they are read (both are off by default in Arrow).
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lamella.pipeline.errors import one_line
from lamella.pipeline.memory import available_memory

ROW_GROUP = 65_536

LARGE_BYTES = 1 << 30
"""Before a Parquet file that claims to hold more is opened, free memory is checked."""


PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "write_page_checksum": True,
    "use_dictionary": False,
}
"""Options of every Parquet file. Dictionaries cost time and bytes on vectors."""


def write_parquet(table: pa.Table, path: Path, *, row_group: int = ROW_GROUP) -> int:
    """Write a table and return its number of rows."""
    pq.write_table(table, path.absolute(), row_group_size=row_group, **PARQUET_OPTIONS)
    return int(table.num_rows)


def write_parquet_parts(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> int:
    """Write tables of one schema to one file, in order; return the number of rows."""
    rows = 0
    # Absolute, because Arrow takes a name such as `s3:x` for an address.
    with pq.ParquetWriter(path.absolute(), schema, **PARQUET_OPTIONS) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
    return rows


def read_parquet(
    path: Path, columns: list[str] | None = None, schema: Any | None = None
) -> pa.Table:
    """Read a whole table, verifying page checksums.

    Args:
        schema: the schema that the file must have; None accepts any.

    Raises:
        ValueError, ArrowException: it has another schema, it is not Parquet, or it needs more
            memory than there is. This is checked before any rows are read.
    """
    with open_parquet(path, schema) as file:
        return file.read(columns)


def open_parquet(path: Path, schema: Any | None = None) -> pq.ParquetFile:
    """Open a Parquet file to read it by row groups, with the checks of `read_parquet`.

    Where `schema` has a column of type binary(0), the column may have any width.
    """
    file = pq.ParquetFile(path, page_checksum_verification=True)
    try:
        if schema is not None:
            _check_schema(file.schema_arrow, schema)
        metadata = file.metadata
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        said = sum(group.total_byte_size for group in groups)
        if said > LARGE_BYTES and said > available_memory():
            raise ValueError(f"it says that it holds {said:,} bytes, more than there is memory")
        return file
    except BaseException:
        file.close()
        raise


def check_nulls(table: Any, schema: Any) -> None:
    """Check that no column of a table has a null where its schema allows none.

    Raises:
        ValueError: a column has one.
    """
    for field in schema:
        never_null = field.name in table.column_names and not field.nullable
        if never_null and table.column(field.name).null_count:
            raise ValueError(f"a value of {field.name} is null")


def _check_schema(found: Any, wanted: Any) -> None:
    """Check names, order and types of columns; `check_nulls` checks nulls once rows are read."""
    fits = found.names == wanted.names and all(
        theirs.type == ours.type or (_any_width(ours.type) and _is_fixed_binary(theirs.type))
        for theirs, ours in zip(found, wanted, strict=True)
    )
    if not fits:
        shown = ", ".join(f"{field.name} {field.type}" for field in found) or "none"
        raise ValueError(f"its columns are {one_line(shown)}")


def _is_fixed_binary(kind: Any) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind)) and kind.byte_width > 0


def _any_width(kind: Any) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind)) and kind.byte_width == 0


def write_arrow(table: pa.Table, path: Path) -> int:
    """Write a table as an Arrow file with one record batch, which can be memory-mapped."""
    batches = table.combine_chunks().to_batches()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return int(table.num_rows)


Form = Mapping[str, Callable[[Any], bool]]
"""The columns of an Arrow file, in order, each with a check of its type."""


def of(*kinds: Any) -> Callable[[Any], bool]:
    """Return a check for a column of one of these types."""
    return lambda found: any(found == kind for kind in kinds)


def vectors_of_type(kind: Any) -> Callable[[Any], bool]:
    """Return a check for a column that `vectors_column` makes of numbers of this type."""
    return lambda found: (
        bool(pa.types.is_fixed_size_list(found))
        and found.value_type == kind
        and found.list_size > 0
    )


def lists_of_type(*kinds: Any) -> Callable[[Any], bool]:
    """Return a check for a column of lists of any length, of numbers of one of these types."""
    return lambda found: bool(pa.types.is_large_list(found)) and found.value_type in kinds


def map_arrow(path: Path, form: Form) -> pa.Table:
    """Memory-map an Arrow file: the columns of the table are views of the mapped file.

    It must be as `write_arrow` writes it: one record batch, not compressed, without nulls, whose
    columns are in the file with all their rows. The values are not checked.

    Raises:
        ValueError, ArrowException: it is something else.
    """
    with pa.memory_map(str(path)) as source:
        if source.read(len(_ARROW)) != _ARROW:
            raise ValueError("it is no Arrow file")
        schema = pa.ipc.read_schema(pa.ipc.read_message(source))
        wrong = schema.names != list(form)
        if wrong or not all(form[field.name](field.type) for field in schema):
            shown = ", ".join(f"{field.name} {field.type}" for field in schema) or "none"
            raise ValueError(f"its columns are {one_line(shown)}")
        batches: list[Any] = []
        # Read as a stream, because the footer of a hostile file may place a batch anywhere.
        while (message := _next_message(source)) is not None:
            if message.type != "record batch" or batches or is_compressed(message.metadata):
                raise ValueError("it holds more than one plain record batch")
            batches.append(pa.ipc.read_record_batch(message, schema))
    table = pa.Table.from_batches(batches, schema)
    table.validate()  # else a column that is shorter than its rows would be read past its end
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is null")
    return table


_ARROW = b"ARROW1\0\0"


def _next_message(source: Any) -> Any:
    try:
        return pa.ipc.read_message(source)
    except EOFError:
        return None


def is_compressed(metadata: Any) -> bool:
    """Say whether a record batch is compressed, from its header, which Arrow has checked.

    Arrow would decompress it, to any size, before it could be asked. The header is a flatbuffer:
    the third field of `Message` is a `RecordBatch`, whose fourth field is the compression
    (Message.fbs of the Arrow format).
    """
    data = bytes(metadata)
    (message,) = struct.unpack_from("<I", data)
    header = _field(data, message, 2)
    if header is None:
        return True
    batch = header + struct.unpack_from("<I", data, header)[0]
    return _field(data, batch, 3) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return the offset of a field in a flatbuffer's table, None if the field is left out."""
    offsets = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, offsets)
    at = 4 + 2 * number
    (place,) = struct.unpack_from("<H", data, offsets + at) if at < size else (0,)
    return table + place if place else None


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column of numbers without nulls as an array, without a copy if it is one chunk."""
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
