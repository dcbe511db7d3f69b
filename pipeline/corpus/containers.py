"""Listing what is inside tars and Parquet files."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.formats import has_picture_name
from pipeline.corpus.listing import Entry, storable
from pipeline.corpus.places import facts_of, is_s3, named_by, open_place, place_of
from pipeline.errors import InputError
from schemas.refusals import RefusalReason

_BLOCK_BYTES = 512
_PATHS = ("uri", "path", "url", "image")
_BYTES = ("bytes", "image")
_NAMES = ("name", "id", "key")


def list_tar(root: str, container: str) -> list[Entry]:
    """Return the regular files of an uncompressed tar, in the order they stand in it.

    A name is `container/member`. Members with an absolute name or ".." in it, sparse ones, and
    links named like pictures are listed with a fault: they are refused, not the tar with them.

    Raises:
        InputError: the tar is missing, compressed, damaged, or cut short.
    """
    path = place_of(root, container)
    modified_ns = facts_of(path)[1]
    entries: list[Entry] = []
    try:
        with open_place(path) as handle, tarfile.open(fileobj=handle, mode="r:") as tar:
            while (member := tar.next()) is not None:
                link = member.issym() or member.islnk()
                if member.isfile() or (link and has_picture_name(member.name)):
                    entries.append(_tar_entry(container, member, modified_ns))
                # The list of members that the library keeps would hold a whole tar's headers.
                tar.members = []  # type: ignore[attr-defined]
            handle.seek(tar.offset)
            end = handle.read(_BLOCK_BYTES)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"tar {container} cannot be read: {error}") from error
    if end != bytes(_BLOCK_BYTES):
        # The library takes a damaged header, or the end of the file, for the end of the tar.
        last = entries[-1].name if entries else "its start"
        raise InputError(f"tar {container} is damaged or cut short after {last}: write it again")
    return entries


def _tar_entry(container: str, member: tarfile.TarInfo, modified_ns: int) -> Entry:
    stored, fault = storable(member.name)
    if stored.startswith("/") or ".." in stored.split("/"):
        fault = RefusalReason.OUTSIDE_SOURCE
    elif member.issparse() or not member.isfile():
        fault = RefusalReason.UNREADABLE
    name = f"{container}/{stored}"
    return Entry(name, container, member.offset_data, member.size, modified_ns, fault)


@dataclass(frozen=True)
class ParquetColumns:
    """Which columns of a Parquet file hold the pictures: `data`, and perhaps their names.

    `embedded` tells bytes, or a struct of bytes and path, from a column of paths.
    """

    data: str
    embedded: bool
    is_struct: bool
    name: str | None

    @classmethod
    def of(cls, schema: Any, container: str) -> "ParquetColumns":
        """Choose from a file's Arrow schema.

        Raises:
            InputError: no column has a name and a type that pictures are looked for in.
        """
        types = {field.name: field.type for field in schema}
        name = next((name for name in _NAMES if name in types), None)
        for column in _BYTES:
            kind = types.get(column)
            if kind is not None and _is_binary(kind):
                paths = (path for path in _PATHS if path in types and _is_text(types[path]))
                return cls(column, True, False, name or next(paths, None))
            if kind is not None and pa.types.is_struct(kind):
                fields = {field.name: field.type for field in kind}
                if "bytes" in fields and _is_binary(fields["bytes"]) and "path" in fields:
                    return cls(column, True, True, name)
        for column in _PATHS:
            if column in types and _is_text(types[column]):
                return cls(column, False, False, name)
        raise InputError(
            f"Parquet {container} has columns {', '.join(types) or 'none'}; pictures are read from "
            "uri, path or url (text), or bytes or image (binary, or a struct of bytes and path)"
        )


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def list_parquet(root: str, container: str) -> list[Entry]:
    """Return one entry a row of a Parquet file, in row order; the pictures are not read.

    A name is that of the name, id or key column, else the path, else `container#row`. The size is
    known where the row holds a path.

    Raises:
        InputError: the file is missing or damaged, has no column of pictures, or a row names what
            is not local.
    """
    path = place_of(root, container)
    modified_ns = facts_of(path)[1]
    try:
        with open_parquet(path) as file:
            columns = ParquetColumns.of(file.schema_arrow, container)
            rows = enumerate(_rows(file, columns))
            return [_parquet_entry(path, container, columns, row, modified_ns) for row in rows]
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"Parquet {container} cannot be read: {error}") from error


def open_parquet(place: str) -> Any:
    """Return a Parquet file opened; one in S3 is read by ranges.

    Raises:
        OSError: missing, not to be read, or not to be fetched.
        ArrowException: it is not Parquet, or damaged.
    """
    return pq.ParquetFile(open_place(place) if is_s3(place) else place)


def _rows(file: Any, columns: ParquetColumns) -> Iterator[tuple[Any, str | None]]:
    """Yield (name, path) of each row, either may be None, without reading any picture."""
    path = columns.data if not columns.embedded else None
    if columns.is_struct:
        path = f"{columns.data}.path"
    wanted = [column for column in (columns.name, path) if column]
    if not wanted:
        yield from ((None, None) for _ in range(file.metadata.num_rows))
        return
    for batch in file.iter_batches(columns=wanted):
        names = batch.column(columns.name).to_pylist() if columns.name else None
        paths = batch.column(columns.data).to_pylist() if path else None
        for row in range(batch.num_rows):
            found = paths[row] if paths else None
            if columns.is_struct:
                found = (found or {}).get("path")
            yield names[row] if names else None, found


def _parquet_entry(
    path: str,
    container: str,
    columns: ParquetColumns,
    numbered: tuple[int, tuple[Any, str | None]],
    modified_ns: int,
) -> Entry:
    row, (name, named_path) = numbered
    size_bytes = -1
    if not columns.embedded and named_path:
        try:
            target = named_by(os.path.dirname(path), named_path)
        except ValueError as error:
            raise InputError(f"Parquet {container}, row {row}: {error}") from error
        size_bytes, modified_ns = facts_of(place_of(os.path.dirname(path), target))
    chosen = name if name is not None else named_path
    stored, fault = storable(f"{container}#{row}" if chosen in (None, "") else str(chosen))
    return Entry(stored, container, row, size_bytes, modified_ns, fault)
