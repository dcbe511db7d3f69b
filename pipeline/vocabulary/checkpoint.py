"""The files of a training: each step writes them, the next one reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import (
    column,
    map_arrow,
    of,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)
from lamella.pipeline.vocabulary.empty_clusters import Spares
from lamella.pipeline.vocabulary.ivf import Cells, Placed
from lamella.pipeline.vocabulary.ivf_files import read_cells, read_neighbours, write_cells
from lamella.pipeline.vocabulary.partial import Tally, WordSums
from lamella.pipeline.vocabulary.round_assigner import RoundWords
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import RoundReport, VocabularyHealth


@dataclass(frozen=True)
class Checkpoint:
    """The input of a round, written by the seeding or by the update before it.

    `words` are the files of the word each row had last, by task; none before the first round.
    """

    centroids: FileRef
    cells: FileRef | None
    placed: FileRef | None
    masses: FileRef | None
    words: dict[str, FileRef]

    @classmethod
    def of(cls, record: DoneRecord) -> "Checkpoint":
        """Return the checkpoint in a record of a seeding or an update."""
        return cls(
            record.files["centroids"],
            record.files.get("cells"),
            record.files.get("placed"),
            record.files.get("masses"),
            {
                name.removeprefix(WORDS): file
                for name, file in record.files.items()
                if name.startswith(WORDS)
            },
        )

    def open_centroids(self, store: Store) -> Float32s:
        """Return the centroids, (K, D)."""
        return read_committed(store, self.centroids, read_centroids)

    def open_cells(self, store: Store) -> Cells | None:
        """Return the cells over the words, if this training has any."""
        return None if self.cells is None else read_committed(store, self.cells, read_cells)

    def open_words(self, store: Store, links: Sequence[FileRef]) -> RoundWords:
        """Return the words, with cells and the neighbours in `links`, by range of cells."""
        neighbours = [read_committed(store, link, read_neighbours) for link in links]
        return RoundWords(
            self.open_centroids(store),
            self.open_cells(store),
            np.concatenate(neighbours) if neighbours else None,
            None if self.placed is None else read_committed(store, self.placed, read_placed),
        )

    def open_masses(self, store: Store, first: int, stop: int) -> Float64s:
        """Return the masses of some words, float64; 0 where none were kept."""
        if self.masses is None:
            return np.zeros(stop - first, np.float64)
        return read_committed(store, self.masses, read_masses)[first:stop]


_CENTROIDS = {"centroid": vectors_of_type(pa.float32())}
_SUMS = {
    "word": of(pa.uint32()),
    "count": of(pa.int64()),
    "sum": vectors_of_type(pa.float64()),
}
_SPARES = {
    "key": of(pa.float64()),
    "word": of(pa.uint32()),
    "descriptor": vectors_of_type(pa.float32()),
}
_MOVED = _CENTROIDS | {"count": of(pa.int64()), "mass": of(pa.float64())}

WORDS = "words-"
"""The name of a task's words in an update's record."""


def write_checkpoint(
    work: Attempt, folder: str, centroids: Float32s, cells: Cells | None, masses: Float64s | None
) -> None:
    """Write the input of the next round."""
    work.write("centroids", folder, "arrow", lambda path: write_centroids(centroids, path))
    if cells is not None:
        work.write("cells", folder, "cells.arrow", lambda path: write_cells(cells, path))
    if masses is not None:
        table = pa.table({"mass": pa.array(masses)})
        work.write("masses", folder, "masses.arrow", lambda path: write_arrow(table, path))


def write_placed(placed: Placed, path: Path) -> int:
    """Write the words that were put on far rows as an Arrow file; return their number."""
    columns = {"word": pa.array(placed.words), "host": pa.array(placed.hosts)}
    return write_arrow(pa.table(columns), path)


def read_placed(path: Path) -> Placed:
    """Map a file of words that were put on far rows."""
    table = map_arrow(path, {"word": of(pa.uint32()), "host": of(pa.uint32())})
    return Placed(column(table, "word"), column(table, "host"))


def read_masses(path: Path) -> Float64s:
    """Map a file of the mass of each word, (K,) float64."""
    return column(map_arrow(path, {"mass": of(pa.float64())}), "mass")


def write_centroids(centroids: Float32s, path: Path) -> int:
    """Write centroids (K, D) as an Arrow file; return K."""
    return write_arrow(pa.table({"centroid": vectors_column(centroids)}), path)


def read_centroids(path: Path) -> Float32s:
    """Map a file of centroids, (K, D) float32."""
    return vectors_of(map_arrow(path, _CENTROIDS), "centroid")


def write_counts(counts: Int64s, path: Path) -> int:
    """Write the rows of each word, (K,), as an Arrow file; return K."""
    return write_arrow(pa.table({"count": pa.array(counts)}), path)


def read_counts(path: Path) -> Int64s:
    """Map a file of the rows of each word, (K,) int64."""
    return column(map_arrow(path, {"count": of(pa.int64())}), "count")


def write_words(words: UInt32s, path: Path) -> int:
    """Write the word of each row, (n,), as an Arrow file; return n."""
    return write_arrow(pa.table({"word": pa.array(words)}), path)


def read_words(path: Path) -> UInt32s:
    """Map a file of the word of each row, (n,) uint32."""
    return column(map_arrow(path, {"word": of(pa.uint32())}), "word")


def write_sums(part: WordSums, path: Path) -> int:
    """Write the sums of some words as an Arrow file; return how many words have any."""
    columns = {
        "word": pa.array(part.words),
        "count": pa.array(part.counts),
        "sum": vectors_column(part.sums),
    }
    return write_arrow(pa.table(columns), path)


def read_sums(path: Path) -> WordSums:
    """Map a file of sums."""
    table = map_arrow(path, _SUMS)
    return WordSums(column(table, "word"), vectors_of(table, "sum"), column(table, "count"))


def write_spares(spares: Spares, path: Path) -> int:
    """Write far rows as an Arrow file; return their number."""
    columns = {
        "key": pa.array(spares.keys),
        "word": pa.array(spares.words),
        "descriptor": vectors_column(spares.descriptors),
    }
    return write_arrow(pa.table(columns), path)


def read_spares(path: Path) -> Spares:
    """Map a file of far rows."""
    table = map_arrow(path, _SPARES)
    return Spares(column(table, "key"), column(table, "word"), vectors_of(table, "descriptor"))


@dataclass(frozen=True)
class Moved:
    """Some words after a round: centroids (m, D), row counts (m,), and masses (m,)."""

    centroids: Float32s
    counts: Int64s
    masses: Float64s


def write_moved(moved: Moved, path: Path) -> int:
    """Write some words after a round as an Arrow file; return their number."""
    columns = {
        "centroid": vectors_column(moved.centroids),
        "count": pa.array(moved.counts),
        "mass": pa.array(moved.masses),
    }
    return write_arrow(pa.table(columns), path)


def map_moved(path: Path) -> Any:
    """Map a file of some words after a round."""
    return map_arrow(path, _MOVED)


def read_moved(tables: Sequence[Any]) -> Moved:
    """Return the words of several mapped files, one after the other."""
    return Moved(
        np.concatenate([vectors_of(table, "centroid") for table in tables]),
        np.concatenate([column(table, "count") for table in tables]),
        np.concatenate([column(table, "mass") for table in tables]),
    )


def tally_of(record: DoneRecord) -> Tally:
    """Return a task's tally from its done record."""
    counts = record.counts
    return Tally(counts["rows"], counts["squared_error"], counts["checked"], counts["nearest"])


def read_health(path: Path) -> VocabularyHealth:
    """Return the health report of finished words."""
    return VocabularyHealth.from_json(path.read_bytes())


def read_report(store: Store, record: DoneRecord) -> RoundReport:
    """Return the report of an update."""
    return read_committed(
        store, record.files["report"], lambda path: RoundReport.from_json(path.read_bytes())
    )
