"""Which images of each segment a filter is true of."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lamella.pipeline.corpus.joined import parts_of
from lamella.pipeline.errors import one_line
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.where import SOURCE, Filter, parse_filter, wrong
from lamella.pipeline.store.protocol import Store
from lamella.schemas.snapshot import IndexSnapshot

HELD_FILTERS = 16
"""Filters whose answers stay in memory, a byte an image each."""

Masks = Sequence[NDArray[np.bool_]]
"""One a segment: (n,), in the order of its image ids."""


def understood(images: ImageTable, where: str) -> Filter:
    """Return a filter over the columns of a snapshot.

    Raises:
        InputError: it is none.
    """
    return parse_filter(where, images.kept, several=bool(parts_of(images.recorded_root)))


@dataclass
class Allowed:
    """Says for the segments of a snapshot which images a filter allows; keeps the latest answers.

    Attributes:
        snapshot: with the segments that are asked for.
    """

    store: Store
    snapshot: IndexSnapshot
    _held: OrderedDict[str, Masks] = field(default_factory=OrderedDict)
    _images: ImageTable | None = None

    def masks(self, where: str) -> Masks:
        """Return which images a filter is true of.

        Raises:
            InputError: it is no filter of this index, or fails on a value, as where numbers
                overflow.
        """
        if where not in self._held:
            self._images = self._images or ImageTable(self.store, self.snapshot)
            self._held[where] = filter_masks(self._images, understood(self._images, where))
            if len(self._held) > HELD_FILTERS:
                self._held.popitem(last=False)
        self._held.move_to_end(where)
        return self._held[where]


def filter_masks(images: ImageTable, asked: Filter) -> Masks:
    """Return which images of each segment a filter is true of.

    Raises:
        InputError: it fails on a value.
    """
    columns = ["name" if each == SOURCE else each for each in asked.columns]
    masks = []
    for table in images.of_segments(list(dict.fromkeys(columns))):
        if SOURCE in asked.columns:
            table = table.append_column(SOURCE, _sources(table.column("name")))
        numbered = table.append_column("row", pa.array(np.arange(table.num_rows)))
        try:
            rows = numbered.filter(asked.expression).column("row").to_numpy()
        except pa.ArrowException as error:
            raise wrong(asked.text, f"it fails on a value: {one_line(error, 200)}") from None
        mask = np.zeros(table.num_rows, np.bool_)
        mask[rows] = True
        mask.flags.writeable = False
        masks.append(mask)
    return masks


def _sources(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the first part of each name."""
    return pc.list_element(pc.split_pattern(names, "/", max_splits=1), 0)
