"""Look up the picture of an image id in the corpus's image tables, read on demand."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_images, read_row
from lamella.pipeline.corpus.kept_columns import read_stored_columns
from lamella.pipeline.corpus.listing import storable
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.roots import picture_root
from lamella.pipeline.errors import CorruptFile, SourceGone
from lamella.pipeline.index.files import read_members
from lamella.pipeline.index.shards import segment_shards
from lamella.pipeline.search.where import FACTS, KEPT
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure, read_record
from lamella.pipeline.store.tables import ROW_GROUP, column
from lamella.schemas.corpus import ShardRef
from lamella.schemas.snapshot import IndexSnapshot, SegmentManifest

HELD_BYTES = 256 * 1024**2
"""The most bytes of tables in memory: names of some millions of images. The one in use always
stays."""


class ImageTable:
    """The rows of a snapshot's indexed images by image id.

    A segment's list of images says in which shard's table a row stands. A shard's table, or its
    names alone, is read when needed; the most recently used stay.

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
        self._store, self._snapshot = store, snapshot
        self._held: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._most_bytes, self.held_bytes = held_bytes, 0
        self.recorded_root, self._pictures = snapshot.root, pictures
        self.kind = snapshot.kind

    @cached_property
    def root(self) -> str:
        """Where the pictures may be read. Raises InputError as `picture_root`."""
        return picture_root(self._store, self.recorded_root, self._pictures)

    @cached_property
    def _segments(self) -> list[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
        """The images of each segment: ids, rising; their shards, counted through all; their rows.

        All (n,).
        """
        found, first = [], 0
        for segment, shards in zip(self._snapshot.segments, self._of_segments, strict=True):
            table = read_committed(self._store, segment.files["images"], read_members)
            ids = column(table, "image_id").astype(np.int64)
            shard, row = column(table, "shard"), column(table, "row")
            sizes = np.array([each.images for each in shards], np.int64)
            if len(ids) and not (int(shard.min()) >= 0 and int(shard.max()) < len(shards)):
                raise CorruptFile(
                    f"{segment.files['images'].path} names a shard that segment {segment.key} does "
                    f"not have: {cure(self._store)}"
                )
            if ((row < 0) | (row >= sizes[shard])).any():
                raise CorruptFile(
                    f"{segment.files['images'].path} names a row that its shard does not have: "
                    f"{cure(self._store)}"
                )
            found.append((ids, shard.astype(np.int64) + first, row))
            first += len(shards)
        return found

    @cached_property
    def _of_segments(self) -> list[Any]:
        return segment_shards(self._store, self._snapshot)

    @cached_property
    def _shards(self) -> list[Any]:
        return [shard for shards in self._of_segments for shard in shards]

    def image_ids(self) -> NDArray[np.int64]:
        """Return the ids of all indexed images, (n,) rising."""
        return np.sort(
            np.concatenate([np.empty(0, np.int64), *(ids for ids, *_ in self._segments)])
        )

    def _places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shard and the row of each image, (n,). Raises KeyError for an unknown id."""
        shards, rows = np.full(len(ids), -1, np.int64), np.zeros(len(ids), np.int64)
        for known, shard, row in self._segments:
            if not len(known):
                continue
            at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            here = known[at] == ids
            shards[here], rows[here] = shard[at[here]], row[at[here]]
        if (shards < 0).any():
            raise KeyError(int(ids[shards < 0][0]))
        return shards, rows

    def row(self, image_id: int) -> dict[str, Any]:
        """Return an image's row. Raises KeyError where there is no such id."""
        (shard,), (place,) = self._places(np.array([image_id], np.int64))
        row: dict[str, Any] = self._table(int(shard), "rows").slice(int(place), 1).to_pylist()[0]
        self._check(int(shard), row["image_id"] == image_id)
        return row

    def rows_in_order(self, image_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yield the rows of images in the order of the corpus: each shard's table is read once.

        Raises KeyError where there is no such id.
        """
        ids = np.asarray(image_ids, np.int64)
        shards, places = self._places(ids)
        for image_id in ids[np.lexsort((places, shards))].tolist():
            yield self.row(image_id)

    def _check(self, shard: int, is_of_these: bool) -> None:
        """Raise CorruptFile where a shard's table has other images in rows that a segment names."""
        if not is_of_these:
            raise CorruptFile(
                f"{self._shards[shard].file.path} has other images than its segment says: "
                f"{cure(self._store)}"
            )

    def names_of(self, image_ids: NDArray[np.int64] | Sequence[int]) -> Any:
        """Return the names of images, a pyarrow string column in the order named.

        Each shard is opened once for all of them. Raises KeyError where there is no such id.
        """
        ids = np.asarray(image_ids, np.int64)
        shards, places = self._places(ids)
        order = np.argsort(shards, kind="stable")
        numbers, starts = np.unique(shards[order], return_index=True)
        parts = [pa.array([], pa.large_string())]
        for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=False):
            table = self._table(number, "names").take(pa.array(places[rows])).combine_chunks()
            self._check(number, np.array_equal(table.column("image_id"), ids[rows]))
            parts.append(table.column("name").chunk(0))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        # Large strings until here: one column may take more than 2 GiB.
        return as_strings(pa.concat_arrays(parts).take(pa.array(back)))

    def digests_of(self, image_ids: NDArray[np.int64] | Sequence[int]) -> list[bytes]:
        """Return the SHA-256 of the bytes of images, in the order named.

        Raises KeyError where there is no such id.
        """
        ids = np.asarray(image_ids, np.int64)
        shards, places = self._places(ids)
        found = [b""] * len(ids)
        for number in np.unique(shards).tolist():
            here = np.flatnonzero(shards == number)
            table = self._table(number, "digests").take(pa.array(places[here]))
            self._check(number, np.array_equal(table.column("image_id"), ids[here]))
            for place, digest in zip(here, table.column("sha256").to_pylist(), strict=True):
                found[place] = digest
        return found

    @cached_property
    def kept(self) -> Any:
        """The names and types of the columns kept beside the pictures, as a pyarrow schema.

        They are those of the first shard, and all shards must have the same.
        """
        if not self._snapshot.segments:
            return pa.schema([])
        manifest = read_record(self._store, self._snapshot.segments[0].manifest, SegmentManifest)
        return self._kept_of(manifest.shards[0]).schema if manifest.shards else pa.schema([])

    def with_kept(self, table: Any) -> Any:
        """Return a table that has a column `image_id` with the kept columns of its images.

        Their names begin with `meta.`. Raises KeyError where there is no such id.
        """
        if not len(self.kept):
            return table
        names = [f"{KEPT}{name}" for name in self.kept.names]
        shards, places = self._places(column(table, "image_id").astype(np.int64))
        parts = [self._table(0, "facts").select(names).slice(0, 0)]
        order = np.argsort(shards, kind="stable")
        numbers, starts = np.unique(shards[order], return_index=True)
        for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=False):
            facts = self._table(number, "facts").select(names)
            parts.append(facts.take(pa.array(places[rows])))
        found = pa.concat_tables(parts).take(pa.array(np.argsort(order, kind="stable")))
        return beside(table, found.rename_columns(self.kept.names))

    def of_segments(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield for each segment a table of its images, in the order of its ids.

        Args:
            columns: of `FACTS`, or kept ones, which begin with `meta.`.
        """
        every = 0
        for (ids, shards, places), of_segment in zip(
            self._segments, self._of_segments, strict=True
        ):
            numbers = range(every, every := every + len(of_segment))
            starts = np.cumsum([0, *(self._shards[number].images for number in numbers)])
            tables = [self._table(number, "facts") for number in numbers]
            rows = starts[shards - numbers.start] + places
            chosen = [each.select(["image_id", *columns]) for each in tables]
            table = pa.concat_tables(chosen).take(pa.array(rows))
            self._check(numbers.start, np.array_equal(column(table, "image_id"), ids))
            yield table

    def ids_of(self, wanted: set[str]) -> dict[str, int]:
        """Return the id of the first image, in the order of the source, of each wanted name."""
        found: dict[str, int] = {}
        names = pa.array([each for each in wanted if storable(each)[1] is None], pa.large_string())
        for number in range(len(self._shards)):
            table = self._table(number, "names")
            for row in table.filter(pc.is_in(table.column("name"), names)).to_pylist():
                if row["name"] not in found and self._is_indexed(row["image_id"]):
                    found[row["name"]] = row["image_id"]
        return found

    def all_named(self, name: str) -> tuple[list[int], int]:
        """Return the ids of all indexed images of a name, rising, and how many refused pictures
        have it.
        """
        same: list[int] = []
        for number in range(len(self._shards)):
            table = self._table(number, "names")
            has = pc.equal(table.column("name"), pa.scalar(name, pa.large_string()))
            same += table.filter(has).column("image_id").to_pylist()
        indexed = sorted(each for each in same if self._is_indexed(each))
        return indexed, len(same) - len(indexed)

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield name and id of every picture of the corpus, in the order of the source."""
        for number in range(len(self._shards)):
            yield from self._named(number)

    def _named(self, number: int) -> Iterator[tuple[str, int]]:
        table = self._table(number, "names")
        return zip(
            table.column("name").to_pylist(), table.column("image_id").to_pylist(), strict=True
        )

    def _is_indexed(self, image_id: int) -> bool:
        try:
            self._places(np.array([image_id], np.int64))
        except KeyError:
            return False
        return True

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
        """Return a shard's rows, names (large strings), digests or facts; evict the oldest."""
        key = (number, what)
        if key not in self._held:
            columns = _COLUMNS.get(what)
            shard = self._shards[number]
            table = read_committed(self._store, shard.file, lambda path: read_images(path, columns))
            if table.num_rows != shard.images:
                raise CorruptFile(
                    f"{shard.file.path} has {table.num_rows:,} rows, its shard has "
                    f"{shard.images:,}: {cure(self._store)}"
                )
            if what == "names":
                table = table.select(columns).cast(_LONG_NAMES).combine_chunks()
            if what == "facts":
                table = self._with_columns(table.select(columns).cast(_FACTS), shard)
            self._held[key] = table
            self.held_bytes += table.nbytes
            while self.held_bytes > self._most_bytes and len(self._held) > 1:
                self.held_bytes -= self._held.popitem(last=False)[1].nbytes
        self._held.move_to_end(key)
        return self._held[key]

    def _with_columns(self, table: Any, shard: ShardRef) -> Any:
        """Return the facts of a shard with its kept columns beside them."""
        kept = self._kept_of(shard)
        rows = kept.num_rows if shard.columns is not None else shard.images
        if not kept.schema.equals(self.kept) or rows != shard.images:
            raise CorruptFile(
                f"{shard.files[-1].path} has other columns or rows than its snapshot: "
                f"{cure(self._store)}"
            )
        return beside(table, kept)

    def _kept_of(self, shard: ShardRef) -> Any:
        """Return the kept columns of a shard, a table without columns where none are kept."""
        if shard.columns is None:
            return pa.table({})
        return read_committed(self._store, shard.columns, read_stored_columns)


_COLUMNS = {
    "names": ["image_id", "name"],
    "digests": ["image_id", "sha256"],
    "facts": ["image_id", *FACTS],
}
"""What is read of a shard's table; all columns for its rows."""

_FACTS = pa.schema([("image_id", pa.int64()), *FACTS.items()])

_LONG_NAMES = pa.schema([pa.field("image_id", pa.int64()), pa.field("name", pa.large_string())])


def beside(table: Any, kept: Any) -> Any:
    """Return a table with the kept columns of its rows, called `meta.NAME`, beside its own."""
    for field in kept.schema:
        named = field.with_name(f"{KEPT}{field.name}")
        table = table.append_column(named, kept.column(field.name))
    return table


def as_strings(column: Any) -> Any:
    """Return a column of large strings as strings, in chunks below 2 GiB."""
    parts = range(0, len(column), ROW_GROUP)
    return pa.chunked_array(
        [column.slice(start, ROW_GROUP).cast(pa.string()) for start in parts], pa.string()
    )
