"""What a page says of queries, as compact JSON: scores, first pictures, similarities, shared words.

Texts are spelled out by `printable`; the page shows them as text and never as markup.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.figures import DECIMALS, label_text
from lamella.pipeline.evaluate.matches import Box, Match
from lamella.pipeline.evaluate.sweep import SweepPlan, SweepResult
from lamella.pipeline.text import printable
from lamella.schemas.report import TOP_SCORE

SHOWN_RANKS = 8
"""First pictures of a ranking that a page shows."""

SCALE = 100_000
"""Similarities are whole numbers of so many parts: precise to 5e-6."""

MOST_WORDS = 12
"""The shared words of two pictures that a page shows: those that add most."""

MOST_BOXES = 24
"""The places of a word in a picture that a page shows."""

RANK_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""A rank, or a count of right pictures, as one character; 0 is past the last known rank."""

Matches = Mapping[tuple[int, int], Sequence[Match]]
"""The words that a query and a result share, by their image ids."""


@dataclass(frozen=True)
class PageQueries:
    """The queries of a page.

    Attributes:
        plan, result: how they were scored, and what came of it.
        image_ids: (N,) int64, the image at each place of the plan's names.
        listed: queries of the page, as places in the ground truth, in the order that they are
            first shown in.
        pictured: of how many of the first of them the rankings are shown.
        matches: shared words, of any of the pairs.
        boxes: of queries that are a part of their picture, by query: which part.
    """

    plan: SweepPlan
    result: SweepResult
    image_ids: NDArray[np.int64]
    listed: tuple[int, ...]
    pictured: int
    matches: Matches = field(default_factory=dict)
    boxes: Mapping[int, Box] = field(default_factory=dict)

    @property
    def rankings(self) -> range:
        """The rows of the rankings that are shown; with one layer all are equal, and one is."""
        return range(len(self.plan.rankings) if len(self.plan.fusion.layers) > 1 else 1)

    @cached_property
    def places(self) -> list[int]:
        """Places of the pictures that are shown, each once: queries first, then what they find."""
        shown = list(self.listed[: self.pictured])
        asked = [self.plan.truth.query_ids[query] for query in shown]
        rows = self.rankings.stop
        found = self.result.first[:rows, shown, :SHOWN_RANKS].transpose(1, 0, 2).ravel()
        return list(dict.fromkeys([*asked, *found.tolist()]))

    @property
    def shown_ids(self) -> list[int]:
        """Image ids of the pictures that are shown; the place of each is its number on the page."""
        ids: list[int] = self.image_ids[self.places].tolist()
        return ids


def telling_queries(result: SweepResult) -> list[int]:
    """Return all queries, those first that tell most: what the map changes, then the hardest.

    What gains most by the map over the direct sum and what loses most stand in turn.
    """
    difference = result.scores[-1] - result.scores[-2]
    places = np.arange(len(difference))
    gains = [q for q in np.lexsort((places, -difference)).tolist() if difference[q] > 0]
    losses = [q for q in np.lexsort((places, difference)).tolist() if difference[q] < 0]
    order: dict[int, None] = {}
    for turn in range(max(len(gains), len(losses))):
        for queries in (gains, losses):
            if turn < len(queries):
                order.setdefault(queries[turn])
    for query in np.lexsort((places, result.scores[-1])).tolist():
        order.setdefault(query)
    return list(order)


def page_data(queries: PageQueries) -> dict[str, Any]:
    """Return what the page's script reads of queries.

    Returns:
        A JSON object:

        - `layers`: name, t, p and weight of each layer, as the mapped fusion has them.
        - `rankings`: of each its name, label, kind, and the layers that it adds up as
          [place, t, p, weight].
        - `names`: of pictures, those that are shown before others; their place is their number.
        - `shown`: how many are shown. `ranks`, `kept`: how many ranks are shown, and are known.
        - `asked`: the picture of each query. `scores`: of each ranking, a score a query.
        - `right`: of each ranking a text, a character a query: how many of the pictures shown are
          right.
        - `pictures`: for each of the first queries its pictures, their similarities (all layers of
          a picture in a row, in parts of `scale`), their verdicts as a text of r(ight), w(rong),
          j(unk) and q(uery), and of each ranking a text with their ranks.
        - `boxes`: by query, the part of its picture that is asked, as shares.
        - `matches`: by query, by picture, the shared words as [layer, word, weight, boxes in the
          query, boxes in the picture].
    """
    plan, result = queries.plan, queries.result
    asked = [plan.truth.query_ids[query] for query in queries.listed]
    numbers = {place: number for number, place in enumerate(queries.places)}
    shown = len(numbers)
    for place in asked:
        numbers.setdefault(place, len(numbers))
    layers = [entry.layer for entry in plan.fusion.layers]
    listed = list(queries.listed)
    return {
        "metric": plan.truth.truth.metric_name,
        "top": TOP_SCORE[plan.truth.truth.metric_name],
        "decimals": DECIMALS[plan.truth.truth.metric_name],
        "layers": [
            [printable(entry.layer), entry.t, entry.p, entry.weight] for entry in plan.fusion.layers
        ],
        "rankings": [
            {
                "name": printable(result.rows[row].name),
                "label": label_text(result.rows[row]),
                "kind": result.rows[row].kind,
                "layers": [
                    [layers.index(entry.layer), entry.t, entry.p, entry.weight]
                    for entry in plan.rankings[row][2].layers
                ],
            }
            for row in queries.rankings
        ],
        "names": [printable(plan.truth.names[place]) for place in numbers],
        "shown": shown,
        "ranks": min(SHOWN_RANKS, result.first.shape[2]),
        "kept": result.first.shape[2],
        "scale": SCALE,
        "asked": [numbers[place] for place in asked],
        "scores": [result.scores[row, listed].round(5).tolist() for row in queries.rankings],
        "right": _right(queries),
        "pictures": [_pictures(queries, query, numbers) for query in listed[: queries.pictured]],
        "boxes": {
            str(number): _rounded([queries.boxes[query]])[0]
            for number, query in enumerate(listed[: queries.pictured])
            if query in queries.boxes
        },
        "matches": _matches(queries, numbers),
    }


def as_script(value: Any) -> str:
    """Return JSON that can stand inside a script element, which no text in it can end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _right(queries: PageQueries) -> list[str]:
    """Return for each ranking how many of its first pictures are right, a character a query."""
    first = queries.result.first[:, :, :SHOWN_RANKS]
    counts = np.zeros((len(queries.rankings), len(queries.listed)), np.int64)
    for column, query in enumerate(queries.listed):
        right = np.isin(first[:, query], queries.plan.truth.queries[query].positive_ids)
        right &= first[:, query] != queries.plan.truth.query_ids[query]
        counts[:, column] = right.sum(axis=1)[: len(counts)]
    return ["".join(RANK_DIGITS[count] for count in row) for row in counts.tolist()]


def _pictures(queries: PageQueries, query: int, numbers: Mapping[int, int]) -> list[Any]:
    """Return the pictures of a query, as `page_data` describes them."""
    first = queries.result.first[: queries.rankings.stop, query]
    shown = first[:, :SHOWN_RANKS]
    places, at = np.unique(shown, return_index=True)
    similarities = queries.result.similarities[: queries.rankings.stop, query, :SHOWN_RANKS]
    layers = similarities.shape[-1]
    parts = np.rint(SCALE * similarities.reshape(-1, layers)[at.ravel()]).astype(np.int64)
    verdicts = queries.plan.truth.verdicts(query, places)
    return [
        [numbers[place] for place in places.tolist()],
        parts.ravel().tolist(),
        "".join(verdict[0] for verdict in verdicts.tolist()),
        [_ranks(ranking, places) for ranking in first],
    ]


def _ranks(ranking: NDArray[np.int64], places: NDArray[np.int64]) -> str:
    """Return the rank of each place in a ranking's first ones, a character each."""
    rank_of = {place: rank for rank, place in enumerate(ranking.tolist(), start=1)}
    return "".join(RANK_DIGITS[rank_of.get(place, 0)] for place in places.tolist())


def _matches(queries: PageQueries, numbers: Mapping[int, int]) -> dict[str, dict[str, list[Any]]]:
    if not queries.matches:
        return {}
    shown = {int(queries.image_ids[place]): number for place, number in numbers.items()}
    of_query: dict[int, list[tuple[int, Sequence[Match]]]] = {}
    for (query_id, result_id), words in queries.matches.items():
        if result_id in shown:
            of_query.setdefault(query_id, []).append((shown[result_id], words))
    found = {}
    for number, query in enumerate(queries.listed[: queries.pictured]):
        asked = int(queries.image_ids[queries.plan.truth.query_ids[query]])
        if asked in of_query:
            found[str(number)] = {
                str(picture): [_word(match) for match in _most(words)]
                for picture, words in of_query[asked]
            }
    return found


def _most(words: Sequence[Match]) -> list[Match]:
    return sorted(words, key=lambda match: -match.weight)[:MOST_WORDS]


def _word(match: Match) -> list[Any]:
    both = match.query_boxes, match.result_boxes
    boxes = [_rounded(places[:MOST_BOXES]) for places in both]
    return [printable(match.layer), match.word, round(match.weight, 5), *boxes]


def _rounded(boxes: Sequence[Box]) -> list[list[float]]:
    return [[round(value, 4) for value in box] for box in boxes]
