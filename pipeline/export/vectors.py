"""Vectors of a layer in the formats of other programs, each written a batch at a time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Float32s, Int64s
from lamella.pipeline.errors import DoesNotFit, InputError, one_line
from lamella.pipeline.export.arrays import write_npy
from lamella.pipeline.export.formats import Format
from lamella.pipeline.export.layers import Vectors
from lamella.pipeline.memory import available_memory
from lamella.pipeline.proposers.library import faiss_module
from lamella.pipeline.store.tables import vectors_column, write_parquet_parts
from lamella.pipeline.text import byte_size

Batch = tuple[Int64s, Float32s]
NamesOf = Callable[[Int64s], Any]
"""The names of images by their ids, as `ImageTable.names_of` gives them."""


def check_installed(format: Format) -> None:
    """Check that the package that writes a format is there. Raises InputError: it is not."""
    if format == "faiss":
        faiss_module()
    elif format == "lance":
        _lance()


def _lance() -> Any:
    try:
        import lance
    except ImportError as error:
        raise InputError(
            "a Lance data set is written by the package lance, which is not installed "
            f"({one_line(error)}): pip install pylance, or take --format parquet"
        ) from error
    return lance


def schema_of(dimensions: int) -> Any:
    """Return the columns of a table of vectors: image_id, name, vector."""
    item = pa.field("item", pa.float32(), nullable=False)
    return pa.schema(
        [
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("vector", pa.list_(item, dimensions), nullable=False),
        ]
    )


def write_vectors(
    format: Format, layer: Vectors, batches: Iterator[Batch], names_of: NamesOf, path: Path
) -> None:
    """Write vectors in the order of ids to a file, of Lance to a folder.

    The same vectors give the same bytes, but for Lance, which names its files at random.

    Args:
        batches: those of the layer; vectors of length 1 for FAISS.

    Raises:
        InputError: the package that writes the format is not installed.
        DoesNotFit: an index of FAISS, which is made in memory, is larger than that.
    """
    schema = schema_of(layer.dimensions)
    tables = _tables(batches, names_of, schema)
    if format == "parquet":
        write_parquet_parts(tables, schema, path)
    elif format == "npy":
        shape = (len(layer.image_ids), layer.dimensions)
        with path.open("wb") as file:
            write_npy(file, np.dtype(np.float32), shape, (vectors for _, vectors in batches))
    elif format == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for table in tables:
                writer.write_table(table)
    elif format == "faiss":
        _write_faiss(layer, batches, path)
    else:
        records = (record for table in tables for record in table.to_batches())
        _lance().write_dataset(pa.RecordBatchReader.from_batches(schema, records), str(path))


def _tables(batches: Iterable[Batch], names_of: NamesOf, schema: Any) -> Iterator[Any]:
    for ids, vectors in batches:
        columns = [pa.array(ids), names_of(ids), vectors_column(vectors)]
        yield pa.Table.from_arrays(columns, schema=schema)


def _write_faiss(layer: Vectors, batches: Iterable[Batch], path: Path) -> None:
    """Write a flat index whose inner products are cosines, and whose ids are image ids."""
    faiss = faiss_module()
    size = 4 * layer.dimensions * len(layer.image_ids)
    if size > (free := available_memory()):
        raise DoesNotFit(
            f"an index of FAISS is made in memory; that of {layer.name} takes {byte_size(size)}, "
            f"and {byte_size(free)} are free: take --format parquet or npy, and a machine with "
            "more memory"
        )
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(layer.dimensions))
    for ids, vectors in batches:
        index.add_with_ids(vectors, ids)
    faiss.write_index(index, str(path))
