"""Sinks that collect a layer's activations batch by batch: a Parquet file a layer, or others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.background_writer import Do, at_once
from lamella.pipeline.extract.taken import Taken
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import PARQUET_OPTIONS, binary_vectors_column
from lamella.schemas.activations import global_schema, local_schema
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import ROWS

GROUP_BYTES = 32 * 1024**2
"""Rows are written, or assigned words, in pieces of about this many bytes.

Small enough to stream, large enough to compress and to compare with many words.
"""


def end_of_a_shard_bytes(layers: int) -> int:
    """Return the most bytes still to be written after a shard's last picture.

    At most two pieces are with `Beside`, and every sink holds less than one.
    """
    return (2 + layers) * GROUP_BYTES


class Sink(Protocol):
    """Collects one layer of a shard's batches into a file of the attempt."""

    def add(self, batch: BatchActivations) -> None:
        """Add the layer's activations of a batch."""
        ...

    def take(self, store: Store, taken: Sequence[Taken]) -> None:
        """Take what is at hand of some pictures, if the batches will not bring it."""
        ...

    def commit(self, work: Attempt, folder: str, image_ids: NDArray[np.int64]) -> dict[str, int]:
        """Add the layer's file to an attempt, when all batches are in; return its counts.

        Args:
            folder: of the extraction.
            image_ids: (n,) rising, of the images that gave activations.
        """
        ...

    def close(self) -> None:
        """Close open files, with or without a commit."""
        ...


MakeSink = Callable[[LayerSpec, Path, Do], Sink]
"""Makes the sink of a layer, given its scratch file and how to run large pieces of work."""


class LayerSink:
    """Collects a layer's rows, and has a row group written whenever there are enough."""

    def __init__(self, layer: LayerSpec, path: Path, do: Do = at_once) -> None:
        self.layer = layer
        self.path = path
        self.rows = 0
        self._do = do
        self._writer: Any = None
        self._waiting: list[Any] = []
        self._waiting_bytes = 0

    def add(self, batch: BatchActivations) -> None:
        """Add the layer's vectors or descriptors."""
        if self.layer.name in batch.vectors:
            vectors = batch.vectors[self.layer.name]
            columns = [pa.array(batch.image_ids), binary_vectors_column(vectors)]
            self._add(columns, global_schema(vectors.shape[1]))
        if self.layer.name in batch.descriptors:
            found = batch.descriptors[self.layer.name]
            columns = [pa.array(column) for column in (found.image_ids, found.y, found.x)]
            columns.append(binary_vectors_column(found.vectors))
            self._add(columns, local_schema(found.vectors.shape[1]))

    def take(self, store: Store, taken: Sequence[Taken]) -> None:
        """Take nothing: `TakenRows` puts vectors and descriptors into the batches."""

    def finish(self) -> int:
        """Write waiting rows and close the file; return its rows. No rows, no file."""
        if self._waiting:
            self._take()()
        self.close()
        return self.rows

    def commit(self, work: Attempt, folder: str, image_ids: NDArray[np.int64]) -> dict[str, int]:
        """Add the file to the attempt, if it has a row."""
        name = self.layer.name
        if self.finish():
            work.add(name, tree.layer_folder(folder, name), "parquet", self.path, self.rows)
        return {f"{ROWS}{name}": self.rows}

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, columns: list[Any], schema: Any) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, schema, **PARQUET_OPTIONS)
        table = pa.table(columns, schema=schema)
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        self.rows += table.num_rows
        if self._waiting_bytes >= GROUP_BYTES:
            self._do(self._take())

    def _take(self) -> Callable[[], None]:
        """Return a piece of work: write the waiting rows as a row group."""
        tables, self._waiting, self._waiting_bytes = self._waiting, [], 0

        def write() -> None:
            table = pa.concat_tables(tables)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))

        return write
