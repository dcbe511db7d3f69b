"""What answers over drawn pictures must equal: scoring every picture in float64."""

from collections.abc import Sequence

import numpy as np

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW
from lamella.pipeline.index.bags import BagsOfWords, select
from lamella.pipeline.search.exact import similarities
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.merge import merge_answers
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.segment import Answer, QueryBatch, SegmentData


def some(queries: QueryBatch, start: int, stop: int) -> QueryBatch:
    """Return some queries of a batch."""
    vectors, bags = queries.layers[HIGH], queries.layers[LOW]
    assert isinstance(bags, BagsOfWords)
    assert isinstance(vectors, np.ndarray)
    rows = np.arange(start, stop, dtype=np.int64)
    return QueryBatch({HIGH: vectors[rows], LOW: select(bags, rows)})


def brute_force(segments: Sequence[SegmentData], queries: QueryBatch, k: int) -> Answer:
    """Return the k best of each query, all pictures scored."""
    answers = []
    for segment in segments:
        every = similarities(segment, queries, [HIGH, LOW])
        scores = fuse(every, FUSION)
        # Of equals at the end a partition takes any: take all that reach the k-th best.
        bars = np.partition(scores, -k, axis=1)[:, -k]
        query_of, found = np.nonzero(scores >= bars[:, None])
        values, ids = every[:, query_of, found], segment.image_ids[found]
        answers.append(best_of(query_of, ids, scores[query_of, found], values, len(queries), k))
    return merge_answers(answers, k)


def assert_same(left: Answer, right: Answer) -> None:
    """Assert that two answers are equal to the bit."""
    for name in ("image_ids", "scores", "similarities"):
        assert getattr(left, name).tobytes() == getattr(right, name).tobytes()
