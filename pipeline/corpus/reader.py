"""Read the bytes of any entry from a plain file, a tar or a Parquet file, local or in S3."""

import bisect
import os
import stat
import time
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa

from lamella.pipeline.corpus.blame import check_own_fault
from lamella.pipeline.corpus.containers import group_starts, open_parquet, read_group
from lamella.pipeline.corpus.decode import DecodeLimits, too_large
from lamella.pipeline.corpus.formats import HEAD_BYTES
from lamella.pipeline.corpus.joined import part_for, parts_of
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.locations import (
    FetchFailed,
    TooLong,
    check_below,
    is_address,
    is_below,
    is_s3,
    named_by,
    open_place,
    place_of,
    read_object,
)
from lamella.pipeline.corpus.parquet_columns import ParquetColumns, column_of
from lamella.pipeline.corpus.prefetch import ReadAhead
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.vector_listing import VECTORS
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.meters import READ_BYTES, WAITING
from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason


def read_entry(root: str, entry: Entry, kind: SourceKind = "folder") -> bytes:
    """Return the bytes of one entry; for many, an `EntryReader` keeps containers open.

    Raises:
        Refused: as `EntryReader.read`.
    """
    with EntryReader(root, kind=kind) as reader:
        return reader.read(entry)


class EntryReader:
    """Reads entries of one listing, keeping the last tar and the last Parquet row group open.

    For one thread. Read in the listing's order, each container is read once. `ahead` may be set to
    a `ReadAhead`, which fetches objects in S3 ahead.

    A list may name any place, for whoever gave it chose them; so may a column of paths in a Parquet
    file. All other names are data, whatever table they come from: they stay below the root, and a
    path in a struct stays below the folder of its Parquet file. Of several sources each has a
    reader of its own.
    """

    def __init__(
        self, root: str, limits: DecodeLimits | None = None, kind: SourceKind = "folder"
    ) -> None:
        """Open nothing yet; files over `limits.max_bytes` will be refused before they are read."""
        self.ahead: ReadAhead | None = None
        self._limits = limits or DecodeLimits()
        self._kind = kind
        self._of_sources: dict[str, EntryReader] = {}
        self._several = bool(parts_of(root))
        self._root = root
        self._real_root = "" if self._several or is_s3(root) else os.path.realpath(root)
        self._names_places = kind == "list"
        self._column = column_of(kind)
        self._max_bytes = self._limits.max_bytes
        self._tar: tuple[str, BinaryIO] | None = None
        self._parquet: _ParquetRows | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the open containers; reading again opens them again."""
        for reader in self._of_sources.values():
            reader.close()
        if self._tar:
            self._tar[1].close()
        if self._parquet:
            self._parquet.close()
        self._tar = self._parquet = None

    def read(self, entry: Entry) -> bytes:
        """Return all bytes of an entry.

        Raises:
            Refused: missing, unreadable, fetch-failed, too-large-file, or the entry's own fault.
            StoreUnavailable: this machine cannot read it; the picture may be sound.
        """
        return self._measured(entry, None)

    def head(self, entry: Entry) -> bytes:
        """Return the first `HEAD_BYTES` bytes of an entry, or all if it has fewer.

        Raises:
            Refused: missing, unreadable, fetch-failed, or the fault that the entry has.
        """
        return self._measured(entry, HEAD_BYTES)

    def _measured(self, entry: Entry, at_most: int | None) -> bytes:
        began = time.perf_counter()
        try:
            data = self._read(entry, at_most)
            READ_BYTES.add(len(data), place="source")
            return data
        finally:
            WAITING.add(time.perf_counter() - began, cause="source")

    def _read(self, entry: Entry, at_most: int | None) -> bytes:
        if entry.fault:
            raise Refused(entry.fault)
        if self._kind == VECTORS:
            raise Refused(RefusalReason.NOT_AN_IMAGE, "it is a vector, and no picture")
        if self._several:
            return self._within(entry, at_most)
        try:
            if not entry.container:
                return self._plain(entry.name, at_most)
            self._check_container(entry.container)
            if entry.container.lower().endswith(".tar"):
                return self._member(entry, at_most)
            return self._row(entry, at_most)
        except FetchFailed as error:
            raise Refused(RefusalReason.FETCH_FAILED) from error
        except TooLong as error:
            raise too_large(error.size_bytes, self._max_bytes) from error
        except MemoryError as error:  # before Arrow's own, which is one of both kinds
            raise MemoryError(
                f"{entry.name}: too little memory to read it ({one_line(error)}): free memory, or "
                "use fewer --workers; it is not refused for that"
            ) from error
        except OSError as error:
            check_own_fault(error, entry.name, None if is_s3(self._root) else self._root)
            missing = isinstance(error, FileNotFoundError)
            reason = RefusalReason.MISSING if missing else RefusalReason.UNREADABLE
            raise Refused(reason, error.strerror or type(error).__name__) from error
        except (ValueError, pa.ArrowException, InputError) as error:
            raise Refused(RefusalReason.UNREADABLE, type(error).__name__) from error

    def _within(self, entry: Entry, at_most: int | None) -> bytes:
        """Return the bytes of an entry of one of several sources."""
        source, _, name = entry.name.partition("/")
        try:
            kind, place = part_for(self._kind, entry.place)
            root, _ = part_for(self._root, entry.place)
        except ValueError as error:
            raise Refused(RefusalReason.OUTSIDE_SOURCE) from error
        if entry.container and entry.container != f"{source}/{place}":
            raise Refused(RefusalReason.OUTSIDE_SOURCE)
        if source not in self._of_sources:
            self._of_sources[source] = EntryReader(root, self._limits, kind)
        reader = self._of_sources[source]
        reader.ahead = self.ahead
        container = place if entry.container else ""
        return reader._read(entry._replace(name=name, container=container), at_most)

    def _plain(self, name: str, at_most: int | None) -> bytes:
        if self._names_places:
            return self._file(place_of(self._root, name), at_most)
        if not is_below(name):
            raise Refused(RefusalReason.OUTSIDE_SOURCE)
        return self._file(place_of(self._root, name), at_most, self._real_root)

    def _check_container(self, container: str) -> None:
        if not is_below(container):
            raise Refused(RefusalReason.OUTSIDE_SOURCE)
        opened = (self._tar and self._tar[0], self._parquet and self._parquet.container)
        # A container at the top may be a link out of the root: it could be the source itself.
        if container not in opened and "/" in container and not is_s3(self._root):
            check_below(place_of(self._root, container), self._real_root)

    def _file(self, path: str, at_most: int | None, below: str = "") -> bytes:
        """Return a file or an object; a file must lie below the folder `below`, if there is one."""
        if is_s3(path) and at_most is None and self.ahead is not None:
            return self.ahead.read(path)
        if is_s3(path):
            return read_object(path, at_most, self._max_bytes)
        # Opening a pipe would wait for ever, so do not block, and check the open file's kind.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as handle:
            if below:
                check_below(path, below, descriptor)
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise Refused(RefusalReason.UNREADABLE, "not a regular file")
            if at_most is not None:
                return handle.read(at_most)
            self._check_size(facts.st_size)
            # A buffer of the largest size allowed would be mapped anew for every file.
            data = handle.read(facts.st_size + 1)
            if len(data) > facts.st_size:  # it grew meanwhile
                data += handle.read(self._max_bytes + 1 - len(data))
        self._check_size(len(data))
        return data

    def _member(self, entry: Entry, at_most: int | None) -> bytes:
        size_bytes = entry.size_bytes if at_most is None else min(entry.size_bytes, at_most)
        self._check_size(size_bytes)
        if self._tar is None or self._tar[0] != entry.container:
            self.close()
            handle = open_place(place_of(self._root, entry.container))
            self._tar = (entry.container, handle)
        self._tar[1].seek(entry.offset)
        data = self._tar[1].read(size_bytes)
        if len(data) < size_bytes:
            raise Refused(RefusalReason.UNREADABLE, "the tar ends before this member does")
        return data

    def _row(self, entry: Entry, at_most: int | None) -> bytes:
        if self._parquet is None or self._parquet.container != entry.container:
            self.close()
            self._parquet = _ParquetRows(self._root, entry.container, self._column)
        value = self._parquet.value(entry.offset)
        folder = os.path.dirname(place_of(self._root, entry.container))
        if isinstance(value, dict):
            if value["bytes"] is None and isinstance(value.get("path"), str):
                return self._beside(folder, value["path"], at_most)
            value = value["bytes"]
        if isinstance(value, str):
            return self._file(place_of(folder, named_by(folder, value)), at_most)
        if value is None:
            raise Refused(RefusalReason.MISSING, "the row holds neither bytes nor a path")
        data = bytes(value)
        if at_most is not None:
            return data[:at_most]
        self._check_size(len(data))
        return data

    def _beside(self, folder: str, name: str, at_most: int | None) -> bytes:
        """Return the file that a struct's path names, below the folder of its Parquet file."""
        if is_address(name) or not is_below(name):
            raise Refused(RefusalReason.OUTSIDE_SOURCE)
        below = "" if is_s3(folder) else os.path.realpath(folder)
        return self._file(place_of(folder, name), at_most, below)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise too_large(size_bytes, self._max_bytes)


class _ParquetRows:
    """An open Parquet file, and the pictures of the row group read last."""

    def __init__(self, root: str, container: str, column: str | None) -> None:
        self.container = container
        self._file = open_parquet(place_of(root, container))
        self._columns = ParquetColumns.of(self._file.schema_arrow, container, column)
        self._starts = group_starts(self._file)
        self._group = -1
        self._values: Any = None
        self._fault: Refused | None = None

    def value(self, row: int) -> Any:
        if not 0 <= row < self._starts[-1]:
            raise Refused(RefusalReason.MISSING, f"the file has {self._starts[-1]} rows")
        group = bisect.bisect_right(self._starts, row) - 1
        if group != self._group:
            self._values, self._fault = None, None  # free the last one before reading the next
            rows = self._starts[group + 1] - self._starts[group]
            try:
                column = self._columns.data
                self._values = read_group(self._file, group, [column], rows).column(column)
            except InputError as error:
                self._fault = Refused(RefusalReason.UNREADABLE, str(error))
            self._group = group
        if self._fault is not None:
            raise self._fault
        return self._values[row - self._starts[group]].as_py()

    def close(self) -> None:
        self._file.close()
