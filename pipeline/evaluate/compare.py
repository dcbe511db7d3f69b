"""Two rankings of the same queries, side by side: what they score, and how alike they are.

A night that adds pictures changes rankings in two ways: new pictures push others down, and pictures
that both corpora have change places. Where both corpora are known, the second is measured apart:
over the pictures that both have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.intervals import resample
from lamella.pipeline.evaluate.overlap import overlap_at, rank_biased_overlap
from lamella.pipeline.evaluate.scored import Scored
from lamella.schemas.report import Bootstrap, Interval, Verdict, verdict_of

DEPTHS = (1, 10, 100)
"""The k of overlap@k, as far as rankings are as deep."""

ROUNDING = 1e-12
"""Scores of one query that are nearer than this are a tie."""


@dataclass(frozen=True)
class MeasureRow:
    """What a measure says of A and B.

    Attributes:
        a, b: mean scores.
        interval: of b - a; None where there are too few queries for one.
        p: of a paired randomisation test; None as `interval`.
        corrected_p: p corrected by Holm for all measures of the comparison.
        wins, ties, losses: of how many queries B scores more than A, as much, and less.
    """

    name: str
    a: float
    b: float
    interval: Interval | None
    p: float | None
    corrected_p: float | None
    wins: int
    ties: int
    losses: int

    @property
    def difference(self) -> float:
        """Positive where B is better."""
        return self.b - self.a

    @property
    def verdict(self) -> Verdict | None:
        """What the queries show of B against A; None where they are too few."""
        return None if self.interval is None else verdict_of(self.interval, self.corrected_p)


@dataclass(frozen=True)
class Counted:
    """How many queries there were, and why some were not compared.

    Attributes:
        compared: of both sides.
        of_a, of_b: that each side could be asked, or has answered; judged ones, with a truth.
        left_out: by reason, queries that the ground truth itself leaves out.
        protocol: whose right answers; "" without any.
        in_both: whether scores are over the pictures that both corpora have.
    """

    compared: int
    of_a: int
    of_b: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    protocol: str = ""
    in_both: bool = False


@dataclass(frozen=True)
class Agreement:
    """How alike two rankings are, query by query.

    Attributes:
        overlaps: overlap@k by k, (Q,) float64.
        biased: rank-biased overlap, (Q,) float64.
        first_changed: (Q,) bool, another picture is first.
    """

    overlaps: dict[int, NDArray[np.float64]]
    biased: NDArray[np.float64]
    first_changed: NDArray[np.bool_]


@dataclass(frozen=True)
class Corpora:
    """What two corpora have, by name.

    Attributes:
        both: in both, with the same contents.
        new: in B alone.
        gone: in A alone.
        changed: in both by name, with other contents.
    """

    both: frozenset[str]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    changed: tuple[str, ...]


def compare_corpora(a: Mapping[str, int], b: Mapping[str, int]) -> Corpora:
    """Return what two corpora have, each by name with its image id, which the contents decide."""
    shared = a.keys() & b.keys()
    changed = {name for name in shared if a[name] != b[name]}
    return Corpora(
        both=frozenset(shared - changed),
        new=tuple(sorted(b.keys() - shared)),
        gone=tuple(sorted(a.keys() - shared)),
        changed=tuple(sorted(changed)),
    )


@dataclass(frozen=True)
class Comparison:
    """A and B over the same Q queries, in the order of `a.queries`.

    The query's own picture is left out of every ranking that is compared: it would be first.

    Attributes:
        a, b: the two, without their queries' own pictures.
        rows: one a measure; empty where no right answers are known.
        bootstrap: how intervals were made; None where there are none.
        agreement: over all pictures.
        among_both: over the pictures that both corpora have; None where these are not known.
        corpora: what both have; None as `among_both`.
    """

    a: Scored
    b: Scored
    rows: tuple[MeasureRow, ...]
    bootstrap: Bootstrap | None
    agreement: Agreement
    among_both: Agreement | None
    corpora: Corpora | None

    @property
    def lost(self) -> tuple[str, ...]:
        """The measures by which B is worse."""
        return tuple(row.name for row in self.rows if row.verdict == "loss")

    def deltas(self, measure: str) -> NDArray[np.float64]:
        """Return B's score less A's of each query, (Q,) float64; what rounds to nothing is 0."""
        found = self.b.scores[measure] - self.a.scores[measure]
        return np.where(np.abs(found) <= ROUNDING, 0.0, found)

    def most_changed(self, count: int) -> list[int]:
        """Return the places of the queries that changed most, at most `count` of them.

        By the first measure, gains and losses alike, then by rank-biased overlap. Without measures
        by the overlap over the pictures that both have, where these are known. Queries with the
        same scores and the same rankings are left out.
        """
        within = self.among_both or self.agreement
        size = np.zeros(len(self.a.queries))
        if self.rows:
            size = np.abs(self.deltas(self.rows[0].name))
        order = np.lexsort((self.agreement.biased, within.biased, -size))
        differ = (size > 0) | (self.agreement.biased < 1 - ROUNDING)
        return [place for place in order.tolist() if differ[place]][:count]


def compare(a: Scored, b: Scored, corpora: Corpora | None = None) -> Comparison:
    """Compare two rankings of the same queries.

    Args:
        a, b: of the same queries in the same order, by the same measures; `ranked` as deep as is to
            be compared.
        corpora: the pictures that were searched; None where that is not known.

    Raises:
        MismatchedQueries: queries or measures differ.
        InputError: there is no query.
    """
    if a.queries != b.queries or list(a.scores) != list(b.scores):
        raise MismatchedQueries(
            f"rankings of the same queries are compared, by the same measures; {a.label} has "
            f"{len(a.queries):,} queries and {', '.join(a.scores) or 'no measure'}, {b.label} "
            f"{len(b.queries):,} and {', '.join(b.scores) or 'no measure'}: take what both have"
        )
    if not a.queries:
        raise InputError("at least 1 query is compared; got 0: ask both the same queries")
    a, b = _without_own(a), _without_own(b)
    # The coarser grouping: what either corpus ties together is no independent evidence.
    groups = min((a.groups, b.groups), key=lambda each: len(np.unique(each)))
    rows, bootstrap = _rows(a, b, groups)
    pairs = list(zip(a.ranked, b.ranked, strict=True))
    if corpora is None:
        agreement = _agreement(pairs, _depths(pairs))
        return Comparison(a, b, rows, bootstrap, agreement, None, None)
    kept = corpora.both.__contains__
    of_both = [(tuple(filter(kept, one)), tuple(filter(kept, two))) for one, two in pairs]
    depths = _depths(of_both)
    agreement, among_both = _agreement(pairs, depths), _agreement(of_both, depths)
    return Comparison(a, b, rows, bootstrap, agreement, among_both, corpora)


def _without_own(scored: Scored) -> Scored:
    ranked = (
        tuple(name for name in names if name != query)
        for query, names in zip(scored.queries, scored.ranked, strict=True)
    )
    return replace(scored, ranked=tuple(ranked))


def _rows(
    a: Scored, b: Scored, groups: NDArray[np.int64]
) -> tuple[tuple[MeasureRow, ...], Bootstrap | None]:
    """Return a row a measure. All measures are resampled alike: the draws have one seed."""
    if not a.scores:
        return (), None
    count = len(a.scores)
    drawn = resample(np.stack([*b.scores.values(), *a.scores.values()]), groups)
    tests = drawn.tests([(row, count + row) for row in range(count)]) if drawn else []
    rows = []
    for row, (name, ours) in enumerate(a.scores.items()):
        apart = b.scores[name] - ours
        p, corrected = tests[row] if tests else (None, None)
        rows.append(
            MeasureRow(
                name=name,
                a=float(ours.mean()),
                b=float(b.scores[name].mean()),
                interval=drawn.difference(row, count + row) if drawn else None,
                p=p,
                corrected_p=corrected,
                wins=int((apart > ROUNDING).sum()),
                ties=int((np.abs(apart) <= ROUNDING).sum()),
                losses=int((apart < -ROUNDING).sum()),
            )
        )
    return tuple(rows), drawn.bootstrap if drawn else None


Pairs = Sequence[tuple[Sequence[str], Sequence[str]]]


def _depths(pairs: Pairs) -> list[int]:
    """Return the depths at which overlap is looked at: `DEPTHS` as far as any pair goes."""
    deepest = max((min(len(one), len(two)) for one, two in pairs), default=0)
    return sorted({min(k, max(deepest, 1)) for k in DEPTHS})


def _agreement(pairs: Pairs, depths: Sequence[int]) -> Agreement:
    return Agreement(
        {k: np.array([overlap_at(one, two, k) for one, two in pairs]) for k in depths},
        np.array([rank_biased_overlap(one, two) for one, two in pairs]),
        np.array([one[:1] != two[:1] for one, two in pairs], np.bool_),
    )
