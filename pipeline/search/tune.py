"""Find the cheapest reaches of an index's proposers for some targets, by measurement.

Images of the index are asked for their k best, exactly and by each reach that is tried; the query
itself counts on neither side. What a reach finds is the mean share over the queries less its
standard error, so that a target is reached with a margin. What it costs is counted and not timed:
so the same index gets the same reaches on one kind of machine, however it is served.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.index.draw import draw
from lamella.pipeline.index.sketch import LEADING
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.merge import without_own
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import QueryBatch
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import IndexSnapshot, Proposers, Reach

ASKED_AT_ONCE = 16
"""Images of the sample that get their exact answers together, so that progress is seen."""

SAMPLE = 64
"""Images of the index that are asked. A mean share of .95 has then a standard error near .01."""

TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99)

FIRST = Reach(recall=0.0, cells=4, proposed=64, postings=4_096, decided=64)
"""The nearest reach of the ladder; k images are proposed and decided on at least. Each rung has
twice as much of all four, and which of them is too much is found afterwards."""

RUNGS = 10
"""Of the ladder: the farthest has 2,048 cells, 512 k images and 2,097,152 postings."""

LEAST = {"cells": 1, "proposed": 1, "postings": 0, "decided": 1}
"""The numbers of a reach, and the least of each."""

DOUBLED = ("postings", "cells", "proposed")
"""What may spare others if there is more of it."""

SHRINKS = (0.7, 0.85)
"""What a number is multiplied by to try whether less of it does: in large steps, then in small."""

NS_OF_SEEN, NS_OF_CODE, NS_OF_POSTING, NS_OF_SCORE, NS_OF_NUMBER = 20.0, 0.45, 10.0, 500.0, 0.7
"""Nanoseconds of a core with AVX2, about, over one and ten million drawn pictures: an image in a
cell, and each byte of its code; a posting; a similarity of a query and an image, and each number of
its vector. They only say which of two reaches is cheaper."""

TRIES = 28
"""About the reaches that are tried for a target, after the ladder."""

OnTried = Callable[[int, int], None]
"""Called with how many reaches were tried, and of about how many; the same at the end."""

GRAPH_NEIGHBOURS = 32
"""Neighbours that an entry of the search list of a graph is compared with, about: its M."""


@dataclass(eq=False)
class ReachSearch:
    """Reaches of one index that were tried, and what each found and costs.

    Attributes:
        coordinator: of the index.
        queries: Q images of it, in the layers of `fusion`.
        ids: (Q,) of these.
        wanted: (Q, k) their exact answers, -1 where there is nothing of any similarity.
        limits: the most that each number of a reach can be of use.
        expected: about how many reaches will have been tried at the end.
    """

    coordinator: Coordinator
    fusion: FusionSpec
    queries: QueryBatch
    ids: Int64s
    wanted: Int64s
    limits: Reach
    proposers: Proposers
    tried: dict[tuple[int, ...], Reach] = field(default_factory=dict)
    on_tried: OnTried = lambda done, about: None
    expected: int = RUNGS + TRIES * len(TARGETS)

    def measured(self, reach: Reach) -> Reach:
        """Return a reach, cut to the limits, with what it finds."""
        least, limits = self.wanted.shape[1] + 1, self.limits
        cut = Reach(
            recall=0.0,
            cells=min(reach.cells, limits.cells),
            proposed=min(max(reach.proposed, least), limits.proposed),
            postings=min(reach.postings, limits.postings),
            decided=min(max(reach.decided, least), limits.decided),
        )
        key = _numbers(cut)
        if key not in self.tried:
            answer = self.coordinator.answer_by(cut, self.queries, self.fusion, least)
            found = without_own(answer, self.ids).image_ids
            recall = lower_recall(self.wanted, found)
            self.tried[key] = cut.model_copy(update={"recall": recall})
            self.on_tried(len(self.tried), max(self.expected, len(self.tried) + 1))
        return self.tried[key]

    def cost(self, reach: Reach) -> float:
        """Return about how many nanoseconds a query takes, counted by what it reads."""
        features = self.queries.layers.values()
        widths = [each.shape[1] for each in features if isinstance(each, np.ndarray)]
        images, local = self.coordinator.images, len(features) - len(widths)
        return cost_of(reach, images, self.proposers.cells, widths, local)

    def climb(self) -> None:
        """Try one reach after the other, each twice as far, until one finds the last target."""
        for rung in range(RUNGS):
            far = times_as_far(1 << rung, self.wanted.shape[1])
            tried = len(self.tried)
            if self.measured(far).recall >= TARGETS[-1] or len(self.tried) == tried:
                return

    def settle(self, target: float) -> None:
        """Find a cheap reach for a target, from the cheapest tried that finds so much.

        Each number shrinks as far as the target allows. Then twice as much of one is tried, which
        may spare more of the others than it costs.
        """
        able = [reach for reach in self.tried.values() if reach.recall >= target]
        if not able:
            return
        coarse, fine = SHRINKS
        best = self._shrunk(min(able, key=self._order), target, coarse, set(LEAST))
        for name in DOUBLED:
            twice = self.measured(best.model_copy(update={name: 2 * getattr(best, name)}))
            if twice.recall >= target:
                other = self._shrunk(twice, target, coarse, set(LEAST) - {name})
                best = min(best, other, key=self._order)
        self._shrunk(best, target, fine, set(LEAST))

    def _shrunk(self, best: Reach, target: float, factor: float, names: set[str]) -> Reach:
        """Return a reach with some numbers less, while it finds the target.

        The number whose next step saves most goes first, until none can go on.
        """
        while names:
            less = {
                name: best.model_copy(
                    update={name: int(getattr(best, name) * factor) or LEAST[name]}
                )
                for name in names
            }
            name = min(less, key=lambda each: (self.cost(less[each]), each))
            found = self.measured(less[name])
            if found.recall >= target and self._order(found) < self._order(best):
                best = found
            else:
                names = names - {name}
        return best

    def chosen(self) -> tuple[Reach, ...]:
        """Return the cheapest reach tried for each target, and the one that finds most; rising."""
        reaches = sorted(self.tried.values(), key=self._order)
        most = max(reach.recall for reach in reaches)
        found = [
            next((reach for reach in reaches if reach.recall >= target), None)
            for target in (*TARGETS, most)
        ]
        distinct = {_numbers(reach): reach for reach in found if reach is not None}
        return tuple(sorted(distinct.values(), key=lambda reach: reach.recall))

    def _order(self, reach: Reach) -> tuple[float, ...]:
        return self.cost(reach), *_numbers(reach)


def times_as_far(times: int, k: int) -> Reach:
    """Return a reach so many times as far as the first, which proposes k images at least."""
    least = {"cells": 1, "proposed": k, "postings": 0, "decided": k}
    more = {name: max(getattr(FIRST, name), low) * times for name, low in least.items()}
    return FIRST.model_copy(update=more)


def cost_of(reach: Reach, images: int, cells: int, widths: Sequence[int], local: int) -> float:
    """Return about how many nanoseconds a query takes, counted by what it reads.

    Args:
        images: of the index.
        cells: of its proposers; 0 for graphs.
        widths: of the vectors of each dense layer.
        local: how many local layers there are.
    """
    every = max(images, 1)
    seen = every * reach.cells / cells if cells else float(reach.cells * GRAPH_NEIGHBOURS)
    # Each layer's proposals are scored in all dense layers but its own.
    others = local * len(widths) + len(widths) * (len(widths) - 1)
    width = sum(widths) / max(len(widths), 1)
    total = (
        min(seen, every) * sum(NS_OF_SEEN + NS_OF_CODE * min(each, LEADING) for each in widths)
        + NS_OF_POSTING * reach.postings * local
        + min(reach.proposed, every) * others * (NS_OF_SCORE + NS_OF_NUMBER * width)
        + min(reach.decided, every) * (len(widths) + local) * NS_OF_SCORE
        + min(reach.decided, every) * NS_OF_NUMBER * sum(widths)
    )
    return float(total)


def _numbers(reach: Reach) -> tuple[int, ...]:
    return reach.cells, reach.proposed, reach.postings, reach.decided


def tune(
    coordinator: Coordinator,
    snapshot: IndexSnapshot,
    k: int,
    on_asked: OnTried = lambda done, total: None,
    on_tried: OnTried = lambda done, about: None,
) -> Proposers:
    """Return the proposers of a snapshot, not yet published, with reaches measured by its images.

    Args:
        coordinator: of that snapshot.
        k: how many images the answers have that are to be found.
        on_asked: called with how many images of the sample have their exact answers, and of how
            many.
        on_tried: called as reaches are tried.

    Raises:
        ValueError: the snapshot has no proposers.
        LamellaError: as of `open_proposers`.
    """
    proposers = snapshot.proposers
    if proposers is None:
        raise ValueError(f"snapshot {snapshot.number} has no proposers to tune")
    fusion, every = snapshot.fusion, max(snapshot.indexed, 1)
    kinds = {layer.name: layer.kind for layer in snapshot.extraction.layers}
    local = any(kinds[entry.layer] == "local" for entry in fusion.layers)
    dense = any(kinds[entry.layer] == "global" for entry in fusion.layers)
    limits = Reach(
        recall=1.0,
        cells=(proposers.cells or every) if dense else 1,
        proposed=every,
        postings=FIRST.postings << RUNGS if local else 0,
        decided=every,
    )
    on_asked(0, SAMPLE)  # what follows opens the segments
    ids = coordinator.image_ids()
    ids = ids[draw(ids, SAMPLE)]
    if len(ids) < 2:  # nothing but a query itself can be found
        on_asked(len(ids), len(ids))
        nearest = limits.model_copy(update={"cells": 1})
        return proposers.model_copy(update={"k": k, "queries": 0, "reaches": (nearest,)})
    queries = coordinator.features(ids.tolist(), [entry.layer for entry in fusion.layers])
    wanted = _exact_answers(coordinator, queries, fusion, ids, k, on_asked)
    search = ReachSearch(
        coordinator, fusion, queries, ids, wanted, limits, proposers, on_tried=on_tried
    )
    on_tried(0, search.expected)
    search.climb()
    for number, target in enumerate(reversed(TARGETS)):
        # What does for one target may do with still less for the next.
        search.expected = len(search.tried) + TRIES * (len(TARGETS) - number)
        search.settle(target)
    on_tried(len(search.tried), len(search.tried))
    update = {"k": k, "queries": len(ids), "reaches": search.chosen()}
    return proposers.model_copy(update=update)


def _exact_answers(
    coordinator: Coordinator,
    queries: QueryBatch,
    fusion: FusionSpec,
    ids: Int64s,
    k: int,
    on_asked: OnTried,
) -> Int64s:
    """Return the exact answers of images, (Q, k), -1 where there is nothing of any similarity."""
    found = []
    for start in range(0, len(ids), ASKED_AT_ONCE):
        rows = range(start, min(start + ASKED_AT_ONCE, len(ids)))
        answer = coordinator.answer(take_queries(queries, rows), fusion, k + 1)
        exact = without_own(answer, ids[rows.start : rows.stop])
        found.append(np.where(exact.scores > 0.0, exact.image_ids, -1))
        on_asked(rows.stop, len(ids))
    return np.concatenate(found)


def lower_recall(wanted: Int64s, found: Int64s) -> float:
    """Return the mean share of wanted images that were found, less its standard error.

    Rounded down to 4 digits, and at least 0. Queries that want nothing do not count; it is 1 where
    none wants anything.

    Args:
        wanted: (Q, k), -1 for none.
        found: (Q, k'), likewise.
    """
    shares: Float64s = np.array(
        [
            np.count_nonzero(np.isin(mine[mine >= 0], theirs)) / np.count_nonzero(mine >= 0)
            for mine, theirs in zip(wanted, found, strict=True)
            if (mine >= 0).any()
        ]
    )
    if not len(shares):
        return 1.0
    error = float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return math.floor(max(float(shares.mean()) - error, 0.0) * 10_000) / 10_000
