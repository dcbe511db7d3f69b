"""Measure on some queries how much of the exact answer an approximate one finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.batches import row_uniforms

AUDITED_SHARE = 1 / 16
"""Share of a batch that is also answered exactly; at least one query."""


@dataclass(frozen=True)
class Recall:
    """How many images the exact answers of audited queries hold, and how many were found."""

    queries: int
    wanted: int
    found: int


def audited_queries(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places, rising, of the audited queries of a batch; their ids (Q,) decide."""
    count = min(len(ids), max(1, round(AUDITED_SHARE * len(ids))))
    uniforms = row_uniforms(0, ids, np.zeros_like(ids))
    return np.sort(np.lexsort((ids, uniforms))[:count])


def measure_recall(image_ids: NDArray[np.int64], exact: NDArray[np.int64]) -> Recall:
    """Return how many images of the exact answers other answers to the same queries hold.

    Args:
        image_ids: (Q, k), -1 where there is none.
        exact: (Q, k), likewise.
    """
    found = sum(
        len(np.intersect1d(mine[mine >= 0], theirs[theirs >= 0]))
        for mine, theirs in zip(image_ids, exact, strict=True)
    )
    return Recall(len(exact), int(np.count_nonzero(exact >= 0)), found)
