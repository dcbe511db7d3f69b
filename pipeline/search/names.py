"""Which picture an image id is: rows of the corpus's image tables, read when asked for."""

import bisect
from collections.abc import Iterator
from typing import Any

from pipeline.corpus.decode import DecodeLimits
from pipeline.corpus.reader import EntryReader
from pipeline.corpus.refused import Refused
from pipeline.store.commit import open_committed
from pipeline.store.storage import Store
from pipeline.store.tables import read_parquet
from schemas.snapshot import IndexSnapshot


class ImageTable:
    """The rows of a snapshot's corpus by image id; a shard's table is read once, when needed."""

    def __init__(self, store: Store, snapshot: IndexSnapshot) -> None:
        self._store = store
        self._shards = [shard for shard in snapshot.shards if shard.images]
        self._firsts = [shard.first_image_id for shard in self._shards]
        self._read: dict[int, list[dict[str, Any]]] = {}
        self.root = snapshot.root

    def row(self, image_id: int) -> dict[str, Any]:
        """Return an image's row. Raises KeyError where there is no such id."""
        number = bisect.bisect_right(self._firsts, image_id) - 1
        if number < 0 or image_id >= self._firsts[number] + self._shards[number].images:
            raise KeyError(image_id)
        return self._rows(number)[image_id - self._firsts[number]]

    def name(self, image_id: int) -> str:
        """Return an image's name in the corpus."""
        return str(self.row(image_id)["name"])

    def names(self) -> Iterator[str]:
        """Yield the names of all images, in the order of ids."""
        for number in range(len(self._shards)):
            for row in self._rows(number):
                yield str(row["name"])

    def ids_of(self, wanted: set[str]) -> dict[str, int]:
        """Return the first image id of each wanted name that the corpus has."""
        found: dict[str, int] = {}
        for image_id, name in enumerate(self.names()):
            if name in wanted:
                found.setdefault(name, image_id)
        return found

    def picture_bytes(self, image_id: int) -> bytes | None:
        """Return the file of an image as it is now, or None where it cannot be read."""
        from pipeline.corpus.listing import Entry

        row = self.row(image_id)
        entry = Entry(row["name"], row["container"], row["offset"], row["size_bytes"] or -1)
        try:
            with EntryReader(self.root, DecodeLimits()) as reader:
                return reader.read(entry)
        except Refused:
            return None

    def _rows(self, number: int) -> list[dict[str, Any]]:
        if number not in self._read:
            path = open_committed(self._store, self._shards[number].file)
            self._read[number] = read_parquet(path).to_pylist()
        return self._read[number]
