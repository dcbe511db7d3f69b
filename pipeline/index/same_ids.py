"""Find pictures that have the same id, which no index may hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.files import read_members
from lamella.pipeline.index.stage import Index, SegmentTask
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import column

RANGES = 16
"""Ids are compared range by range, so that memory holds this part of them."""


def check_ids(store: Store, index: Index) -> None:
    """Check that no two indexed images have one id.

    Ids are 63 bits of a hash: among a hundred million images the chance is 1 in 1,800.

    Raises:
        InputError: two have; the message names both.
    """
    tables = [
        read_committed(store, record.files["images"], read_members) for record in index.records
    ]
    ids = [column(table, "image_id").astype(np.int64) for table in tables]
    if (same := first_equal(ids)) is None:
        return
    names = []
    for task, table, known in zip(index.tasks, tables, ids, strict=True):
        names += [_name(store, task, table, row) for row in np.flatnonzero(known == same).tolist()]
    raise InputError(
        f"{' and '.join(names[:2])} have the same id {same}, which is made of name and bytes: "
        "rename one of them, or leave it out of the source"
    )


def first_equal(ids: Sequence[NDArray[np.int64]]) -> int | None:
    """Return an id that occurs twice, None if there is none.

    Args:
        ids: of each segment, (n,) rising, 0 and above.
    """
    for number in range(RANGES):
        low, high = (np.int64((2**63 - 1) // RANGES * each) for each in (number, number + 1))
        last = number == RANGES - 1
        parts = [
            part[np.searchsorted(part, low) : None if last else np.searchsorted(part, high)]
            for part in ids
        ]
        joined = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
        same = joined[1:][joined[1:] == joined[:-1]]
        if len(same):
            return int(same[0])
    return None


def _name(store: Store, task: SegmentTask, members: Any, row: int) -> str:
    shard = task.shards[int(column(members, "shard")[row])]
    table = read_committed(store, shard.file, lambda path: read_images(path, ["name"]))
    return repr(table.column("name")[int(column(members, "row")[row])].as_py())
