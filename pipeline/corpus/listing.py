"""The listing of a source: its entries in a fixed order, before any picture is opened."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason

MOST_NAME_BYTES = 4096
"""The longest path on Linux; a longer name leads nowhere and is stored cut."""


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


@dataclass(frozen=True)
class Listing:
    """The entries of a source in their fixed order.

    By name, in byte order, for folders and lists; by container, then place within it, for tars
    and Parquet files, so that a shard reads a container from front to back. Names may repeat.
    `passed_over` counts by kind the files that were not listed; it is in no digest. `listed_ns` is
    when the listing began, in ns since 1970. `forgotten` are the keys of what must not be indexed,
    in order: see `corpus.forgotten`.
    """

    kind: SourceKind
    root: str
    entries: tuple[Entry, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    listed_ns: int = 0
    forgotten: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a SHA-256, in hex, over kind and entries; the path of the root is not in it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:  # seconds for a million entries, and asked for several times
        return hashlib.sha256(self.kind.encode() + digest_of(self.entries)).hexdigest()

    def settled(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return entries, without the versions of those that may have changed unnoticed.

        A file that was written right before it was listed may be written again under the same time.
        """
        return tuple(e._replace(version=None) if self._is_unsure(e) else e for e in entries)

    def _is_unsure(self, entry: Entry) -> bool:
        if not entry.version:
            return False
        near = FINE_NS if entry.version % 1_000_000_000 else COARSE_NS
        return entry.version > self.listed_ns - near


def digest_of(entries: Iterable[Entry]) -> bytes:
    """Return a SHA-256 over entries, 32 bytes."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(b"\n" + json.dumps(entry).encode())
    return digest.digest()


COARSE_NS, FINE_NS = 2_000_000_000, 20_000_000
"""How near the listing a file may have been written and then changed again under the same time:
2 s where times are whole seconds, as on FAT, and else 20 ms, two ticks of a slow kernel's clock."""


def numbered(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries with their occurrences counted. Those of a container stand together."""
    container, seen = "", Counter[str]()
    for entry in entries:
        if entry.container != container:
            container, seen = entry.container, Counter()
        occurrence = seen[entry.name]
        seen[entry.name] += 1
        yield entry._replace(occurrence=occurrence) if occurrence else entry


def storable(name: str) -> tuple[str, RefusalReason | None]:
    """Return a name that can be stored, and the fault if it had to be changed."""
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) > MOST_NAME_BYTES:
        start, end = (part.decode("utf-8", "replace") for part in (raw[:100], raw[-20:]))
        digest = hashlib.sha256(raw).hexdigest()[:12]
        return f"{start}... ({len(raw):,} bytes, {digest}) ...{end}", RefusalReason.BAD_NAME
    try:
        name.encode()
    except UnicodeEncodeError:
        # Bytes that are not UTF-8 are surrogates in a name.
        escaped = name.encode("utf-8", "backslashreplace").decode()
        return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", escaped), RefusalReason.BAD_NAME
    return name, RefusalReason.BAD_NAME if "\0" in name else None
