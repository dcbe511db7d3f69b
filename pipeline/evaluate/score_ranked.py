"""Score rankings as they are stored: names of pictures, the first k of each query."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.folds import grouped
from lamella.pipeline.evaluate.measures import Judged, Measure, foreign_scores
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery


@dataclass(frozen=True)
class ScoredRun:
    """A run's scores, a query of the ground truth each, and what could not be scored.

    Attributes:
        scored: as many queries as the ground truth has, in its order.
        unanswered: queries of the ground truth that the run has no ranking for; their scores are 0,
            as with `trec_eval -c`.
        unjudged: queries of the run that the ground truth does not have; they are left out.
    """

    scored: Scored
    unanswered: tuple[str, ...]
    unjudged: tuple[str, ...]


def score_ranked(
    ranked: Ranked, truth: GroundTruth, label: str, measures: Sequence[Measure]
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
    kept = [without_ignored(rankings.get(query.name, ()), query) for query in truth.queries]
    scores: dict[str, NDArray[np.float64]] = {
        measure.name: np.zeros(len(kept)) for measure in measures
    }
    ours = [(measure.ours, scores[measure.name]) for measure in measures if measure.ours]
    for place, (names, query) in enumerate(zip(kept, truth.queries, strict=True)):
        right = map((query.positives | query.missing).__contains__, names)
        ranks = np.fromiter(compress(range(len(names)), right), np.int64)
        for measured, row in ours:
            row[place] = measured(ranks, query.relevant)
    if others := [measure for measure in measures if measure.ours is None]:
        judged = _judged(kept, truth)
        for measure, row in zip(others, foreign_scores(others, judged, len(kept)), strict=True):
            scores[measure.name] = row
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
    )


def without_ignored(names: tuple[str, ...], query: GroundTruthQuery) -> tuple[str, ...]:
    """Return a ranking without the pictures that leave it before it is scored."""
    ignored = query.ignored
    return tuple(name for name in names if name not in ignored) if ignored else names


def relevance_of(query: GroundTruthQuery) -> dict[str, int]:
    """Return the relevance of judged pictures by name, without those that leave the ranking."""
    right = dict.fromkeys(sorted(query.positives | query.missing), 1)
    return right | dict(query.grades)


def _judged(kept: Sequence[tuple[str, ...]], truth: GroundTruth) -> Iterator[Judged]:
    for names, query in zip(kept, truth.queries, strict=True):
        yield Judged(names, relevance_of(query))
