"""What extraction gives of some pictures: the activations of a batch, and refusals."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.extract.batches import plan_batches
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.refusals import RefusalReason

if TYPE_CHECKING:
    from lamella.pipeline.extract.descriptors import Descriptors

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A picture that gave no activations."""

    image_id: int
    name: str
    reason: RefusalReason
    detail: str


@dataclass(frozen=True)
class BatchActivations:
    """The activations of a batch.

    image_ids (n,): the pictures that gave activations; vectors: by global layer, (n, D);
    descriptors: by local layer; refusals: the rest of the batch, without pictures that were not to
    be read; asked (m,): all pictures of the batch, in its order.
    """

    image_ids: NDArray[np.int64]
    vectors: Mapping[str, NDArray[np.float32]]
    descriptors: "Mapping[str, Descriptors]"
    refusals: tuple[Refusal, ...]
    asked: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def batches_at_hand(
    rows: Sequence[Row], image_ids: NDArray[np.int64], spec: ExtractionSpec
) -> Generator[BatchActivations, None, None]:
    """Yield the batches of pictures that are all at hand, which need no network: without any
    activations, in the order of `forward_pictures`.
    """
    sizes = [(row["height"], row["width"]) if row["refusal"] is None else None for row in rows]
    none = np.empty(0, np.int64)
    for batch in plan_batches(sizes, spec):
        yield BatchActivations(none, {}, {}, (), image_ids[np.array(batch.rows, np.int64)])


def batch_without_network(
    rows: Sequence[Row], image_ids: NDArray[np.int64]
) -> Generator[BatchActivations, None, None]:
    """Yield all pictures of a shard as one batch, where no layer is of a network."""
    sound = np.array([row["refusal"] is None for row in rows], np.bool_)
    ids = image_ids[sound]
    yield BatchActivations(ids, {}, {}, (), ids)
