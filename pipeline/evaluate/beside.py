"""Measures that a protocol reports beside its own, of every ranking: mP@k of revisited Oxford."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.measures import Measure
from lamella.pipeline.evaluate.metrics import ranks_of
from lamella.pipeline.evaluate.sweep import SweepPlan, SweepResult
from lamella.pipeline.search.fuse import fuse


def query_measures(
    plan: SweepPlan, query: int, similarities: NDArray[np.float64], measures: Sequence[Measure]
) -> NDArray[np.float64]:
    """Return what M measures give each of R rankings of one query, (R, M) float64.

    Args:
        query: its place in the ground truth.
        similarities: (C, N) float64, layers of the fusion from high to low.
        measures: those that need no library.
    """
    found = np.empty((len(plan.rankings), len(measures)))
    resolved = plan.truth.queries[query]
    for row, (_, taken, spec) in enumerate(plan.rankings if measures else ()):
        scores = fuse(similarities[taken], spec)
        ranks = ranks_of(scores, resolved.positive_ids, resolved.ignored_ids)
        for place, measure in enumerate(measures):
            assert measure.ours is not None, f"{measure.name} is none of ours"
            found[row, place] = measure.ours(ranks, resolved.relevant)
    return found


def with_measures(
    result: SweepResult, measures: Sequence[Measure], values: NDArray[np.float64]
) -> SweepResult:
    """Return the result with the means of M measures in its rows.

    Args:
        values: (Q, R, M) float64, of each query and ranking.
    """
    if not measures:
        return result
    means: Any = values.mean(axis=0).tolist()
    names = [measure.name for measure in measures]
    rows = tuple(
        row.model_copy(update={"measures": dict(zip(names, each, strict=True))})
        for row, each in zip(result.rows, means, strict=True)
    )
    return replace(result, rows=rows)
