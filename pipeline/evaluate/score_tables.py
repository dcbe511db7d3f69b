"""Scores by query as tables: a row a query and ranking, a column a measure."""

from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.evaluate.sweep import SweepResult
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.schemas.run_report import scores_schema


def run_scores(scored: Scored) -> Any:
    """Return the scores of a run in `scores_schema`; the ranking is called as the run is."""
    columns: dict[str, Any] = {
        "query": scored.queries,
        "ranking": [scored.label] * len(scored.queries),
        "group": scored.groups,
        **scored.scores,
    }
    return _table(columns, list(scored.scores), ties=False)


def swept_scores(result: SweepResult, truth: GroundTruth) -> Any:
    """Return the scores of every ranking of an evaluation in `scores_schema` with ties.

    Rows are in the order of the report's rankings, then of the queries. With mAP there is a column
    AP beside it, by rectangles.
    """
    rows, queries = result.scores.shape
    columns: dict[str, Any] = {
        "query": [query.name for query in truth.queries] * rows,
        "ranking": np.repeat([row.name for row in result.rows], queries),
        "group": np.tile(result.groups, rows),
        truth.metric_name: result.scores.ravel(),
        **({"AP": result.rectangles.ravel()} if truth.metric_name == "mAP" else {}),
        "lowest": result.lowest.ravel(),
        "mean": result.expected.ravel(),
        "highest": result.highest.ravel(),
    }
    measures = [truth.metric_name, *(["AP"] if "AP" in columns else [])]
    return _table(columns, measures, ties=True)


def _table(columns: dict[str, Any], measures: list[str], *, ties: bool) -> Any:
    schema = scores_schema(measures, ties=ties)
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.table(arrays, schema=schema)
