"""Arrow schemas of what the extract stage writes, one file a layer and shard."""

from typing import Any

import pyarrow as pa

REFUSALS: Any = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""Every image of the shard that gave no activations, whether its header or its pixels failed."""


def local_schema(dimensions: int) -> Any:
    """Return the schema of local descriptors: one row a position, float16 of unit length.

    Pictures are in the order of the shard's batches; the rows of one picture are together.
    """
    return pa.schema(
        [
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("y", pa.uint16(), nullable=False),
            pa.field("x", pa.uint16(), nullable=False),
            pa.field("vector", pa.binary(2 * dimensions), nullable=False),
        ]
    )


def global_schema(dimensions: int) -> Any:
    """Return the schema of global vectors: one row an image, float32 as the network gave it."""
    return pa.schema(
        [
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("vector", pa.binary(4 * dimensions), nullable=False),
        ]
    )
