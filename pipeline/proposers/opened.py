"""What proposes images of a segment: the form in which a search asks it."""

from dataclasses import dataclass
from typing import Protocol

from lamella.pipeline.arrays import Bools, Float32s, Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.protocol import Store
from lamella.schemas.snapshot import IndexSnapshot, SegmentRef


@dataclass(frozen=True, eq=False)
class Found:
    """What proposers found: images of a segment for each query.

    Attributes:
        rows: (Q, n) int64, rows of the segment, -1 where there is none.
        scores: (Q, n) float32, falling.
    """

    rows: Int64s
    scores: Float32s


class Proposer(Protocol):
    """Finds likely images of a segment in one global layer, without a look at all."""

    def __len__(self) -> int:
        """The number of images."""
        ...

    def find(self, units: Float32s, count: int, reach: int, allowed: Bools | None = None) -> Found:
        """Return the best images of each query that it finds.

        Args:
            units: (Q, D) float32, of unit length.
            count: how many of each query at most.
            reach: cells that are looked into, or entries of the search list.
            allowed: (n,) which images may be found; all by default.
        """
        ...


def open_proposers(
    store: Store, snapshot: IndexSnapshot, segment: SegmentRef
) -> dict[str, Proposer]:
    """Return the proposers of a segment, by global layer.

    Raises:
        InputError: they cannot be read here.
    """
    raise InputError(
        f"segment {segment.key} of snapshot {snapshot.number} in {store.url} has proposers that "
        "this Lamella cannot read: ask in mode exact"
    )
