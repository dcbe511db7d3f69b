"""Confidence intervals of mean scores: a bootstrap over groups of queries.

Queries that share a right answer score alike, so they are no independent evidence. Their groups
are drawn as a whole (the cluster bootstrap: Davison and Hinkley 1997, *Bootstrap Methods and their
Application*, section 3.8). All rankings are scored on the same draws, so the difference of two has
a paired interval.

The method is the expanded percentile interval (Hesterberg 2015, *What Teachers Should Know about
the Bootstrap*, The American Statistician 69). Plain percentiles are too narrow for few groups:
resampled means vary by sqrt((n - 1) / n) too little, and normal tails are taken for those of t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.significance import holm, randomisation_tests
from lamella.schemas.report import Bootstrap, Interval

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 0

FEWEST_UNITS = 10
"""Fewer groups than this say too little of how groups differ: single queries are drawn instead.
Of fewer queries than this no interval is given."""

DRAWN_AT_ONCE = 2**20
"""Draws held in memory, 8 bytes each."""

DECIMALS = 12
"""Of an interval's ends: beyond them is rounding, which must not keep a difference from zero."""


@dataclass(frozen=True)
class Resampled:
    """Mean scores over resampled queries: (R, resamples) float64, a row a ranking.

    `scores` (R, Q) and `units` (Q,) are what was resampled.
    """

    bootstrap: Bootstrap
    means: NDArray[np.float64]
    scores: NDArray[np.float64]
    units: NDArray[np.int64]

    def interval(self, row: int) -> Interval:
        """Return the interval of a ranking's mean score."""
        return percentile_interval(self.means[row], self.bootstrap.units)

    def difference(self, row: int, other: int) -> Interval:
        """Return the paired interval of the mean score of `row` less that of `other`."""
        return percentile_interval(self.means[row] - self.means[other], self.bootstrap.units)

    def tests(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
        """Return p of a randomisation test of each pair of rankings, and p corrected for all pairs.

        Units that are drawn as a whole are flipped as a whole.
        """
        if not pairs:
            return []
        differences = np.stack([self.scores[row] - self.scores[other] for row, other in pairs])
        p = randomisation_tests(differences, self.units)
        return list(zip(p.tolist(), holm(p), strict=True))


def resample(scores: NDArray[np.float64], groups: NDArray[np.int64]) -> Resampled | None:
    """Return the mean scores over resampled queries; None for fewer than ten queries.

    With fewer than ten groups single queries are drawn. The intervals then speak of more queries
    for the same objects, and are too narrow for other objects.

    Args:
        scores: (R, Q) float64, a row a ranking.
        groups: (Q,) int64, the group of each query, numbered from 0.
    """
    queries, count = len(groups), int(groups.max()) + 1
    if queries < FEWEST_UNITS:
        return None
    grouped = count >= FEWEST_UNITS
    units = groups if grouped else np.arange(queries, dtype=np.int64)
    bootstrap = Bootstrap(
        unit="group" if grouped else "query",
        units=count if grouped else queries,
        resamples=RESAMPLES,
        seed=SEED,
        level=LEVEL,
    )
    means = resampled_means(scores, units, RESAMPLES, SEED)
    return Resampled(bootstrap, means, scores, units)


def resampled_means(
    scores: NDArray[np.float64], units: NDArray[np.int64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return the mean score (R, resamples) over the queries of drawn units.

    Each resample draws as many units as there are, with replacement: row b of
    `default_rng(seed).integers(units, size=(resamples, units))`. Its mean is over all queries of
    the units drawn, so a unit of five queries weighs five times as much as one of one.

    Args:
        scores: (R, Q) float64.
        units: (Q,) int64, the unit of each query, numbered from 0, none left out.
        resamples: how often to draw.
        seed: of the draws.
    """
    sizes = np.bincount(units).astype(np.float64)
    totals = [*(np.bincount(units, weights=row) for row in scores), sizes]
    sums = np.empty((len(totals), resamples))
    generator, count = np.random.default_rng(seed), len(sizes)
    step = max(1, DRAWN_AT_ONCE // count)
    for first in range(0, resamples, step):
        drawn = generator.integers(count, size=(min(step, resamples - first), count))
        for row, total in enumerate(totals):
            sums[row, first : first + step] = total[drawn].sum(axis=1)
    means: NDArray[np.float64] = sums[:-1] / sums[-1]
    return means


def percentile_interval(means: NDArray[np.float64], units: int) -> Interval:
    """Return the expanded percentile interval of resampled means, between neighbours linear.

    Args:
        means: (resamples,) float64.
        units: how many units each resample drew, at least 2.
    """
    tail = expanded_tail(units)
    low, high = np.round(np.quantile(means, [tail, 1.0 - tail]), DECIMALS) + 0.0  # no -0.0
    return Interval(low=float(low), high=float(high))


def expanded_tail(units: int) -> float:
    """Return the share to cut off each end: Phi(-sqrt(n / (n - 1)) t), .025 for many units.

    t is the quantile of Student's t with n - 1 degrees of freedom, by its expansion about the
    normal quantile (Abramowitz and Stegun 26.7.5): four digits from ten units on.

    Args:
        units: n, at least 2.
    """
    normal, free = NormalDist(), units - 1
    x = normal.inv_cdf(0.5 + LEVEL / 2)
    t = (
        x
        + (x**3 + x) / (4 * free)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * free**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * free**3)
    )
    return normal.cdf(-t * sqrt(units / free))
