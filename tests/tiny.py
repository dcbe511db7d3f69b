"""A store so small that every fault can be tried on it: six pictures, two shards, twelve words."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store import local
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import JobConfig
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import index_into, small_job

TINY = {
    "corpus__shard_images": 3,  # the names of six pictures are cut into four and two
    "network__preprocess__short_edge": 64,
    "network__preprocess__crop": 64,
    "vocabulary__words": 12,
    "vocabulary__rounds": 3,
    "vocabulary__assigner": "exact",
    "vocabulary__projection": "none",  # its steps would double the places of faults
    "index__segment_images": 3,
}


LONG_AGO_NS = 1_600_000_000_000_000_001
"""A time of modification long before any listing: files written right before one are read again."""


def tiny_job(**settings: object) -> JobConfig:
    """Return a job over a few very small pictures."""
    return small_job(**(TINY | settings))


def tiny_pictures(folder: Path, count: int = 6, *, broken: int = 1) -> Path:
    """Fill a folder with seeded pictures of 40 x 40; the last `broken` of them are cut short."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
        image = Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC)
        path = folder / f"{number:02d}.png"
        image.save(path)
        if number >= count - broken:
            path.write_bytes(path.read_bytes()[:-40])
        os.utime(path, ns=(LONG_AGO_NS + number, LONG_AGO_NS + number))
    return folder


def tiny_index(store: Path | str, pictures: Path | str, **settings: object) -> IndexSnapshot:
    """Index tiny pictures in this process."""
    return index_into(store, pictures, job=tiny_job(**settings), threads=1)


def ids_by_name(store: Path | str, snapshot: IndexSnapshot) -> dict[str, int]:
    """Return the ids of all indexed images by name, in the order of the names."""
    ids = SegmentSearcher(str(store), snapshot).image_ids()
    names = ImageTable(open_store(str(store)), snapshot).names_of(ids).to_pylist()
    return dict(sorted(zip(names, ids.tolist(), strict=True)))


@contextlib.contextmanager
def nothing_reaches_the_disk() -> Iterator[None]:
    """Leave out fsync: the machine stays up in these tests, and there are thousands of writes."""
    with mock.patch.object(local, "_fsync", return_value=None):
        yield


def seeded(name: str) -> random.Random:
    """Return random numbers that are the same in every run, by the test's name."""
    return random.Random(name)
