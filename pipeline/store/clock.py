"""The time by the clock that dates the files of a store, which is not that of this machine."""

import time
from secrets import token_hex

from lamella.pipeline.errors import MissingFile, StoreError
from lamella.pipeline.scratch import scratch
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store


def store_clock(store: Store) -> float:
    """Write a file to the store and return its time: the time by the store's own clock.

    Raises:
        MissingFile: the file is not listed after it was written.
    """
    path = tree.CLOCK.at(token=token_hex(6))
    with scratch("clock") as files:
        local = files / "clock"
        local.write_bytes(b"")
        store.put(path, local)
    try:
        for file in store.walk("probe"):
            if file.path == path:
                return file.modified
        raise MissingFile(f"{path} was written and is not listed in {store.url}")
    finally:
        store.discard(path)


def time_of(store: Store) -> tuple[float, bool]:
    """Return the time by the store's clock, and True; by this machine's where it cannot be written.

    A reader may have no right to write, and then it has no other clock.
    """
    try:
        return store_clock(store), True
    except (StoreError, OSError):
        return time.time(), False
