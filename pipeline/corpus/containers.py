"""List the contents of tars and Parquet files."""

import itertools
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.corpus.listing import Entry, storable
from lamella.pipeline.corpus.locations import facts_of, is_s3, named_by, open_place, place_of
from lamella.pipeline.corpus.parquet_columns import ParquetColumns
from lamella.pipeline.corpus.passed_over import HIDDEN, LINKS, NO_FILES
from lamella.pipeline.errors import InputError, LamellaError, one_line
from lamella.schemas.refusals import RefusalReason

_BLOCK_BYTES = 512
_ZEROS_AT_ONCE = 2**16
_LONG_NUMBER = re.compile(rb"\d{256}")
_PACKINGS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"PK\3\4", "zip"),
)
MOST_HEADER_BYTES = 2**20
"""The most bytes of one member's headers: far above the longest path with its attributes."""

MOST_GROUP_BYTES = 2**31
"""The most bytes of the pictures of a Parquet row group; a thread holds one group."""

_ROWS_AT_ONCE = 64
"""Few: a small file may repeat the same megabytes a thousand times."""


class _Headers:
    """A tar for the library to read: headers only, and bounded.

    The library believes the length in a header, and parses long numbers in quadratic time.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.left = MOST_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header of more than {MOST_HEADER_BYTES:,} bytes")
        self.left -= size
        data = self._handle.read(size)
        if _LONG_NUMBER.search(data):
            raise tarfile.ReadError("a header with a number of more than 255 digits")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()


def list_tar(root: str, container: str, passed_over: Counter[str]) -> Iterator[Entry]:
    """Yield the regular files of an uncompressed tar, in the order they stand in it.

    A name is `container/member`. A hard link is a second name of a file before it. Members with an
    absolute name or ".." in it, sparse ones, and other links named like pictures are listed with a
    fault: they are refused, not the tar with them.
    Tars that were joined are read to the end of the last.

    Args:
        passed_over: counts members that are not listed, by kind, without folders. Hidden ones are
            passed over as in a folder; a Mac writes `._name` beside each name.

    Raises:
        InputError: the tar is missing, compressed, damaged, or cut short; a member's headers are
            invalid; or bytes after its end are no tar.
    """
    path = place_of(root, container)
    version = facts_of(path)[1]
    files: dict[str, tuple[int, int]] = {}
    try:
        with open_place(path) as handle:
            start: int | None = 0
            while start is not None:
                last = ""
                for member in _members(handle, start):
                    linked = _follow(member, files)
                    kind = _kind_passed_over(member, linked)
                    if kind is None:
                        entry = _tar_entry(container, member, version, linked)
                        last = entry.name
                        yield entry
                    elif kind:
                        passed_over[kind] += 1
                if handle.read(_BLOCK_BYTES) != bytes(_BLOCK_BYTES):
                    raise _damaged(container, start, last)
                start = _next_byte(handle)
    except LamellaError:
        raise
    except Exception as error:  # foreign bytes through a library that raises of every kind
        if (packing := _packing(path)) is not None:
            raise InputError(f"tar {container} {compressed(packing)}") from error
        raise InputError(f"tar {container} cannot be read: {_said(error)}") from error


def compressed(packing: str = "") -> str:
    """Say of a tar that it is compressed, and what to do; `packing` names how."""
    how = f" ({packing})" if packing else ""
    return f"is compressed{how}, so it has no random access: unpack it, or write it as a plain .tar"


def _packing(path: str) -> str | None:
    """Return how a file is compressed by its first bytes, None where it is not or is gone."""
    try:
        with open_place(path) as handle:
            head = handle.read(6)
    except OSError:
        return None
    return next((name for magic, name in _PACKINGS if head.startswith(magic)), None)


def _follow(member: tarfile.TarInfo, files: dict[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Note where the data of a file lies; return that of the one that a hard link names.

    A hard link is a second name of a file before it: `tar` writes one where files share their data.

    Args:
        files: (offset, size) by name of what was met before.
    """
    name = posixpath.normpath(member.name)
    if member.isfile() and not member.issparse():
        files[name] = member.offset_data, member.size
        return None
    found = files.get(posixpath.normpath(member.linkname)) if member.islnk() else None
    if found is not None:
        files[name] = found
    return found


def _damaged(container: str, start: int, last_name: str) -> InputError:
    """Return the error for a tar without an end: to the library a damaged header looks like one.

    Args:
        start: where it starts in its file; above 0 if it follows another tar.
        last_name: of the last entry that was read of it, "" if there is none.
    """
    if start and not last_name:
        return InputError(
            f"tar {container} ends before byte {start:,}, and what stands from there on is no tar: "
            "write it again, or cut it there"
        )
    after = last_name or "its start"
    return InputError(f"tar {container} is damaged or cut short after {after}: write it again")


def _members(handle: BinaryIO, start: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members of the tar that starts at this byte; the file then stands at its end."""
    handle.seek(start)
    headers = _Headers(handle)
    with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]
        last = start - 1
        while (member := tar.next()) is not None:
            if member.offset <= last or member.size < 0:
                raise tarfile.ReadError("a member that lies before the one before it")
            last, headers.left = member.offset, MOST_HEADER_BYTES
            yield member
            # The library's list of members would keep a whole tar's headers in memory.
            tar.members = []
        handle.seek(tar.offset)


def _kind_passed_over(member: tarfile.TarInfo, linked: tuple[int, int] | None) -> str | None:
    """Return the kind of a member that is not listed, "" for a folder; None for one that is."""
    if member.isdir():
        return ""
    if is_hidden(member.name):
        return HIDDEN
    if member.isfile() or linked is not None:
        return None
    if member.issym() or member.islnk():
        return None if has_picture_name(member.name) else LINKS
    return NO_FILES


def is_hidden(name: str) -> bool:
    """Say whether a file or a folder of a path has a name that starts with one dot."""
    return any(part[:1] == "." and part[1:2] not in ("", ".") for part in name.split("/"))


def _next_byte(handle: BinaryIO) -> int | None:
    """Return the position of the next byte that is not zero; None if there is none.

    A tar may end in any number of zeros.
    """
    while data := handle.read(_ZEROS_AT_ONCE):
        if rest := data.lstrip(b"\0"):
            return handle.tell() - len(rest)
    return None


def _said(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _tar_entry(
    container: str, member: tarfile.TarInfo, version: int | None, linked: tuple[int, int] | None
) -> Entry:
    stored, fault = storable(member.name)
    if stored.startswith("/") or ".." in stored.split("/"):
        fault = RefusalReason.OUTSIDE_SOURCE
    elif linked is None and (member.issparse() or not member.isfile()):
        fault = RefusalReason.UNREADABLE
    name = f"{container}/{stored}"
    offset, size_bytes = linked or (member.offset_data, member.size)
    return Entry(name, container, offset, size_bytes, version, fault)


def list_parquet(root: str, container: str, column: str | None = None) -> Iterator[Entry]:
    """Yield one entry a row of a Parquet file, in row order; the pictures are not read.

    The name comes from the name, id or key column, else from the path, else it is `container#row`.
    The size is known where the row holds a path.

    Args:
        column: of the pictures, where the user names it.

    Raises:
        InputError: the file is missing or damaged, has no column of pictures, or a row names what
            is not local.
    """
    path = place_of(root, container)
    size_bytes, version = facts_of(path)
    try:
        with open_parquet(path) as file:
            columns = ParquetColumns.of(file.schema_arrow, container, column)
            if not 0 <= file.metadata.num_rows <= size_bytes:
                raise InputError(
                    f"Parquet {container} names {file.metadata.num_rows:,} rows in "
                    f"{size_bytes:,} bytes: it is damaged, or holds no pictures"
                )
            for row in enumerate(_rows(file, columns)):
                yield _parquet_entry(path, container, columns, row, version)
    except LamellaError:
        raise
    except Exception as error:  # foreign bytes through a library that raises of every kind
        raise InputError(f"Parquet {container} cannot be read: {_said(error)}") from error


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
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
        names = batch.column(columns.name) if columns.name else None
        paths = batch.column(columns.data) if path else None
        for row in range(batch.num_rows):
            found = paths[row].as_py() if paths is not None else None
            if columns.is_struct:
                found = (found or {}).get("path")
                found = found if isinstance(found, str) else None
            yield names[row].as_py() if names is not None else None, found


def read_group(file: Any, group: int, columns: list[str], rows: int) -> Any:
    """Return some columns of a row group of `rows` rows, as a pyarrow Table.

    Raises:
        InputError: they take more than `MOST_GROUP_BYTES`, or their number is wrong.
    """
    batches: list[Any] = []
    total = 0
    for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
        total += batch.nbytes
        if total > MOST_GROUP_BYTES:
            raise InputError(
                f"a row group's columns ({', '.join(columns)}) take {total:,} bytes, the limit is "
                f"{MOST_GROUP_BYTES:,}: write the file again in smaller row groups"
            )
        batches.append(batch.select(columns))
    found = sum(len(batch) for batch in batches)
    if found != rows:
        raise InputError(f"a row group holds {found:,} rows, its header says {rows:,}")
    return pa.Table.from_batches(batches)


def group_starts(file: Any) -> list[int]:
    """Return the first row of each row group of a Parquet file, and at the end the number of all
    rows.
    """
    metadata = file.metadata
    counts = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return list(itertools.accumulate(counts, initial=0))


def _parquet_entry(
    path: str,
    container: str,
    columns: ParquetColumns,
    numbered: tuple[int, tuple[Any, str | None]],
    version: int | None,
) -> Entry:
    row, (name, named_path) = numbered
    size_bytes = -1
    if not columns.embedded and named_path:
        try:
            target = named_by(os.path.dirname(path), named_path)
        except ValueError as error:
            raise InputError(f"Parquet {container}, row {row}: {error}") from error
        size_bytes, version = facts_of(place_of(os.path.dirname(path), target))
    chosen = name if name is not None else named_path
    stored, fault = storable(f"{container}#{row}" if chosen in (None, "") else str(chosen))
    return Entry(stored, container, row, size_bytes, version, fault)
