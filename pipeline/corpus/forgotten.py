"""Pictures that must never be indexed again, by name or by the SHA-256 of their bytes.

A store keeps digests of the names and hashes, and not these themselves: see `Forgotten`. A name
leaves the listing before it is cut into shards; bytes are known once they have been read, and such
an entry leaves no row in any table.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from lamella.pipeline.corpus.entries import Entries, Entry
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.passed_over import FORGOTTEN
from lamella.pipeline.errors import StoreError
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.keeping import Forgotten

By = Literal["name", "sha256"]


def forgotten_digest(by: By, value: str) -> str:
    """Return the digest that stands for a forgotten name, or for a SHA-256 in small hex."""
    text = f"lamella forgotten {by}\n{value}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()


def forgotten_key(by: By, value: str) -> str:
    """Return what a listing holds for a forgotten name or hash: the name of its file."""
    return f"{by}-{forgotten_digest(by, value)}"


def forgotten_path(by: By, value: str) -> str:
    """Return the path of the record of a forgotten name or hash."""
    return tree.FORGOTTEN.at(by=by, digest=forgotten_digest(by, value))


def read_forgotten(store: Store) -> list[str]:
    """Return the keys of everything forgotten, the oldest first.

    A damaged record counts, for its name says it all.
    """
    keys = [
        name.removesuffix(".json")
        for name in store.names("forgotten")
        if tree.FORGOTTEN.form.read(f"forgotten/{name}") is not None
    ]

    def when(key: str) -> tuple[str, str]:
        try:
            return read_record(store, f"forgotten/{key}.json", Forgotten).forgotten_at, key
        except StoreError:
            return "", key

    return sorted(keys, key=when)


def without_forgotten(store: Store, listing: Listing) -> Listing:
    """Return a listing without what must not be indexed; it says what that is."""
    return leave_out(listing, read_forgotten(store))


def leave_out(listing: Listing, keys: Collection[str]) -> Listing:
    """Return a listing without the entries of these names, which remembers all the keys."""
    if not keys:
        return listing
    known = frozenset(keys)
    kept = Entries(e for e in listing.entries if forgotten_key("name", e.name) not in known)
    passed_over = dict(listing.passed_over)
    if gone := len(listing.entries) - len(kept):
        passed_over[FORGOTTEN] = passed_over.get(FORGOTTEN, 0) + gone
    return replace(listing, entries=kept, passed_over=passed_over, forgotten=tuple(sorted(known)))


def earlier_listings(store: Store, listing: Listing) -> Iterator[Listing]:
    """Yield a listing as it was cut after each forgetting, the last one first, then before any."""
    keys = read_forgotten(store)
    for count in range(len(keys), -1, -1):
        yield leave_out(listing, keys[:count])


def is_forgotten(row: Mapping[str, Any], keys: Collection[str]) -> bool:
    """Say whether the bytes of a picture, by its row of an image table, are forgotten."""
    sha256 = row["sha256"]
    return bool(keys) and sha256 is not None and forgotten_key("sha256", sha256.hex()) in keys


def named_entries(rows: list[dict[str, Any]]) -> list[Entry]:
    """Return the entries of a table of `SEEN`, as far as their place is concerned."""
    return [Entry(row["name"], row["container"], row["offset"]) for row in rows]
