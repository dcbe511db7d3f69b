"""Where a shard's activations go: one Parquet file a layer, written as batches come."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.extract.descriptors import Descriptors
from pipeline.store.tables import PARQUET_OPTIONS, binary_vectors_column
from schemas.activations import global_schema, local_schema
from schemas.extraction import LayerSpec

ROW_GROUP_BYTES = 32 * 1024**2
"""Row groups of about this many bytes: small enough to stream, large enough to compress."""


class LayerSink:
    """Collects a layer's rows and writes a row group whenever there is enough for one."""

    def __init__(self, layer: LayerSpec, path: Path) -> None:
        self.layer = layer
        self.path = path
        self.rows = 0
        self._writer: Any = None
        self._waiting: list[Any] = []
        self._waiting_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def add_vectors(self, image_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add global vectors (n, D)."""
        columns = [pa.array(image_ids), binary_vectors_column(vectors)]
        self._add(columns, global_schema(vectors.shape[1]))

    def add_descriptors(self, found: Descriptors) -> None:
        """Add local descriptors."""
        columns = [
            pa.array(found.image_ids),
            pa.array(found.y),
            pa.array(found.x),
            binary_vectors_column(found.vectors),
        ]
        self._add(columns, local_schema(found.vectors.shape[1]))

    def _add(self, columns: list[Any], schema: Any) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, schema, **PARQUET_OPTIONS)
        table = pa.table(columns, schema=schema)
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        self.rows += table.num_rows
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._waiting, self._waiting_bytes = [], 0
