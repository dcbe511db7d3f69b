"""Stores that grow night after night, for tests of what is kept and what is forgotten."""

import hashlib
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

import lamella
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import reseal
from tests.tiny import tiny_index, tiny_pictures

SETTLED_S = 60.0

OPEN: dict[str, object] = {
    "name": "nights",
    "gate__removed": 1.0,
    "gate__added": 100.0,
    "gate__refused": 1.0,
    "gate__drift": 1_000.0,
}
"""Settings of a job whose gate lets all pass: a night here changes a quarter of the pictures."""


def settle(folder: Path) -> None:
    """Set the times of all pictures a while back, so that none is read again for its youth."""
    for path in folder.rglob("*"):
        if path.is_file() and time.time() - path.stat().st_mtime < SETTLED_S:
            at = time.time() - SETTLED_S
            os.utime(path, (at, at))


def grow(folder: Path, number: int) -> None:
    """Change a folder of tiny pictures as a night does: one more, one less, one changed."""
    more = tiny_pictures(folder.parent / f"more-{number}", 20 + 3 * number, broken=0)
    shutil.copy(more / f"{18 + 3 * number:02d}.png", folder / f"n{number}.png")
    (folder / f"{number:02d}.png").unlink()
    shutil.copy(more / f"{19 + 3 * number:02d}.png", folder / f"{number + 3:02d}.png")
    settle(folder)


def index_nights(folder: Path, nights: int, **settings: object) -> list[IndexSnapshot]:
    """Index pictures, and again after each night of changes; each night's pictures are kept.

    `folder` gets the store, the pictures as they are, and those of each night as `night-N`.
    """
    pictures = tiny_pictures(folder / "pictures", 12)
    settle(pictures)
    settings = OPEN | settings
    made = []
    for number in range(nights):
        if number:
            grow(pictures, number)
        shutil.copytree(pictures, folder / f"night-{number}")
        made.append(tiny_index(folder / "store", pictures, **settings))
    return made


def age(store: Path, number: int, days: float) -> None:
    """Make a snapshot older."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - days * 86_400.0))
    reseal(store / f"snapshots/{number:06d}.json", published_at=at)


def contents(store: Path, *, without: tuple[str, ...] = ()) -> Counter[str]:
    """Return how often each content stands in a store's data files, by its SHA-256."""
    return Counter(
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
        and path.suffix in (".parquet", ".arrow")
        and path.relative_to(store).parts[0] not in without
    )


def ids_of(store: Path, number: int) -> dict[str, int]:
    """Return the ids of a snapshot's indexed pictures by name."""
    opened = LocalStore(store)
    snapshot = read_snapshot(opened, number)
    names = set[str]()
    for shard in shards_of(opened, snapshot):
        names |= set(pq.read_table(store / shard.file.path).column("name").to_pylist())
    return ImageTable(opened, snapshot).ids_of(names)


def answers(store: Path, number: int) -> str:
    """Return a digest of the answers of a snapshot to all of its own pictures."""
    with lamella.open(store, at=number, threads=1) as index:
        found = index.query(ids=sorted(ids_of(store, number).values()), k=30).to_arrow()
    return hashlib.sha256(repr(found.to_pylist()).encode()).hexdigest()


def bytes_of(store: Path) -> bytes:
    """Return everything in a store, raw and with tables decoded, one after the other."""
    parts: list[bytes] = []
    for path in sorted(store.rglob("*")):
        if not path.is_file():
            continue
        parts += [str(path.relative_to(store)).encode(), path.read_bytes()]
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        elif path.suffix == ".arrow":
            with pa.memory_map(str(path)) as source, ipc.open_file(source) as reader:
                table = reader.read_all()
        else:
            continue
        for column in table.columns:
            for chunk in column.chunks:
                parts += [buffer.to_pybytes() for buffer in chunk.buffers() if buffer is not None]
    return b"\n".join(parts)
