"""How much of the exact answer an approximate one gives, measured on some of the queries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.batches import row_uniforms

AUDITED_SHARE = 1 / 16
"""Share of a batch that is answered exactly too; at least one query of it."""


@dataclass(frozen=True)
class Recall:
    """How many images the exact answers of some queries hold, and how many of them were found."""

    queries: int
    wanted: int
    found: int


def audited_queries(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which queries of a batch are audited, by place, rising; their ids (Q,) choose."""
    count = min(len(ids), max(1, round(AUDITED_SHARE * len(ids))))
    uniforms = row_uniforms(0, ids, np.zeros_like(ids))
    return np.sort(np.lexsort((ids, uniforms))[:count])


def measure_recall(image_ids: NDArray[np.int64], exact: NDArray[np.int64]) -> Recall:
    """Return how many of the images in exact answers are in others to the same queries.

    Args:
        image_ids: (Q, k), -1 where there is none.
        exact: (Q, k), likewise.
    """
    found = sum(
        len(np.intersect1d(mine[mine >= 0], theirs[theirs >= 0]))
        for mine, theirs in zip(image_ids, exact, strict=True)
    )
    return Recall(len(exact), int(np.count_nonzero(exact >= 0)), found)
