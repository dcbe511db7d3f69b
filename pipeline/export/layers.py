"""A layer of a whole snapshot, a batch of images at a time, in the order of ids.

Ids rise within a segment, so a batch is a run of rows of every segment: each is read once, from its
first row to its last, whatever their number. Memory holds a batch and the ids of all images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, Int64s
from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.index.files import check_finite, read_bags, read_dense, read_image_ids
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.schemas.snapshot import IndexSnapshot, SegmentRef

BATCH_BYTES = 32 * 2**20
"""Of vectors that are in memory together."""

BATCH_BAGS = 16_384


@dataclass(frozen=True, eq=False)
class Vectors:
    """A global layer: of each segment ids (n,) rising, vectors (n, D) float32 and lengths (n,)."""

    name: str
    dimensions: int
    parts: Sequence[tuple[Int64s, Float32s, Float64s]]

    @cached_property
    def image_ids(self) -> Int64s:
        """The ids of all images, (n,) rising."""
        return _sorted([ids for ids, *_ in self.parts])

    @property
    def batch_images(self) -> int:
        """How many images a batch has; it depends on the dimensions alone."""
        return max(BATCH_BYTES // (4 * self.dimensions), 1)

    def batches(self, *, unit: bool = False) -> Iterator[tuple[Int64s, Float32s]]:
        """Yield ids (b,) and vectors (b, D) float32 in the order of ids.

        Args:
            unit: divide each vector by its length, in float64; one of zeros stays as it is.

        Raises:
            CorruptFile: a vector is not finite.
        """
        for wanted in _cut(self.image_ids, self.batch_images):
            found = np.empty((len(wanted), self.dimensions), np.float32)
            for ids, vectors, norms in self.parts:
                rows, places = _rows_among(ids, wanted)
                values: Float32s | Float64s = vectors[rows]
                if unit:
                    lengths = norms[rows]
                    values = values / np.where(lengths > 0, lengths, 1.0)[:, None]
                found[places] = values
            check_finite(wanted, found, self.name)
            yield wanted, found


@dataclass(frozen=True, eq=False)
class Words:
    """A local layer: of each segment ids (n,) rising, and the bags of its images."""

    name: str
    words: int
    parts: Sequence[tuple[Int64s, BagsOfWords]]

    @cached_property
    def image_ids(self) -> Int64s:
        """The ids of all images, (n,) rising."""
        return _sorted([ids for ids, _ in self.parts])

    @property
    def entries(self) -> int:
        """How many words all images have together, each image its different ones."""
        return sum(len(bags.words) for _, bags in self.parts)

    def sizes(self) -> Int64s:
        """Return how many different words each image has, (n,) in the order of ids."""
        found = np.empty(len(self.image_ids), np.int64)
        for ids, bags in self.parts:
            found[np.searchsorted(self.image_ids, ids)] = np.diff(bags.offsets)
        return found

    def batches(self) -> Iterator[tuple[Int64s, BagsOfWords]]:
        """Yield ids (b,) and the bags of these images, in the order of ids."""
        for wanted in _cut(self.image_ids, BATCH_BAGS):
            bags, places = [], [np.empty(0, np.int64)]
            for ids, held in self.parts:
                rows, where = _rows_among(ids, wanted)
                bags.append(select(held, np.arange(rows.start, rows.stop)))
                places.append(where)
            yield wanted, select(concatenate(bags), np.argsort(np.concatenate(places)))


def read_vectors(store: Store, snapshot: IndexSnapshot, layer: str) -> Vectors:
    """Map the vectors of a global layer. Raises StoreError: a file is missing or damaged."""
    parts = []
    for segment in snapshot.segments:
        ids = _image_ids(store, segment)
        _, vectors, norms = read_committed(store, segment.files[f"{layer}.dense"], read_dense)
        _check_images(segment, layer, len(ids), len(vectors))
        parts.append((ids, vectors, norms))
    widths = {vectors.shape[1] for _, vectors, _ in parts} or {1}
    if len(widths) > 1:
        raise CorruptFile(
            f"the vectors of layer {layer} have one length; in this snapshot they have "
            f"{', '.join(map(str, sorted(widths)))}: index anew, or use a store that you trust"
        )
    return Vectors(layer, widths.pop(), parts)


def read_words(store: Store, snapshot: IndexSnapshot, layer: str) -> Words:
    """Map the words of a local layer; of an `asmk` one without their residuals.

    Raises:
        StoreError: a file is missing or damaged.
    """
    words = snapshot.vocabularies[layer].words

    def read(path: Path) -> BagsOfWords:
        _, bags = read_bags(path)
        bags.check_words(words)
        return bags

    parts = []
    for segment in snapshot.segments:
        ids = _image_ids(store, segment)
        bags = read_committed(store, segment.files[f"{layer}.bags"], read)
        _check_images(segment, layer, len(ids), len(bags))
        parts.append((ids, bags))
    return Words(layer, words, parts)


def _image_ids(store: Store, segment: SegmentRef) -> Int64s:
    ids = read_committed(store, segment.files["images"], read_image_ids).astype(np.int64)
    if np.any(ids[1:] <= ids[:-1]):
        raise CorruptFile(
            f"image ids of a segment must rise, and those of {segment.key} do not: index anew, or "
            "use a store that you trust"
        )
    _check_images(segment, "images", segment.images, len(ids))
    return ids


def _check_images(segment: SegmentRef, what: str, wanted: int, found: int) -> None:
    if wanted != found:
        raise CorruptFile(
            f"segment {segment.key} has {wanted:,} images, and its file of {what} {found:,}: index "
            "anew, or use a store that you trust"
        )


def _sorted(ids: list[Int64s]) -> Int64s:
    return np.sort(np.concatenate([np.empty(0, np.int64), *ids]))


def _cut(ids: Int64s, size: int) -> Iterator[Int64s]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _rows_among(ids: Int64s, wanted: Int64s) -> tuple[slice, Int64s]:
    """Return which rows of a segment have one of these ids, a run of all, and their places."""
    first = int(np.searchsorted(ids, wanted[0]))
    stop = int(np.searchsorted(ids, wanted[-1], side="right"))
    return slice(first, stop), np.searchsorted(wanted, ids[first:stop])
