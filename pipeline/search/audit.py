"""How much of the exact answer an approximate one gives, measured on some of the queries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.search.segment import Answer
from pipeline.vocabulary.batches import row_uniforms

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


def measure_recall(answer: Answer, exact: Answer) -> Recall:
    """Return how many of the images in exact answers are in those of the same queries."""
    found = sum(
        len(np.intersect1d(mine[mine >= 0], theirs[theirs >= 0]))
        for mine, theirs in zip(answer.image_ids, exact.image_ids, strict=True)
    )
    return Recall(len(exact), int(np.count_nonzero(exact.image_ids >= 0)), found)
