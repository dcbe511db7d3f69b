"""Why pictures rank where they do: the first of every ranking of a query, layer by layer."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import order_by_score
from pipeline.evaluate.sweep import SweepPlan, SweepResult
from pipeline.evaluate.truth import score_query
from pipeline.search.fuse import fuse, map_similarity

Verdict = Literal["right", "wrong", "junk", "query"]


@dataclass(frozen=True)
class RankedPicture:
    """One picture in a ranking.

    Attributes:
        image_id: in the corpus.
        name: as the manifest has it; not to be trusted.
        rank: its place, from 1, in the ranking as returned.
        score: the ranking's own score of it.
        similarities: S_i of each layer of the fusion, from high to low.
        mapped: f_i(S_i) of each layer.
        verdict: right, wrong, junk (not scored), or the query itself.
        thumbnail_id: key of its thumbnail.
    """

    image_id: int
    name: str
    rank: int
    score: float
    similarities: tuple[float, ...]
    mapped: tuple[float, ...]
    verdict: Verdict
    thumbnail_id: str


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
        name: of the query picture; not to be trusted.
        thumbnail_id: key of its thumbnail.
        rankings: one a row of the report.
        note: why it is shown.
    """

    name: str
    thumbnail_id: str
    rankings: tuple[RankingRow, ...]
    note: str = ""


def explain_query(
    plan: SweepPlan, query: int, similarities: NDArray[np.float64], k: int = 10, note: str = ""
) -> QueryPicture:
    """Return the k first pictures of every ranking of one query; thumbnail ids are image ids.

    Args:
        plan: the rankings.
        query: place of the query in the ground truth.
        similarities: (C, N) float64, of this query, layers from high to low.
        k: pictures a ranking, at least 1.
        note: why this query is shown.
    """
    truth, entries = plan.truth, plan.fusion.layers
    resolved, query_id = truth.queries[query], truth.query_ids[query]
    positives, ignored = set(resolved.positive_ids.tolist()), set(resolved.ignored_ids.tolist())
    mapped = np.stack(
        [
            map_similarity(values, entry.t, entry.p)
            for values, entry in zip(similarities, entries, strict=True)
        ]
    )

    def verdict_of(image_id: int) -> Verdict:
        if image_id == query_id:
            return "query"
        if image_id in positives:
            return "right"
        return "junk" if image_id in ignored else "wrong"

    rankings = []
    for kind, taken, spec in plan.rankings:
        scores = fuse(similarities[taken], spec)
        pictures = tuple(
            RankedPicture(
                image_id=image_id,
                name=truth.names[image_id],
                rank=rank,
                score=float(scores[image_id]),
                similarities=tuple(similarities[:, image_id].tolist()),
                mapped=tuple(mapped[:, image_id].tolist()),
                verdict=verdict_of(image_id),
                thumbnail_id=str(image_id),
            )
            for rank, image_id in enumerate(order_by_score(scores)[:k].tolist(), start=1)
        )
        name = spec.layers[0].layer if kind == "alone" else kind
        score = score_query(truth.truth.metric_name, resolved, scores)
        rankings.append(RankingRow(name, score, pictures))
    return QueryPicture(truth.names[query_id], str(query_id), tuple(rankings), note)


def telling_queries(result: SweepResult, count: int) -> list[tuple[int, str]]:
    """Return up to `count` queries to show, each with the reason, gains and losses in turn.

    The queries to which the map gives most and takes most against the direct sum, then the
    hardest; so the page shows both sides.
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
