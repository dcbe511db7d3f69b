"""The listing of a source: its entries in a fixed order, before any picture is opened."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lamella.pipeline.corpus.entries import Entry as Entry
from lamella.pipeline.corpus.entries import digest_of
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason

MOST_NAME_BYTES = 4096
"""The longest path on Linux; a longer name leads nowhere and is stored cut."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The columns that are kept beside the pictures of a listing; see `corpus.kept_columns`.

    Attributes:
        schema: their names and types, a pyarrow schema.
        files: the size and the version of each Parquet file, by container: a row of one may change
            while the picture that it names does not.
    """

    schema: Any
    files: Mapping[str, tuple[int, int | None]]

    def facts(self) -> list[Any]:
        """Return what decides their values, as plain values."""
        return [columns_said(self.schema), [[name, *of] for name, of in sorted(self.files.items())]]


def columns_said(schema: Any) -> list[list[str]]:
    """Return the names and types of a schema as text."""
    return [[field.name, str(field.type)] for field in schema]


@dataclass(frozen=True)
class Listing:
    """The entries of a source in their fixed order.

    By name, in byte order, for folders and lists; by container, then place within it, for tars
    and Parquet files, so that a shard reads a container from front to back. Names may repeat.
    `list_source` gives them as `Entries`, which are on disk where they are many.
    `passed_over` counts by kind the files that were not listed; it is in no digest. `listed_ns` is
    when the listing began, in ns since 1970. `forgotten` are the keys of what must not be indexed,
    in order: see `corpus.forgotten`. `kept` says which columns of Parquet files are kept, if any.
    `vectors` are what the entries of a corpus of vectors name.
    """

    kind: SourceKind
    root: str
    entries: Sequence[Entry]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    listed_ns: int = 0
    forgotten: tuple[str, ...] = ()
    kept: Kept | None = None
    vectors: GivenVectors | None = None

    def digest(self) -> str:
        """Return a SHA-256, in hex, over kind and entries; the path of the root is not in it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:  # seconds for a million entries, and asked for several times
        return hashlib.sha256(self.kind.encode() + digest_of(self.entries)).hexdigest()


COARSE_NS, FINE_NS = 2_000_000_000, 20_000_000
"""How near the listing a file may have been written and then changed again under the same time:
2 s where times are whole seconds, as on FAT, and else 20 ms, two ticks of a slow kernel's clock."""


def settled(entries: Iterable[Entry], listed_ns: int) -> tuple[Entry, ...]:
    """Return entries, without the versions of those that may have changed unnoticed.

    A file that was written right before it was listed may be written again under the same time.
    """

    return tuple(
        e._replace(version=None) if is_unsure(e.version, listed_ns) else e for e in entries
    )


def is_unsure(version: int | None, listed_ns: int) -> bool:
    """Say whether a file of this version may have changed unnoticed; not so of an unknown one."""
    if not version:
        return False
    near = FINE_NS if version % 1_000_000_000 else COARSE_NS
    return version > listed_ns - near


def numbered(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries with their occurrences counted.

    Those of a container stand together, and so do plain files of one name.
    """
    container, last, seen = "", "", Counter[str]()
    for entry in entries:
        if entry.container != container or (not container and entry.name != last):
            container, last = entry.container, entry.name
            seen.clear()
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
