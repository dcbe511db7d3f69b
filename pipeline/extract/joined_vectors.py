"""The vectors that a user brings, joined to the pictures of a shard by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lamella.pipeline.arrays import Float32s, Int64s
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.taken import Taken
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.schemas.corpus import ShardRef
from lamella.schemas.refusals import RefusalReason


@dataclass(frozen=True, eq=False)
class JoinedVectors:
    """The given vectors of a shard's pictures.

    Attributes:
        image_ids: (n,) of all pictures of the shard.
        vectors: by layer, (n, D), in the order of the ids.
        refused: by place in the shard, the reason and the detail of a picture without a vector,
            or with one that cannot be compared.
    """

    image_ids: Int64s
    vectors: Mapping[str, Float32s]
    refused: Mapping[int, tuple[RefusalReason, str]]

    def refuse(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of the shard's table, with refusals of pictures without a vector."""
        found = [dict(row) for row in rows]
        for place, (reason, detail) in self.refused.items():
            if found[place]["refusal"] is None:
                found[place] |= {"refusal": reason.value, "detail": detail}
        return found

    def into(self, batch: BatchActivations) -> BatchActivations:
        """Return a batch with the given vectors of its pictures."""
        order = np.argsort(self.image_ids, kind="stable")
        rows = order[np.searchsorted(self.image_ids, batch.image_ids, sorter=order)]
        given = {name: vectors[rows] for name, vectors in self.vectors.items()}
        return replace(batch, vectors={**batch.vectors, **given})


def join_vectors(store: Store, shard: ShardRef, given: Mapping[str, GivenVectors]) -> JoinedVectors:
    """Return the vectors of a shard's pictures, by layer.

    Raises:
        InputError: a file of vectors has changed since it was opened.
    """
    table = read_committed(store, shard.file, lambda path: read_images(path, ["image_id", "name"]))
    names = table.column("name").to_pylist()
    vectors: dict[str, Float32s] = {}
    refused: dict[int, tuple[RefusalReason, str]] = {}
    for layer, each in given.items():
        vectors[layer], faults = each.of(names)
        for place, fault in enumerate(faults):
            if fault is not None:
                detail = f"{layer}: {fault.detail}" if fault.detail else layer
                refused.setdefault(place, (fault.reason, detail))
    return JoinedVectors(np.array(table.column("image_id"), np.int64), vectors, refused)


def only_sound(taken: Sequence[Taken], rows: Sequence[Mapping[str, Any]]) -> tuple[Taken, ...]:
    """Return what is at hand of pictures, without that of those that are refused."""
    sound = {row["image_id"] for row in rows if row["refusal"] is None}
    found = []
    for part in taken:
        pairs = [p for p in zip(part.old_ids, part.new_ids, strict=True) if p[1] in sound]
        if pairs:
            old_ids, new_ids = zip(*pairs, strict=True)
            found.append(replace(part, old_ids=old_ids, new_ids=new_ids))
    return tuple(found)
