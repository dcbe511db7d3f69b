"""Score both sides of a comparison by the right answers of the queries that both have."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.compare import (
    Counted,
)
from lamella.pipeline.evaluate.folds import grouped
from lamella.pipeline.evaluate.measures import Measure, parse_measures
from lamella.pipeline.evaluate.metrics import order_by_score
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.score_ranked import score_ranked, without_ignored
from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.evaluate.truth import GroundTruth, resolve
from lamella.pipeline.jobs.compare_asked import OpenCoordinator, cut, nothing_in_common, tell
from lamella.pipeline.jobs.compare_sides import Side
from lamella.pipeline.jobs.evaluating import query_features
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.names import ImageTable
from lamella.schemas.query import FusionSpec

MakeTruth = Callable[[Sequence[str] | None, bool], GroundTruth]
"""Returns the queries of a protocol, or of qrels, over the names of a corpus, None if that is not
known; and whether queries are to be pictures of it."""

NOT_IN_BOTH = "no right answer in both"
OTHER_CONTENTS = "other contents"


@dataclass(frozen=True)
class Judging:
    """How queries are judged.

    Attributes:
        kept: the only pictures that count; None for all.
        changed: pictures that ask another question in B than in A, as their contents are others.
    """

    make_truth: MakeTruth
    measures: Sequence[str]
    weights: Path | None
    kept: frozenset[str] | None
    changed: frozenset[str]


def judged(
    places: tuple[Place | None, Place | None],
    sides: tuple[Side, Side],
    open_coordinator: OpenCoordinator,
    asked: Judging,
) -> tuple[Scored, Scored, Counted, dict[str, frozenset[str]]]:
    """Return both sides, scored by the queries that both have."""
    truths = [_truth_of(side, other, asked) for side, other in (sides, sides[::-1])]
    answered = [
        {query.name for query in truth.queries}
        & (set(side.ranked.queries) if side.ranked else {query.name for query in truth.queries})
        for side, truth in zip(sides, truths, strict=True)
    ]
    both = answered[0] & answered[1]
    if not both:
        raise nothing_in_common(sides, *(sorted(each) for each in answered))
    truths = [
        replace(truth, queries=tuple(query for query in truth.queries if query.name in both))
        for truth in truths
    ]
    order = {query.name: place for place, query in enumerate(truths[0].queries)}
    by_order = sorted(truths[1].queries, key=lambda query: order[query.name])
    truths[1] = replace(truths[1], queries=tuple(by_order))
    measures = parse_measures(asked.measures or (truths[0].metric_name, "R@10"))
    found = []
    for place, side, truth in zip(places, sides, truths, strict=True):
        if side.ranked is not None:
            found.append(_scored(side.ranked, truth, side.label, measures, asked.kept))
        else:
            assert place is not None
            snapshot = place.snapshot
            with open_coordinator(place.store, snapshot, snapshot.weighting) as opened:
                found.append(_score_snapshot(place, opened, truth, side.label, measures, asked))
    right = {
        one.name: one.positives | two.positives
        for one, two in zip(truths[0].queries, truths[1].queries, strict=True)
    }
    left_out = {name: why for truth in truths for name, why in truth.left_out}
    counted = Counted(
        len(both),
        len(answered[0]),
        len(answered[1]),
        Counter(left_out.values()),
        truths[0].protocol,
        in_both=asked.kept is not None,
    )
    return found[0], found[1], counted, right


def _truth_of(side: Side, other: Side, asked: Judging) -> GroundTruth:
    """Return the ground truth of a side's corpus; where that is not known, of the other side's."""
    corpus = side.corpus if side.corpus is not None else other.corpus
    names = None if corpus is None else sorted(corpus)
    truth = asked.make_truth(names, side.ranked is None)
    queries, left_out = [], list(truth.left_out)
    for query in truth.queries:
        if query.name in asked.changed:
            left_out.append((query.name, OTHER_CONTENTS))
        else:
            queries.append(query)
    truth = replace(truth, queries=tuple(queries), left_out=tuple(left_out))
    return truth if asked.kept is None else _within(truth, asked.kept)


def _within(truth: GroundTruth, kept: frozenset[str]) -> GroundTruth:
    """Return the queries over some pictures alone; those that lose all right answers are left out.

    Right answers that a corpus lacks count no more. Grades stay with the pictures that do.
    """
    queries, left_out = [], list(truth.left_out)
    for query in truth.queries:
        if query.positives & kept:
            positives, junk = query.positives & kept, query.junk & kept
            grades = {name: grade for name, grade in query.grades.items() if name in kept}
            queries.append(
                replace(query, positives=positives, junk=junk, missing=frozenset(), grades=grades)
            )
        else:
            left_out.append((query.name, NOT_IN_BOTH))
    return replace(truth, queries=tuple(queries), left_out=tuple(left_out))


def _scored(
    ranked: Ranked,
    truth: GroundTruth,
    label: str,
    measures: Sequence[Measure],
    kept: frozenset[str] | None,
) -> Scored:
    """Return what rankings score over the kept pictures, with the first of all pictures."""
    within = ranked if kept is None else _only(ranked, kept)
    scored = score_ranked(within, truth, label, measures).scored
    of = dict(zip(ranked.queries, ranked.ranked, strict=True))
    whole = (without_ignored(of[query.name], query) for query in truth.queries)
    return replace(
        scored,
        ranked=tuple(cut(name, names) for name, names in zip(scored.queries, whole, strict=True)),
    )


def _only(ranked: Ranked, kept: frozenset[str]) -> Ranked:
    """Return rankings without other pictures than the kept ones."""
    names, scores = [], []
    for row, values in zip(ranked.ranked, ranked.scores, strict=True):
        places = [place for place, name in enumerate(row) if name in kept]
        names.append(tuple(row[place] for place in places))
        scores.append(values[places])
    return Ranked(ranked.queries, tuple(names), tuple(scores))


def _score_snapshot(
    place: Place,
    coordinator: Coordinator,
    truth: GroundTruth,
    label: str,
    measures: Sequence[Measure],
    asked: Judging,
) -> Scored:
    """Return what a snapshot scores, by whole rankings, a batch of queries at a time."""
    table, fusion = ImageTable(place.store, place.snapshot), place.snapshot.fusion
    image_ids = table.image_ids()
    names = np.array(table.names_of(image_ids).to_pylist(), dtype=object)
    layers = [entry.layer for entry in fusion.layers]
    resolved = resolve(truth, names.tolist())
    parts: list[Scored] = []
    done = 0
    for first, batch in query_features(
        place, coordinator, image_ids, resolved, layers, asked.weights
    ):
        similarities = coordinator.similarities(batch, layers)[1]
        queries = truth.queries[first : first + len(batch)]
        rankings = [_whole(similarities[:, row], fusion, names) for row in range(len(batch))]
        ranked = Ranked(
            tuple(query.name for query in queries),
            tuple(each[0] for each in rankings),
            tuple(each[1] for each in rankings),
        )
        part = replace(truth, queries=queries)
        parts.append(_scored(ranked, part, label, measures, asked.kept))
        done += len(batch)
        tell(place, label, done, len(truth.queries))
    return Scored(
        label,
        tuple(query.name for query in truth.queries),
        grouped([query.name, *query.positives] for query in truth.queries),
        {
            measure.name: np.concatenate([part.scores[measure.name] for part in parts])
            for measure in measures
        },
        tuple(ranked for part in parts for ranked in part.ranked),
    )


def _whole(
    similarities: NDArray[np.float64], fusion: FusionSpec, names: NDArray[Any]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the ranking of all pictures by a query's similarities (C, N), and their scores."""
    scores = fuse(similarities, fusion)
    order = order_by_score(scores)
    return tuple(names[order].tolist()), scores[order]
