"""The fast search: proposals of all servers, then exact similarities of these alone.

Two rounds of questions, so that the answer depends neither on the cut of the corpus nor on the
number of servers. First each layer proposes its best images over all segments, whoever serves them,
with an estimate of their F. Then the best of all by estimate are scored in float64, in all layers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lamella.pipeline.search.merge import merge_answers
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.pipeline.search.shortlist import Proposed
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import Reach

AT_ONCE, PAIRS_AT_ONCE = 256, 1 << 21
"""Queries, and pairs of a query and an image that a layer proposes, 24 bytes each, that are in
memory together."""

Ask = Callable[..., list[Any]]
"""Puts a question to all servers, as `coordinator.Servers.ask`."""


def answer_fast(
    ask: Ask,
    queries: QueryBatch,
    spec: FusionSpec,
    k: int,
    reach: Reach,
    where: str | None = None,
) -> Answer:
    """Return the k best by F among the images that layers propose, as far as they are decided on.

    A query is certified where every image was decided on that may be an answer. It has fewer than
    k images where fewer were proposed.

    Args:
        ask: puts a question to all shard servers.
        k: at least 1.
        reach: how far to look, over all segments.
        where: a filter; images that it is not true of are not proposed.
    """
    size = max(1, min(AT_ONCE, PAIRS_AT_ONCE // reach.proposed))
    parts = []
    for start in range(0, max(len(queries), 1), size):
        rows = range(start, min(start + size, len(queries)))
        parts.append(_answer_part(ask, take_queries(queries, rows), spec, k, reach, where))
    return _join(parts)


def _answer_part(
    ask: Ask, queries: QueryBatch, spec: FusionSpec, k: int, reach: Reach, where: str | None
) -> Answer:
    proposed = ask("proposed", queries, spec, reach, where)
    images, asked = sum(count for count, _ in proposed), len(queries)
    lists = [Proposed.join([each[c] for _, each in proposed]) for c in range(len(spec.layers))]
    lists = [each.best(asked, reach.proposed, each.scores) for each in lists]
    query_of, places = Proposed.join(lists).decided_on(asked, reach.decided, len(lists))
    found = merge_answers(ask("decided", queries, spec, k, query_of, places), k)
    whole = np.bincount(query_of, minlength=len(queries)) == images
    return Answer(found.image_ids, found.scores, found.similarities, whole)


def _join(parts: Sequence[Answer]) -> Answer:
    """Return the answers to the queries of all parts, in order."""
    return Answer(
        np.concatenate([part.image_ids for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.similarities for part in parts]),
        np.concatenate([part.certified for part in parts]),
    )
