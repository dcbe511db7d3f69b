"""Explain rankings: the first pictures of every ranking of a query, with scores by layer."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.metrics import order_by_score
from lamella.pipeline.evaluate.sweep import SweepPlan, SweepResult
from lamella.pipeline.evaluate.truth import score_query
from lamella.pipeline.search.fuse import fuse, map_similarity

Verdict = Literal["right", "wrong", "junk", "query"]


@dataclass(frozen=True)
class RankedPicture:
    """One picture in a ranking.

    Attributes:
        image_id: in the corpus; also the key of its thumbnail.
        name: as the manifest has it; not to be trusted.
        rank: its rank, from 1, in the ranking as returned.
        score: its score in the ranking.
        similarities: S_i of each layer of the fusion, from high to low.
        mapped: w_i f_i(S_i) of each layer, which add up to the score.
        verdict: right, wrong, junk (not scored), or the query itself.
    """

    image_id: int
    name: str
    rank: int
    score: float
    similarities: tuple[float, ...]
    mapped: tuple[float, ...]
    verdict: Verdict


@dataclass(frozen=True)
class RankingRow:
    """The first pictures of one ranking, its name (a layer, `direct`, `mapped`) and its score."""

    name: str
    score: float
    pictures: tuple[RankedPicture, ...]


@dataclass(frozen=True)
class QueryPicture:
    """A query and its rankings, in the order of the report's rows.

    Attributes:
        image_id: of the query picture; also the key of its thumbnail.
        name: of the query picture; not to be trusted.
        rankings: one a row of the report.
        note: why it is shown.
    """

    image_id: int
    name: str
    rankings: tuple[RankingRow, ...]
    note: str = ""


def explain_query(
    plan: SweepPlan,
    query: int,
    image_ids: NDArray[np.int64],
    similarities: NDArray[np.float64],
    k: int = 10,
    note: str = "",
) -> QueryPicture:
    """Return the k first pictures of every ranking of one query.

    Args:
        plan: the rankings; it numbers images by their place among the N indexed ones.
        query: place of the query in the ground truth.
        image_ids: (N,) the image at each place.
        similarities: (C, N) float64, of this query, layers from high to low.
        k: pictures a ranking, at least 1.
        note: why this query is shown.
    """
    truth, entries = plan.truth, plan.fusion.layers
    resolved, asked = truth.queries[query], truth.query_ids[query]
    positives, ignored = set(resolved.positive_ids.tolist()), set(resolved.ignored_ids.tolist())
    mapped = np.stack(
        [
            entry.weight * map_similarity(values, entry.t, entry.p)
            for values, entry in zip(similarities, entries, strict=True)
        ]
    )

    def verdict_of(place: int) -> Verdict:
        if place == asked:
            return "query"
        if place in positives:
            return "right"
        return "junk" if place in ignored else "wrong"

    rankings = []
    for kind, taken, spec in plan.rankings:
        scores = fuse(similarities[taken], spec)
        pictures = tuple(
            RankedPicture(
                image_id=int(image_ids[place]),
                name=truth.names[place],
                rank=rank,
                score=float(scores[place]),
                similarities=tuple(similarities[:, place].tolist()),
                mapped=tuple(mapped[:, place].tolist()),
                verdict=verdict_of(place),
            )
            for rank, place in enumerate(order_by_score(scores)[:k].tolist(), start=1)
        )
        name = spec.layers[0].layer if kind == "alone" else kind
        score = score_query(truth.truth.metric_name, resolved, scores)
        rankings.append(RankingRow(name, score, pictures))
    return QueryPicture(int(image_ids[asked]), truth.names[asked], tuple(rankings), note)


def telling_queries(result: SweepResult, count: int) -> list[tuple[int, str]]:
    """Return up to `count` queries to show, each with a reason, gains and losses in turn.

    First the queries that gain or lose most by the map over the direct sum, then the hardest.
    """
    difference = result.scores[-1] - result.scores[-2]
    places = np.arange(len(difference))
    gains = [q for q in np.lexsort((places, -difference)).tolist() if difference[q] > 0]
    losses = [q for q in np.lexsort((places, difference)).tolist() if difference[q] < 0]
    reasons: dict[int, str] = {}
    for turn in range(len(places)):
        for queries, reason in ((gains, "the map helps here"), (losses, "the map hurts here")):
            if turn < len(queries):
                reasons.setdefault(queries[turn], reason)
    for query in np.lexsort((places, result.scores[-1])).tolist():
        reasons.setdefault(query, "the map changes nothing here")
    return list(reasons.items())[:count]
