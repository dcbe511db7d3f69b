"""Score rankings as they are stored: names of pictures, the first k of each query."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.folds import grouped
from lamella.pipeline.evaluate.measures import Judged, Measure, foreign_scores
from lamella.pipeline.evaluate.qrels import relevance_of
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery
from lamella.pipeline.run.drive import OnProgress, Progress, quiet

AT_ONCE = 2_000
"""Queries that are scored together."""


@dataclass(frozen=True)
class ScoredRun:
    """A run's scores, a query of the ground truth each, and what could not be scored.

    Attributes:
        scored: as many queries as the ground truth has, in its order.
        unanswered: queries of the ground truth that the run has no ranking for; their scores are 0,
            as with `trec_eval -c`.
        unjudged: queries of the run that the ground truth does not have; they are left out.
        own_wrong: queries whose ranking has the query itself, which nobody judged: it counts as
            wrong.
    """

    scored: Scored
    unanswered: tuple[str, ...]
    unjudged: tuple[str, ...]
    own_wrong: tuple[str, ...]


def score_ranked(
    ranked: Ranked,
    truth: GroundTruth,
    label: str,
    measures: Sequence[Measure],
    *,
    progress: OnProgress = quiet,
) -> ScoredRun:
    """Return what each query of a ground truth scores in a run.

    Ignored pictures leave a ranking first. Right answers beyond its end, wherever they would have
    come, count as missed: without a cut-off a measure is one of the first k pictures.

    Args:
        ranked: the run; queries are matched by name, in any order.
        truth: the queries that are scored.
        label: what a person calls the run.
        measures: at least one, as of `parse_measures`; the protocol's own first.

    Raises:
        InputError: the run and the ground truth have no query in common, or no measure is given.
    """
    if not measures:
        raise InputError("at least 1 measure is wanted; got 0: name some, such as mAP or nDCG@10")
    rankings = dict(zip(ranked.queries, ranked.ranked, strict=True))
    unanswered = tuple(query.name for query in truth.queries if query.name not in rankings)
    if len(unanswered) == len(truth.queries):
        asked = one_line(repr(ranked.queries[0]), 200) if ranked.queries else "nothing"
        raise InputError(
            f"a run is scored by judgements of its queries; {label} asks {asked} and so on, and "
            f"{truth.protocol} judges {one_line(repr(truth.queries[0].name), 200)} and so on, none "
            "of them in both: give the judgements of these queries"
        )
    scores: dict[str, NDArray[np.float64]] = {
        measure.name: np.zeros(len(truth.queries)) for measure in measures
    }
    kept: list[tuple[str, ...]] = []
    for first in range(0, len(truth.queries), AT_ONCE):
        queries = truth.queries[first : first + AT_ONCE]
        part = [without_ignored(rankings.get(query.name, ()), query) for query in queries]
        for name, row in _scores(queries, part, measures).items():
            scores[name][first : first + AT_ONCE] = row
        kept += part
        done, of = len(kept), len(truth.queries)
        progress(Progress("score", done, of, done, of))
    judged_names = {query.name for query in truth.queries}
    return ScoredRun(
        Scored(
            label,
            tuple(query.name for query in truth.queries),
            grouped([query.name, *query.positives] for query in truth.queries),
            scores,
            tuple(kept),
        ),
        unanswered,
        tuple(name for name in ranked.queries if name not in judged_names),
        tuple(
            query.name
            for query, names in zip(truth.queries, kept, strict=True)
            if query.name in names and query.name not in query.positives
        ),
    )


def without_ignored(names: tuple[str, ...], query: GroundTruthQuery) -> tuple[str, ...]:
    """Return a ranking without the pictures that leave it before it is scored."""
    ignored = query.ignored
    return tuple(name for name in names if name not in ignored) if ignored else names


def _scores(
    queries: Sequence[GroundTruthQuery],
    kept: Sequence[tuple[str, ...]],
    measures: Sequence[Measure],
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of some queries by measure, each (q,) float64."""
    scores = {measure.name: np.zeros(len(queries)) for measure in measures}
    ours = [(measure.ours, scores[measure.name]) for measure in measures if measure.ours]
    for place, (names, query) in enumerate(zip(kept, queries, strict=True)):
        right = map((query.positives | query.missing).__contains__, names)
        ranks = np.fromiter(compress(range(len(names)), right), np.int64)
        for measured, row in ours:
            row[place] = measured(ranks, query.relevant)
    if others := [measure for measure in measures if measure.ours is None]:
        judged = [Judged(names, relevance_of(q)) for names, q in zip(kept, queries, strict=True)]
        for measure, row in zip(others, foreign_scores(others, judged), strict=True):
            scores[measure.name] = row
    return scores
