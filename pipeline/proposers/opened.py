"""Proposers of a segment, opened: they find images that are likely near, without a look at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lamella.pipeline.arrays import Bools, Float32s, Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.protocol import Store
from lamella.schemas.snapshot import IndexSnapshot, SegmentRef


@dataclass(frozen=True, eq=False)
class Found:
    """What proposers found: images of a segment for each query.

    Attributes:
        rows: (Q, n) int64, -1 where none.
        scores: (Q, n) float32, falling; -inf where none.
    """

    rows: Int64s
    scores: Float32s


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries as the proposers of a layer take them: the same in all segments of a snapshot.

    Attributes:
        turned: (Q, d) float32, on the axes of the frame.
        cells: (Q, reach) int64 that are looked into; None for graphs.
        reach: as for `Proposer.find`.
    """

    turned: Float32s
    cells: Int64s | None
    reach: int


class Proposer(Protocol):
    """Finds likely images of a segment in a layer, in the thread that calls; several may at once.

    `find` is `find_asked` of `ask`. To ask many segments, `ask` one and `find_asked` in all: the
    comparison with all centres is then made once.
    """

    def __len__(self) -> int:
        """The number of images."""
        ...

    def ask(self, units: Float32s, reach: int) -> Asked:
        """Return queries as all segments take them; arguments as for `find`."""
        ...

    def find_asked(self, asked: Asked, count: int, allowed: Bools | None = None) -> Found:
        """Return what `find` does."""
        ...

    def find(self, units: Float32s, count: int, reach: int, allowed: Bools | None = None) -> Found:
        """Return up to `count` images of each query.

        Args:
            units: (Q, D) float32, queries of length 1.
            reach: cells that are looked into (ivf), or entries of the search list (hnsw, cagra).
            allowed: (n,) images that may be found; all by default.
        """
        ...


def open_frames(store: Store, snapshot: IndexSnapshot) -> dict[str, Any]:
    """Return the frames of a snapshot, by global layer."""
    raise InputError(
        f"snapshot {snapshot.number} in {store.url} has proposers that this Lamella cannot read: "
        "ask in mode exact"
    )


def open_proposers(
    store: Store, snapshot: IndexSnapshot, segment: SegmentRef, frames: Mapping[str, Any]
) -> dict[str, Proposer]:
    """Return the proposers of a segment, by global layer."""
    raise InputError(
        f"segment {segment.key} of snapshot {snapshot.number} in {store.url} has proposers that "
        "this Lamella cannot read: ask in mode exact"
    )
