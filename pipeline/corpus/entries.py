"""The entries of a source, kept on disk: there may be more of them than memory holds."""

import hashlib
import heapq
import itertools
import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

from lamella.schemas.refusals import RefusalReason

HELD_BYTES = 1 << 20
"""Shorter entries stay in memory, as lines of JSON; those of about 10,000 files."""

BLOCK = 256
"""Entries that are read back at once."""

SORTED_AT_ONCE = 50_000
"""Entries that are sorted in memory, about 15 MB; more are sorted in runs, which are merged."""


class Entry(NamedTuple):
    """One candidate image: where its bytes are.

    `container` is "" for a plain file whose path under the root is `name`, else the tar or Parquet
    file, relative to the root; `offset` is the byte where the data starts in a tar, or the row in
    a Parquet file. `size_bytes` is -1 where it is not known without reading. `version` is the time
    of modification in ns for a file, and an opaque number for an object in S3; it is None where
    nothing shows whether the bytes have changed. `fault` is set where the listing already knows
    that it cannot be read. `occurrence` counts the entries of the same container and name before
    this one.
    """

    name: str
    container: str = ""
    offset: int = 0
    size_bytes: int = -1
    version: int | None = 0
    fault: RefusalReason | None = None
    occurrence: int = 0

    @property
    def place(self) -> str:
        """What the entries of a listing are in order of: the container, or the name of a file."""
        return self.container or self.name


FAULT = Entry._fields.index("fault")


class Entries(Sequence[Entry]):
    """Entries in the order in which they were given, in a scratch file without a name.

    Nothing of the file is left, however the process ends. A slice reads its entries when they are
    asked for, and takes them along where it is pickled.

    Raises:
        OSError: the scratch folder is full.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._digest = hashlib.sha256()
        self._starts = array("q")  # the byte at which each block begins
        self._bytes = 0
        self._file: Any = None
        self._length = 0
        self._read: tuple[int, list[Entry]] = (-1, [])
        held = bytearray()
        for entry in entries:
            if self._length % BLOCK == 0:
                self._starts.append(self._bytes + len(held))
                if len(held) > HELD_BYTES:
                    held = self._spill(held)
            held += _line(entry)
            self._length += 1
        if self._bytes:
            held = self._spill(held)
        self._held = bytes(held)
        self._digest.update(held)

    def digest(self) -> bytes:
        """Return what `digest_of` these entries is."""
        return self._digest.digest()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Entry]:
        return self.between(0, self._length)

    def between(self, start: int, stop: int) -> Iterator[Entry]:
        """Yield the entries from a number up to another."""
        for number in range(start // BLOCK, -(-stop // BLOCK)):
            first = number * BLOCK
            yield from self._block(number)[max(start - first, 0) : stop - first]

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | Sequence[Entry]:
        """Return one entry, or a part whose entries are read when they are asked for."""
        if isinstance(place, slice):
            start, stop, step = place.indices(self._length)
            return Part(self, start, max(start, stop)) if step == 1 else tuple(self)[place]
        number = range(self._length)[place]
        if self._read[0] != number // BLOCK:
            self._read = (number // BLOCK, self._block(number // BLOCK))
        return self._read[1][number % BLOCK]

    def __reduce__(self) -> tuple[type["Entries"], tuple[list[Entry]]]:
        return Entries, (list(self),)

    def _spill(self, held: bytearray) -> bytearray:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - for our lifetime
                weakref.finalize(self, self._file.close)
            left = memoryview(held)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(
                error.errno,
                f"the scratch folder {tempfile.gettempdir()} (TMPDIR) does not hold the list of "
                f"the source, {self._bytes + len(held):,} bytes so far: {error.strerror}; free "
                "space there, or set TMPDIR to a folder that has some",
            ) from error
        self._digest.update(held)
        self._bytes += len(held)
        return bytearray()

    def _block(self, number: int) -> list[Entry]:
        start = self._starts[number]
        last = number + 1 == len(self._starts)
        stop = self._bytes + len(self._held) if last else self._starts[number + 1]
        if self._bytes:
            data = os.pread(self._file.fileno(), stop - start, start)
        else:
            data = self._held[start:stop]
        rows = json.loads(b"[" + data[1:].replace(b"\n", b",") + b"]")
        for row in rows:
            row[FAULT] = row[FAULT] and RefusalReason(row[FAULT])
        return [Entry._make(row) for row in rows]


class Part(Sequence[Entry]):
    """Consecutive entries of a larger listing, which are read when they are asked for."""

    def __init__(self, whole: Entries, start: int, stop: int) -> None:
        self._whole = whole
        self._range = range(start, stop)

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[Entry]:
        return self._whole.between(self._range.start, self._range.stop)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(place, slice):
            return tuple(self)[place]
        return self._whole[self._range[place]]

    def __reduce__(self) -> tuple[type[tuple[Entry, ...]], tuple[list[Entry]]]:
        return tuple, (list(self),)


def digest_of(entries: Iterable[Entry]) -> bytes:
    """Return a SHA-256 over entries, 32 bytes."""
    if isinstance(entries, Entries):
        return entries.digest()
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(_line(entry))
    return digest.digest()


def in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Take all entries, and return them in byte order of their names.

    They are sorted in runs that fit into memory, which are then merged.
    """
    rest, ends = iter(entries), [0]

    def runs() -> Iterator[Entry]:
        while run := sorted(itertools.islice(rest, SORTED_AT_ONCE), key=_by_name):
            ends.append(ends[-1] + len(run))
            yield from run

    kept = Entries(runs())
    return heapq.merge(*(kept[a:b] for a, b in itertools.pairwise(ends)), key=_by_name)


def _by_name(entry: Entry) -> tuple[bytes, str]:
    # A name that was escaped may be that of another file.
    return entry.name.encode(), entry.fault or ""


def _line(entry: Entry) -> bytes:
    return b"\n" + json.dumps(entry).encode()
