"""Look up the picture of an image id in the corpus's image tables, read on demand."""

import bisect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_images, read_row
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.roots import picture_root
from lamella.pipeline.errors import CorruptFile, SourceGone
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure
from lamella.pipeline.store.tables import ROW_GROUP
from lamella.schemas.snapshot import IndexSnapshot

HELD_BYTES = 256 * 1024**2
"""The most bytes of tables in memory: names of some millions of images. The one in use always
stays."""


class ImageTable:
    """The rows of a snapshot's corpus by image id.

    A shard's table, or its names alone, is read when needed; the most recently used stay.

    Args:
        pictures: the corpus's source as the user names it now, for a picture's own bytes.
        held_bytes: the most bytes that stay in memory.
    """

    def __init__(
        self,
        store: Store,
        snapshot: IndexSnapshot,
        *,
        pictures: str | None = None,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._store = store
        self._shards = [shard for shard in snapshot.shards if shard.images]
        self._firsts = [shard.first_image_id for shard in self._shards]
        self._images = sum(shard.images for shard in self._shards)
        self._held: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._most_bytes, self.held_bytes = held_bytes, 0
        self._recorded_root, self._pictures = snapshot.root, pictures
        self.kind = snapshot.kind

    @cached_property
    def root(self) -> str:
        """Where the pictures may be read. Raises InputError as `picture_root`."""
        return picture_root(self._store, self._recorded_root, self._pictures)

    def row(self, image_id: int) -> dict[str, Any]:
        """Return an image's row. Raises KeyError where there is no such id."""
        number = bisect.bisect_right(self._firsts, image_id) - 1
        if number < 0 or image_id >= self._images:
            raise KeyError(image_id)
        table = self._table(number, "rows")
        row: dict[str, Any] = table.slice(image_id - self._firsts[number], 1).to_pylist()[0]
        return row

    def names_of(self, image_ids: NDArray[np.int64] | Sequence[int]) -> Any:
        """Return the names of images, a pyarrow string column in the order named.

        Each shard is opened once for all of them. Raises KeyError where there is no such id.
        """
        ids = np.asarray(image_ids, np.int64)
        outside = (ids < 0) | (ids >= self._images)
        if outside.any():
            raise KeyError(int(ids[outside][0]))
        shards = np.searchsorted(self._firsts, ids, side="right") - 1
        order = np.argsort(shards, kind="stable")
        numbers, starts = np.unique(shards[order], return_index=True)
        parts = [pa.array([], pa.large_string())]
        for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=False):
            names = self._table(number, "names").column("name").chunk(0)
            parts.append(names.take(pa.array(ids[rows] - self._firsts[number])))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        # Large strings until here: one column may take more than 2 GiB.
        return as_strings(pa.concat_arrays(parts).take(pa.array(back)))

    def names(self) -> Iterator[str]:
        """Yield the names of all images, in the order of ids."""
        for number in range(len(self._shards)):
            yield from self._table(number, "names").column("name").to_pylist()

    def ids_of(self, wanted: set[str]) -> dict[str, int]:
        """Return the first image id of each wanted name that the corpus has."""
        found: dict[str, int] = {}
        for image_id, name in enumerate(self.names()):
            if name in wanted:
                found.setdefault(name, image_id)
        return found

    def picture_bytes(self, image_id: int) -> bytes | None:
        """Return the file of an image, or None where it cannot be read or has changed.

        Raises:
            InputError: the pictures may not be read, as `picture_root`.
        """
        with EntryReader(self.root, DecodeLimits(), self.kind) as reader:
            try:
                return read_row(reader, self.row(image_id))
            except (Refused, SourceGone):
                return None

    def _table(self, number: int, what: str) -> Any:
        """Return a shard's rows or names as large strings; evict the least recently used."""
        key = (number, what)
        if key not in self._held:
            columns = ["name"] if what == "names" else None
            table = read_committed(
                self._store, self._shards[number].file, lambda path: read_images(path, columns)
            )
            if table.num_rows != self._shards[number].images:
                raise CorruptFile(
                    f"{self._shards[number].file.path} has {table.num_rows:,} rows, its snapshot "
                    f"says {self._shards[number].images:,}: {cure(self._store)}"
                )
            if what == "names":
                table = table.cast(_LONG_NAMES).combine_chunks()
            self._held[key] = table
            self.held_bytes += table.nbytes
            while self.held_bytes > self._most_bytes and len(self._held) > 1:
                self.held_bytes -= self._held.popitem(last=False)[1].nbytes
        self._held.move_to_end(key)
        return self._held[key]


_LONG_NAMES = pa.schema([pa.field("name", pa.large_string())])


def as_strings(column: Any) -> Any:
    """Return a column of large strings as strings, in chunks below 2 GiB."""
    parts = range(0, len(column), ROW_GROUP)
    return pa.chunked_array(
        [column.slice(start, ROW_GROUP).cast(pa.string()) for start in parts], pa.string()
    )
