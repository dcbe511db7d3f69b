"""Stores whose pictures have copies: the same corpus in one segment and in many."""

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.job import SearchSettings
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import IndexSnapshot
from tests.end_to_end.commands import tiny_runs
from tests.tiny import LONG_AGO_NS, tiny_index, tiny_pictures

COPIES = 12
"""Of one picture, file by file the same: more than a search asks for at first."""


@dataclass(frozen=True)
class Copied:
    """The pictures, and two stores of them: one of a single segment, one of many."""

    pictures: Path
    whole: Path
    cut: Path
    snapshot: IndexSnapshot
    snapshot_cut: IndexSnapshot


def copied_pictures(folder: Path) -> Path:
    """Fill a folder with 8 pictures, 12 copies of the first, and changed ones of the second."""
    tiny_pictures(folder, 8, broken=0)
    for number in range(COPIES):
        shutil.copy(folder / "00.png", folder / f"copy{number:02d}.png")
    second = Image.open(folder / "01.png").convert("RGB")
    second.resize((80, 80)).save(folder / "large.png")
    out = io.BytesIO()
    second.save(out, "JPEG", quality=60)
    (folder / "small.jpg").write_bytes(out.getvalue())
    third = np.asarray(Image.open(folder / "02.png").convert("RGB")).astype(float)
    for step in (1, 2, 3):
        paler = np.rint(third + (200 - third) * 0.15 * step).astype(np.uint8)
        Image.fromarray(paler).save(folder / f"pale{step}.png")
    for path in folder.iterdir():
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return folder


def copied_stores(folder: Path) -> Copied:
    """Index the pictures twice."""
    pictures = copied_pictures(folder / "pictures")
    with tiny_runs():
        whole = tiny_index(folder / "whole", pictures, index__segment_images=1_000)
        cut = tiny_index(folder / "cut", pictures)
    assert (len(whole.segments), len(cut.segments)) == (1, 9)
    return Copied(pictures, folder / "whole", folder / "cut", whole, cut)


def asking(
    store: Path, snapshot: IndexSnapshot, fusion: FusionSpec, above: float, k: int = 100
) -> tuple[Place, Coordinator, Question]:
    """Return what asks all pictures of a store for their like."""
    place = Place(LocalStore(store), snapshot, SerialRunner(), 1)
    searcher = SegmentSearcher(str(store), snapshot)
    search = SearchSettings(k=k, above=above, exclude_self=True)
    coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
    return place, coordinator, Question(fusion, snapshot.weighting, search)
