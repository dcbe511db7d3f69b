"""Columns of Parquet files that are kept beside the pictures: check them, and read them.

Values are stored in few types, so that files of several writers agree: integers as int64, numbers
with a fraction as float64, text as string, days as date32, times in microseconds (or nanoseconds,
where a file has them), in UTC where they have a time zone. Every cast is exact, or an error.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.corpus.at_once import in_turn
from lamella.pipeline.corpus.containers import group_starts, open_parquet, read_group
from lamella.pipeline.corpus.joined import part_for
from lamella.pipeline.corpus.listing import Entry, Kept, Listing, columns_said
from lamella.pipeline.corpus.locations import facts_of, place_of
from lamella.pipeline.corpus.parquet_columns import PARQUET, is_text
from lamella.pipeline.errors import InputError, LamellaError, one_line
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.store.tables import read_parquet

KINDS = "true or false, whole numbers, numbers, text, days and times"
"""What a kept column may hold, for a person."""


def find_kept(listing: Listing, wanted: Sequence[str]) -> Kept | None:
    """Return the columns that are kept of a listing's Parquet files, None where none are wanted.

    Raises:
        InputError: a column is in no file, holds what cannot be kept, or has two types.
    """
    if not wanted:
        return None
    containers = list(
        dict.fromkeys(e.container for e in listing.entries if _is_row(listing.kind, e.container))
    )
    if not containers:
        raise InputError(
            "--keep-columns (corpus.columns) keeps columns of Parquet files, and the source holds "
            "none: leave it out, or give Parquet files"
        )

    def look(container: str) -> tuple[Any, tuple[int, int | None]]:
        place = place_of(listing.root, container)
        with _reading(container), open_parquet(place) as file:
            return file.schema_arrow, facts_of(place)

    found = dict(zip(containers, in_turn(look, containers), strict=True))
    schemas = {container: schema for container, (schema, _) in found.items()}
    fields = [pa.field(name, _type_of(name, schemas)) for name in dict.fromkeys(wanted)]
    return Kept(pa.schema(fields), {container: facts for container, (_, facts) in found.items()})


def _is_row(kind: str, container: str) -> bool:
    """Say whether the entries of a container are rows of a Parquet file."""
    return bool(container) and part_for(kind, container)[0].partition(":")[0] == PARQUET


def _type_of(name: str, schemas: Mapping[str, Any]) -> Any:
    """Return the type in which a column is stored."""
    found: dict[Any, str] = {}
    for container, schema in schemas.items():
        if name not in schema.names:
            continue
        given = schema.field(name).type
        stored = stored_type(given)
        if stored is None:
            raise InputError(
                f"column {shown(name)} of Parquet {container} is {one_line(str(given), 60)}, and "
                f"{KINDS} can be kept: write it as one of these, or keep other columns"
            )
        found.setdefault(stored, f"{one_line(str(given), 60)} in {container}")
    if not found:
        every = dict.fromkeys(each for schema in schemas.values() for each in schema.names)
        raise InputError(
            f"no Parquet file has a column {shown(name)} to be kept (corpus.columns): they have "
            f"{known_names(name, every)}"
        )
    if len(found) > 1:
        found.pop(pa.null(), None)
    if found.keys() == {pa.int64(), pa.float64()}:
        return pa.float64()
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise InputError(
            f"column {shown(name)} is {first} and {second}: a kept column has one type in all "
            "files: write it as one, or keep other columns"
        )
    (kind,) = found
    return pa.string() if pa.types.is_null(kind) else kind


def stored_type(kind: Any) -> Any | None:
    """Return the type in which values of a type are stored, None where they cannot be kept."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return kind
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if is_text(kind):
        return pa.string()
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_timestamp(kind):
        unit = "ns" if kind.unit == "ns" else "us"
        return pa.timestamp(unit, "UTC" if kind.tz else None)
    return None


def read_kept(root: str, kind: str, entries: Iterable[Entry], schema: Any) -> Any:
    """Return the kept columns of some entries, a row each in their order.

    A value is null where the entry is no row of a Parquet file, or its file lacks the column.

    Args:
        root, kind: of the listing.
        schema: of `Kept`.

    Raises:
        InputError: a file cannot be read, or a value does not fit its column.
    """
    parts = [schema.empty_table()]
    for container, run in itertools.groupby(entries, key=lambda entry: entry.container):
        rows = np.array([entry.offset for entry in run], np.int64)
        if not _is_row(kind, container):
            parts.append(pa.table([pa.nulls(len(rows), f.type) for f in schema], schema=schema))
            continue
        with _reading(container), open_parquet(place_of(root, container)) as file:
            parts += _read_rows(file, container, rows, schema)
    return pa.concat_tables(parts).combine_chunks()


def _read_rows(file: Any, container: str, rows: Any, schema: Any) -> list[Any]:
    """Return the columns of rows of a Parquet file, rising, row group by row group."""
    present = [name for name in schema.names if name in file.schema_arrow.names]
    starts = group_starts(file)
    if len(rows) and int(rows[-1]) >= starts[-1]:
        raise InputError(
            f"Parquet {container} has {starts[-1]:,} rows, and had more when it was listed: give "
            "the same command again"
        )
    parts = []
    groups = np.searchsorted(starts, rows, side="right") - 1
    for group in np.unique(groups).tolist():
        own = rows[groups == group] - starts[group]
        read = None
        if present:
            size = starts[group + 1] - starts[group]
            read = read_group(file, group, present, size).take(pa.array(own))
        columns = [
            pa.nulls(len(own), field.type)
            if read is None or field.name not in present
            else _as_stored(read.column(field.name), field, container)
            for field in schema
        ]
        parts.append(pa.table(columns, schema=schema))
    return parts


def _as_stored(column: Any, field: Any, container: str) -> Any:
    try:
        stored = column.cast(field.type)
        stored.validate(full=True)  # Arrow reads any bytes as text
        return stored
    except pa.ArrowException as error:
        raise InputError(
            f"column {shown(field.name)} of Parquet {container} does not fit {field.type}, in "
            f"which it is kept: {one_line(error)}; write it again, or keep other columns"
        ) from error


def read_stored_columns(path: Path) -> Any:
    """Return a stored table of kept columns.

    Raises:
        ValueError, ArrowException: it is something else.
    """
    table = read_parquet(path)
    types = [field.type for field in table.schema]
    strange = any(pa.types.is_null(kind) or stored_type(kind) != kind for kind in types)
    if strange or len(set(table.column_names)) < table.num_columns:
        raise ValueError(f"its columns are {one_line(str(columns_said(table.schema)), 200)}")
    table.validate(full=True)
    return table


@contextmanager
def _reading(container: str) -> Iterator[None]:
    """Say which Parquet file cannot be read, whatever the library raises."""
    try:
        yield
    except LamellaError:
        raise
    except Exception as error:  # foreign bytes through a library that raises of every kind
        raise InputError(f"Parquet {container} cannot be read: {one_line(error)}") from error
