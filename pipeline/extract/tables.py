"""Read the tables of the extract stage, and check them against their schemas."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.corpus.image_table import check_reasons
from lamella.pipeline.store.tables import check_nulls, column, read_parquet
from lamella.schemas.activations import REFUSALS, global_schema, local_schema

LOCAL, GLOBAL = local_schema(0), global_schema(0)
"""Schemas of activations of any number of dimensions."""

_IDS = pa.schema([pa.field("image_id", pa.int64())])


def read_refusals(path: Path) -> Any:
    """Return the refusals of a shard, in `REFUSALS`. Raises ValueError where it is none."""
    table = read_parquet(path, schema=REFUSALS)
    check_nulls(table, REFUSALS)
    check_reasons(table.column("reason"))
    return table


def read_image_ids(path: Path) -> NDArray[np.int64]:
    """Return the ids of a shard's indexed images, (n,). Raises ValueError where they are none."""
    table = read_parquet(path, schema=_IDS)
    if table.column("image_id").null_count:
        raise ValueError("an image id is null")
    return column(table, "image_id").astype(np.int64)
