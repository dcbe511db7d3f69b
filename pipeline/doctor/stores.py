"""A store, or a place for one: can it be written, and does it honour create-only writes?"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.errors import StoreError
from lamella.pipeline.scratch import scratch
from lamella.pipeline.store.address import is_s3, parse_s3
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import check_place, free_bytes, probe_create_only
from lamella.pipeline.store.tree import MARKER, MARKER_BYTES
from lamella.pipeline.text import byte_size, duration

AWRY_S = 300.0
"""A clock that differs by more is worth a word: S3 refuses requests 15 minutes off."""


def of_store(url: str) -> list[Finding]:
    """Try a store: write, create twice, read, list and remove, all in a place of its own within.

    A place without a store is tried as well. A store that is there is not touched.

    Raises:
        InputError: the address is invalid.
        StoreError: it cannot be written, or does not honour create-only writes.
    """
    check_place(url)
    with _beside(url) as place:
        probe_create_only(place)
        if place.read(MARKER) != MARKER_BYTES:
            raise StoreError(f"{place.url} gives other bytes than were written: choose another")
        listed = [file for file in place.walk() if file.path == MARKER]
        if not listed:
            raise StoreError(f"{place.url} does not list what was written: choose another")
        found = [Finding("create-only", "ok", "a second create fails, as it must", needed=True)]
        found.append(_clocks(listed[0].modified))
        found.append(_removed(place))
    free = free_bytes(url)
    where = "no limit is known" if free is None else f"{byte_size(free)} free"
    return [Finding("store", "ok", f"{url}: read, written, listed; {where}", needed=True), *found]


@contextmanager
def _beside(url: str) -> Iterator[Store]:
    """Give an empty store that is where the store is, and no part of it."""
    if is_s3(url):
        from lamella.pipeline.store.s3_store import S3Store

        address = parse_s3(url)
        yield S3Store(parse_s3(f"s3://{address.bucket}/{address.key(f'probe/{token_hex(6)}')}"))
        return
    root = Path(url).expanduser().resolve()
    with scratch("doctor", next(each for each in (root, *root.parents) if each.is_dir())) as files:
        yield LocalStore(files)


def _clocks(modified: float) -> Finding:
    apart = modified - time.time()
    if abs(apart) < AWRY_S:
        return Finding("its clock", "ok", "agrees with this machine's")
    said = f"{duration(abs(apart))} {'ahead of' if apart > 0 else 'behind'} this machine's"
    return Finding("its clock", "broken", said, "set this machine's clock")


def _removed(place: Store) -> Finding:
    try:
        place.discard(MARKER)
    except StoreError as error:
        said = f"{error}; {place.url} stays, and may be removed"
        return Finding("removing", "missing", said, "only gc, forget and training need that right")
    return Finding("removing", "ok", "what was written for this trial is gone")
