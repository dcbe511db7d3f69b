"""Pictures whose activations are at hand, from an index that had the same bytes under any name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.extract.tables import GLOBAL, LOCAL
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import binary_vectors_of, column, read_parquet
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import DoneRecord, FileRef

if TYPE_CHECKING:
    from lamella.pipeline.extract.activations import BatchActivations
    from lamella.pipeline.extract.descriptors import Descriptors


@dataclass(frozen=True)
class Taken:
    """Pictures of one earlier shard that a new one holds too, perhaps under other names.

    Attributes:
        extracted, encoded: the records of the earlier shard; one and the same if it was extracted
            and encoded in one pass.
        old_ids, new_ids: of each picture, there and here; one there may be several here.
    """

    extracted: DoneRecord
    encoded: DoneRecord
    old_ids: tuple[int, ...]
    new_ids: tuple[int, ...]


class TakenRows:
    """The activations of taken pictures, put where the network would have put them."""

    def __init__(
        self, store: Store, taken: Sequence[Taken], layers: Sequence[LayerSpec], *, local: bool
    ) -> None:
        """Read them.

        Args:
            layers: of the extraction.
            local: whether local descriptors are wanted too; words are taken by their own sinks.
        """
        found = [new for part in taken for new in part.new_ids]
        self.image_ids = np.array(found, np.int64)
        self._vectors: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        self._descriptors: dict[str, Descriptors] = {}
        for layer in layers:
            if layer.kind == "global":
                self._vectors[layer.name] = _vectors(store, taken, layer.name)
            elif local:
                self._descriptors[layer.name] = _descriptors(store, taken, layer.name)

    def into(self, batch: "BatchActivations") -> "BatchActivations":
        """Return the batch with the taken pictures among those that it was asked for."""
        mine = batch.asked[np.isin(batch.asked, self.image_ids)]
        if not len(mine):
            return batch
        present = np.concatenate([batch.image_ids, mine])
        image_ids = batch.asked[np.isin(batch.asked, present)]
        vectors = {
            name: _merged(image_ids, [own, batch.vectors.get(name)], [ids, batch.image_ids])
            for name, (ids, own) in self._vectors.items()
        }
        descriptors = dict(batch.descriptors)
        for name, known in self._descriptors.items():
            parts = [known, *([batch.descriptors[name]] if name in batch.descriptors else [])]
            descriptors[name] = _in_order(parts, image_ids)
        return replace(batch, image_ids=image_ids, vectors=vectors, descriptors=descriptors)


def _vectors(
    store: Store, taken: Sequence[Taken], layer: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the vectors of a global layer, (n, D), and their new ids, (n,)."""
    ids, vectors = [], []
    for part in taken:
        table = read_committed(
            store,
            part.extracted.files[layer],
            lambda path: read_parquet(path, schema=GLOBAL),
        )
        renamed, rows = _renamed(column(table, "image_id").astype(np.int64), part)
        if not np.array_equal(renamed, np.array(part.new_ids, np.int64)):
            raise lacks(part.extracted.files[layer])
        ids.append(renamed)
        vectors.append(binary_vectors_of(table, "vector", np.float32)[rows])
    return np.concatenate(ids), np.concatenate(vectors)


def _descriptors(store: Store, taken: Sequence[Taken], layer: str) -> "Descriptors":
    """Return the local descriptors of taken pictures under their new ids."""
    from lamella.pipeline.extract.descriptors import Descriptors

    parts = []
    for part in taken:
        if layer not in part.extracted.files:
            continue  # no picture of that shard has a descriptor
        table = read_committed(
            store, part.extracted.files[layer], lambda path: read_parquet(path, schema=LOCAL)
        )
        renamed, rows = _renamed(column(table, "image_id").astype(np.int64), part)
        parts.append(
            Descriptors(
                renamed,
                column(table, "y").astype(np.uint16)[rows],
                column(table, "x").astype(np.uint16)[rows],
                binary_vectors_of(table, "vector", np.float16)[rows],
            )
        )
    return _joined(parts)


def _joined(parts: "Sequence[Descriptors]") -> "Descriptors":
    from lamella.pipeline.extract.descriptors import Descriptors

    held = [part for part in parts if len(part.image_ids)]
    if not held:
        return Descriptors(
            np.empty(0, np.int64),
            np.empty(0, np.uint16),
            np.empty(0, np.uint16),
            parts[0].vectors[:0] if parts else np.empty((0, 0), np.float16),
        )
    return Descriptors(
        np.concatenate([part.image_ids for part in held]),
        np.concatenate([part.y for part in held]),
        np.concatenate([part.x for part in held]),
        np.concatenate([part.vectors for part in held]),
    )


def _in_order(parts: "Sequence[Descriptors]", image_ids: NDArray[np.int64]) -> "Descriptors":
    """Return the descriptors of these images, image by image in their order."""
    from lamella.pipeline.extract.descriptors import Descriptors

    all_of = _joined(parts)
    place = _places(all_of.image_ids, image_ids)
    rows = np.argsort(place, kind="stable")[np.count_nonzero(place < 0) :]
    return Descriptors(all_of.image_ids[rows], all_of.y[rows], all_of.x[rows], all_of.vectors[rows])


def _merged(image_ids: NDArray[np.int64], parts: Sequence[Any], ids: Sequence[Any]) -> Any:
    """Return the rows of these images, in their order, from arrays and the ids of their rows."""
    known = [(part, names) for part, names in zip(parts, ids, strict=True) if part is not None]
    rows = np.concatenate([part for part, _ in known])
    named = np.concatenate([names for _, names in known])
    order = np.argsort(named, kind="stable")
    return rows[order[np.searchsorted(named, image_ids, sorter=order)]]


def _places(ids: NDArray[np.int64], image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each id stands in `image_ids`, -1 where it does not."""
    order = np.argsort(image_ids, kind="stable")
    at = np.minimum(np.searchsorted(image_ids, ids, sorter=order), len(image_ids) - 1)
    found = order[at]
    return np.where(image_ids[found] == ids, found, -1)


def _renamed(ids: NDArray[np.int64], part: Taken) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the new ids of the rows that are taken, and which rows those are, picture by picture.

    One old picture may have become several new ones: copies of it.
    """
    old, new = np.array(part.old_ids, np.int64), np.array(part.new_ids, np.int64)
    order = np.argsort(ids, kind="stable")
    first = np.searchsorted(ids, old, side="left", sorter=order)
    counts = np.searchsorted(ids, old, side="right", sorter=order) - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(new, counts), order[np.repeat(first, counts) + within]


def lacks(file: FileRef) -> CorruptFile:
    """Return the error for a file that does not hold the pictures it should."""
    return CorruptFile(f"{file.path} lacks pictures that its record counts: `lamella verify` it")
