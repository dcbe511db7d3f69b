"""Order a ranking: by score, falling, then by image id, rising."""

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.search.segment import Answer


def best_of(
    query_of: NDArray[np.int64],
    image_ids: NDArray[np.int64],
    scores: NDArray[np.float64],
    similarities: NDArray[np.float64],
    queries: int,
    k: int,
    certified: bool = True,
) -> Answer:
    """Return the k best of scored pairs of query and image, each pair given once.

    Args:
        query_of: (m,) int64, the query of each pair, in any order.
        image_ids: (m,) int64.
        scores: (m,) float64.
        similarities: (C, m) float64.
        queries: Q.
        k: at least 1.
        certified: whether no image outside the pairs scores better.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    order = np.lexsort((image_ids, -scores, query_of))
    sizes = np.bincount(query_of, minlength=queries)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    order, place = order[place < k], place[place < k]
    query = query_of[order]
    ids = np.full((queries, k), -1, dtype=np.int64)
    best = np.full((queries, k), -np.inf)
    values = np.zeros((queries, k, len(similarities)))
    ids[query, place] = image_ids[order]
    best[query, place] = scores[order]
    values[query, place] = similarities[:, order].T
    return Answer(ids, best, values, np.full(queries, certified))
