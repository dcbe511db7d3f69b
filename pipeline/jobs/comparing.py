"""The comparison job: the same queries to two snapshots or runs, their scores, what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.compare import (
    Comparison,
    Counted,
    compare,
    compare_corpora,
)
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.jobs.compare_asked import (
    DEPTH,
    OpenCoordinator,
    cut,
    nothing_in_common,
    tell,
)
from lamella.pipeline.jobs.compare_judged import Judging, MakeTruth, judged
from lamella.pipeline.jobs.compare_sides import Side
from lamella.pipeline.jobs.evaluating import QUERIES_A_BATCH
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.names import ImageTable

SAMPLED = 200
"""Queries that are drawn where nothing says which to ask."""

SEED = 0


@dataclass(frozen=True)
class Compared:
    """A comparison, and what it is of.

    Attributes:
        right: the right answers of each query, by its name, where they are known: in A or in B.
    """

    comparison: Comparison
    counted: Counted
    right: dict[str, frozenset[str]]


def compare_sides(
    places: tuple[Place | None, Place | None],
    sides: tuple[Side, Side],
    open_coordinator: OpenCoordinator,
    *,
    make_truth: MakeTruth | None = None,
    measures: Sequence[str] = (),
    queries: int | None = None,
    weights: Path | None = None,
    in_both: bool = False,
) -> Compared:
    """Ask both sides the queries that both have; score them where right answers are known.

    Snapshots are asked exactly, each by its own fusion. With a ground truth a side is scored by the
    right answers that its own corpus has, as `evaluate` scores it; a TREC run, whose corpus is not
    known, by those of the other side's.

    Args:
        places: where each snapshot is asked; None for rankings.
        make_truth: the ground truth; None compares rankings alone.
        measures: names of measures; by default the truth's own and R@10.
        queries: at most so many are asked where no truth says which; by default `SAMPLED` of two
            snapshots, all that a run has.
        weights: of the network, for queries that are cropped.
        in_both: score over the pictures that both corpora have with the same contents: others
            leave the rankings and the right answers.

    Raises:
        InputError: the sides have no query in common, measures are asked for without a truth, or a
            corpus that is needed is not known.
    """
    corpora = None
    if sides[0].corpus is not None and sides[1].corpus is not None:
        corpora = compare_corpora(sides[0].corpus, sides[1].corpus)
    elif in_both:
        side = next(side for side in sides if side.corpus is None)
        raise InputError(
            f"--in-both needs to know what both sides searched; {side.label} does not say it, or "
            "its snapshot has expired: leave it out"
        )
    # A picture with other contents asks another question.
    changed = frozenset(corpora.changed if corpora is not None else ())
    if make_truth is None:
        if measures or in_both:
            raise InputError(
                "--measure and --in-both need right answers: give --protocol or --qrels as well"
            )
        a, b, counted = _unjudged(places, sides, open_coordinator, queries, changed)
        right: dict[str, frozenset[str]] = {}
    else:
        kept = corpora.both if corpora is not None and in_both else None
        asked = Judging(make_truth, measures, weights, kept, changed)
        a, b, counted, right = judged(places, sides, open_coordinator, asked)
    return Compared(compare(a, b, corpora), counted, right)


def _unjudged(
    places: tuple[Place | None, Place | None],
    sides: tuple[Side, Side],
    open_coordinator: OpenCoordinator,
    most: int | None,
    changed: frozenset[str],
) -> tuple[Scored, Scored, Counted]:
    """Return the rankings of queries that both have."""
    known = [_askable(side) for side in sides]
    both = [name for name in known[0] if name in known[1] and name not in changed]
    if not both:
        raise nothing_in_common(sides, *(list(each) for each in known))
    asked = _drawn(both, most or (SAMPLED if not any(s.ranked for s in sides) else len(both)))
    found = []
    for place, side, names in zip(places, sides, known, strict=True):
        if side.ranked is not None:
            found.append(_from_run(side.label, side.ranked, asked))
        else:
            assert place is not None
            ids = [names[name] for name in asked]
            with open_coordinator(place.store, place.snapshot, place.snapshot.weighting) as opened:
                ranked = _ask(place, opened, ids, side.label)
            found.append(_as_scored(side.label, asked, ranked))
    return found[0], found[1], Counted(len(asked), len(known[0]), len(known[1]))


def _askable(side: Side) -> dict[str, int]:
    """Return the names that a side can be asked, or has answered; of a snapshot with their ids."""
    if side.ranked is not None:
        return {name: place for place, name in enumerate(side.ranked.queries)}
    assert side.corpus is not None
    return side.corpus


def _drawn(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many of some names, drawn by the seed, in their order by name."""
    ordered = sorted(names)
    if len(ordered) <= most:
        return ordered
    places = np.random.default_rng(SEED).choice(len(ordered), most, replace=False)
    return [ordered[place] for place in sorted(places.tolist())]


def _as_scored(label: str, queries: Sequence[str], ranked: Sequence[tuple[str, ...]]) -> Scored:
    """Return rankings without scores, each query a group of its own."""
    return Scored(label, tuple(queries), np.arange(len(queries)), {}, tuple(ranked))


def _from_run(label: str, ranked: Ranked, queries: Sequence[str]) -> Scored:
    places = {name: place for place, name in enumerate(ranked.queries)}
    found = [cut(name, ranked.ranked[places[name]]) for name in queries]
    return _as_scored(label, queries, found)


def _ask(
    place: Place, coordinator: Coordinator, ids: Sequence[int], label: str
) -> list[tuple[str, ...]]:
    """Return the first pictures of indexed ones as queries, best first, without themselves."""
    fusion = place.snapshot.fusion
    layers = [entry.layer for entry in fusion.layers]
    table = ImageTable(place.store, place.snapshot)
    found: list[tuple[str, ...]] = []
    for first in range(0, len(ids), QUERIES_A_BATCH):
        batch = list(ids[first : first + QUERIES_A_BATCH])
        answer = coordinator.answer(coordinator.features(batch, layers), fusion, DEPTH + 1)
        for own, row in zip(batch, answer.image_ids, strict=True):
            best = row[(row >= 0) & (row != own)][:DEPTH]
            found.append(tuple(table.names_of(best).to_pylist()))
        tell(place, label, len(found), len(ids))
    return found
