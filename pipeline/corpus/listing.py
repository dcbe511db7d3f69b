"""The listing of a source: its entries in a fixed order, before any picture is opened."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason

MOST_NAME_BYTES = 4096
"""The longest path on Linux; a longer name leads nowhere and is stored cut."""


class Entry(NamedTuple):
    """One candidate image: where its bytes are.

    `container` is "" for a plain file whose path under the root is `name`, else the tar or Parquet
    file, relative to the root; `offset` is the byte where the data starts in a tar, or the row in
    a Parquet file. `size_bytes` is -1 where it is not known without reading. `modified_ns` is a
    time for a file, and an opaque version for an object in S3. `fault` is set where the listing
    already knows that it cannot be read.
    """

    name: str
    container: str = ""
    offset: int = 0
    size_bytes: int = -1
    modified_ns: int = 0
    fault: RefusalReason | None = None


@dataclass(frozen=True)
class Listing:
    """The entries of a source in their fixed order.

    By name, in byte order, for folders and lists; by container, then place within it, for tars
    and Parquet files, so that a shard reads a container from front to back. Names may repeat.
    `passed_over` counts by kind the files that were not listed; it is in no digest.
    """

    kind: SourceKind
    root: str
    entries: tuple[Entry, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """Return a SHA-256, in hex, over kind and entries; the path of the root is not in it."""
        digest = hashlib.sha256(self.kind.encode())
        for entry in self.entries:
            digest.update(b"\n" + json.dumps(entry).encode())
        return digest.hexdigest()


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
