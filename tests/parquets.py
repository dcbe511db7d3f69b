"""Parquet files of tiny pictures with columns beside them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny import LONG_AGO_NS


def write_rows(path: Path, pictures: Path, columns: Mapping[str, Any], *, turn: int = 0) -> Path:
    """Write the pictures of a folder, in order, with these columns; dated long ago.

    Args:
        turn: makes the file another one to whoever looks at its time.
    """
    files = sorted(pictures.iterdir())
    rows = {"name": [each.name for each in files], "image": [each.read_bytes() for each in files]}
    return dated(path, rows | dict(columns), turn)


def dated(path: Path, columns: Mapping[str, Any], turn: int = 0) -> Path:
    """Write columns to a Parquet file, dated long ago."""
    pq.write_table(pa.table(dict(columns)), path)
    os.utime(path, ns=(LONG_AGO_NS + turn, LONG_AGO_NS + turn))
    return path
