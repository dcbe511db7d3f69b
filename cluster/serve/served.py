"""A snapshot that is open to be asked: its index, its pictures, and what a picture may cost."""

import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from lamella.cluster.serve.problems import Problem
from lamella.cluster.serve.settings import ServeSettings
from lamella.opened import Index
from lamella.opened import open as open_index
from lamella.pipeline import events
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_row
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import SOUND
from lamella.pipeline.corpus.stage import decode_limits
from lamella.pipeline.errors import InputError, LamellaError, MissingFile, SourceGone
from lamella.pipeline.jobs.resolve import chosen_snapshot
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot

MOST_FOLDERS = 500
"""Folders that are listed to choose from; those with most pictures."""


class Served:
    """A snapshot that is open; made by `open_served`. Safe in threads.

    Attributes:
        index: answers, one call at a time.
        limits: what a picture may cost, those of the job that made the snapshot.
        no_uploads: why pictures from elsewhere cannot be asked; "" if they can.
    """

    def __init__(self, index: Index, images: ImageTable, limits: DecodeLimits) -> None:
        self.index, self.limits = index, limits
        self.snapshot = index.snapshot
        self.no_uploads = ""
        self._images = images
        # Looked up beside the queries, which hold the index for as long as they take.
        self._lock = threading.Lock()
        self.ids = images.image_ids()

    def warm(self) -> None:
        """Open all that the first queries need, so that they do not wait for it."""
        if len(self.ids):
            self.index.query(ids=int(self.ids[0]), k=1)
        try:
            # Layers whose vectors were given have none of a picture from elsewhere.
            computed = [layer.name for layer in self.snapshot.extraction.computed]
            self.index.query(SOUND, k=1, layers=computed or None)
        except LamellaError as error:
            self.no_uploads = str(error)
            events.warning("no-uploads", f"indexed pictures can be asked, others cannot: {error}")

    def random(self) -> int:
        """Return the id of an indexed image. Raises Problem where there is none."""
        if not len(self.ids):
            raise Problem(404, "no-picture", f"snapshot {self.snapshot.number} has no picture")
        return int(secrets.choice(self.ids))

    def row(self, image_id: int) -> Mapping[str, Any]:
        """Return an image's row of the image table. Raises Problem where there is none."""
        try:
            with self._lock:
                return self._images.row(image_id)
        except (KeyError, OverflowError):
            raise Problem(
                404, "no-picture", f"snapshot {self.snapshot.number} has no image {image_id}"
            ) from None

    def ids_of(self, names: list[str]) -> dict[str, int]:
        """Return the ids of indexed images by name: of several of one name, the first."""
        with self._lock:
            return self._images.ids_of(set(names))

    def picture(self, row: Mapping[str, Any]) -> bytes:
        """Return the file of an image. Raises Problem where it is gone, or another by now."""
        try:
            with EntryReader(self._images.root, self.limits, self._images.kind) as reader:
                return read_row(reader, row)
        except Refused as refused:
            why = f"{refused.reason.meaning}{f' ({refused.detail})' if refused.detail else ''}"
        except (SourceGone, InputError) as error:
            why = str(error)
        raise Problem(410, "picture-gone", f"the picture {row['name']!r} cannot be shown: {why}")

    @cached_property
    def folders(self) -> list[tuple[str, int]]:
        """The folders that pictures are in, with how many each has below it, by name."""
        with self._lock:
            names = self._images.names_of(self.ids)
        counts: Counter[str] = Counter()
        folders = pc.replace_substring_regex(names, pattern="(^|/)[^/]*$", replacement="")
        for found in pc.value_counts(folders).to_pylist():
            parts = found["values"].split("/") if found["values"] else []
            for n in range(len(parts)):
                counts["/".join(parts[: n + 1])] += found["counts"]
        return sorted(counts.most_common(MOST_FOLDERS))

    def close(self) -> None:
        """Let the index go."""
        self.index.close()


def open_served(settings: ServeSettings, number: int | str | None = None) -> Served:
    """Open a snapshot and what its first queries need.

    Args:
        number: the snapshot's number or tag; the promoted one by default.

    Raises:
        InputError: there is no store or no snapshot.
        StoreError: it is damaged, or does not answer.
    """
    store = open_store(settings.store)
    snapshot = chosen_snapshot(store, number)
    limits = job_limits(store, snapshot)
    index = open_index(
        settings.store,
        at=snapshot.number,
        weights=settings.weights,
        threads=settings.threads,
        limits=limits,
    )
    made = Served(index, ImageTable(store, snapshot, pictures=settings.pictures), limits)
    made.warm()
    return made


def job_limits(store: Store, snapshot: IndexSnapshot) -> DecodeLimits:
    """Return what the job that made a snapshot let a picture cost; the usual, if it is not known.

    An old snapshot names no record of its job.
    """
    try:
        job = read_record(store, snapshot.job, JobRecord).job if snapshot.job else JobConfig()
    except MissingFile:
        job = JobConfig()
    return decode_limits(job)
