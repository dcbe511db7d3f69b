"""A folder of small pictures that changes from night to night, and what each night costs."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from lamella.pipeline.corpus import image_table
from lamella.pipeline.extract.work import PictureSource
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.storage import open_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.tiny import LONG_AGO_NS


@dataclass
class Source:
    """The pictures; `clock` is what the next written file is dated."""

    folder: Path
    clock: int = LONG_AGO_NS
    drawn: int = 0
    left: list[str] = field(default_factory=list)

    def write(self, name: str, seed: int | None = None) -> None:
        """Write a picture of 40 x 40; each seed is another one, and so is each call without."""
        self.drawn += 1
        chance = np.random.default_rng(10_000 + self.drawn if seed is None else seed)
        pixels = chance.integers(0, 256, (5, 5, 3), np.uint8)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC).save(path)
        self.touch(name)

    def touch(self, name: str) -> None:
        """Give a file another time."""
        self.clock += 1_000_000_007
        os.utime(self.folder / name, ns=(self.clock, self.clock))

    def move(self, name: str, to: str) -> None:
        """Rename a file; it keeps its time."""
        (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).rename(self.folder / to)

    def copy(self, name: str, to: str) -> None:
        """Copy a file with its time."""
        (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self.folder / name, self.folder / to)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink()

    @property
    def names(self) -> list[str]:
        """The names of all files, in the order of a listing."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


Edit = Callable[[Source, random.Random], object]


def _any(source: Source, chance: random.Random) -> str:
    return chance.choice(source.names)


def _swap(source: Source, chance: random.Random) -> None:
    one, other = chance.sample(source.names, 2)
    source.move(one, "swap.png")
    source.move(other, one)
    source.move("swap.png", other)


def _add_a_few(source: Source, chance: random.Random) -> None:
    for _ in range(3):
        source.write(f"m/{chance.randrange(10**6):06d}.png")


EDITS: dict[str, Edit] = {
    "add first": lambda s, c: s.write(f"a/{c.randrange(10**6):06d}.png"),
    "add last": lambda s, c: s.write(f"z/{c.randrange(10**6):06d}.png"),
    "add a few": _add_a_few,
    "change": lambda s, c: s.write(_any(s, c)),
    "delete": lambda s, c: s.delete(_any(s, c)) if len(s.names) > 4 else None,
    "rename": lambda s, c: s.move(name := _any(s, c), f"{name[:-4]}-again.png"),
    "rename across": lambda s, c: s.move(_any(s, c), f"k/{c.randrange(10**6):06d}.png"),
    "copy": lambda s, c: s.copy(_any(s, c), f"c/{c.randrange(10**6):06d}.png"),
    "swap": _swap,
    "touch": lambda s, c: s.touch(_any(s, c)),
    "no picture": lambda s, c: (s.folder / "notes.txt").write_text(str(c.random())),
}
"""What may happen to a source in a day, by name."""


@dataclass
class Cost:
    """What a run did: bodies of files read to look at them, and pictures through the network."""

    looked_at: int = 0
    through_the_network: int = 0


@contextlib.contextmanager
def counted() -> Iterator[Cost]:
    """Count what runs in this process read and extract inside the block."""
    cost, probe, see = Cost(), image_table.probe_entry, PictureSource.see

    def probed(*args: object, **named: object) -> object:
        cost.looked_at += 1
        return probe(*args, **named)  # type: ignore[arg-type]

    def seen(self: PictureSource, *args: object) -> object:
        cost.through_the_network += 1
        return see(self, *args)  # type: ignore[arg-type]

    with (
        mock.patch.object(image_table, "probe_entry", probed),
        mock.patch.object(PictureSource, "see", seen),
    ):
        yield cost


def identities(folder: Path | str, snapshot: IndexSnapshot) -> dict[int, tuple[str, bytes]]:
    """Return by id of each indexed image its name and the SHA-256 of its bytes."""
    store = open_store(str(folder))
    table = ImageTable(store, snapshot)
    ids = SegmentSearcher(str(folder), snapshot).image_ids().tolist()
    rows = {image_id: table.row(image_id) for image_id in ids}
    return {image_id: (row["name"], row["sha256"]) for image_id, row in rows.items()}


def contents(folder: Path | str, snapshot: IndexSnapshot) -> set[bytes]:
    """Return the SHA-256 of all indexed images of a snapshot."""
    return {sha256 for _, sha256 in identities(folder, snapshot).values()}


def shard_files(folder: Path | str, snapshot: IndexSnapshot) -> set[str]:
    """Return the paths of the image tables and of the segments' files of a snapshot."""
    store = open_store(str(folder))
    tables = {shard.file.path for shard in shards_of(store, snapshot)}
    return tables | {f.path for segment in snapshot.segments for f in segment.files.values()}
