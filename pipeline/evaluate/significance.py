"""Paired randomisation tests between rankings, and their correction for many comparisons.

Had two rankings no difference, each query's (or group's) difference could as well have the other
sign. p is the share of such flips that give a mean difference at least as far from zero as the one
found, on either side (Smucker, Allan and Carterette 2007, *A Comparison of Statistical Significance
Tests for Information Retrieval Evaluation*). Queries that share a right answer are flipped
together, as the bootstrap draws them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLIPS = 10_000
SEED = 0

MOST_EXACT = 13
"""With so many differing units or fewer all 2^n flips are tried, which are fewer than `FLIPS`."""

FLIPPED_AT_ONCE = 2**22
"""Signs held in memory, 8 bytes each."""

ROUNDING = 1e-9
"""A flip that misses the difference by this share of the largest possible one equals it."""


def randomisation_tests(
    differences: NDArray[np.float64], units: NDArray[np.int64], seed: int = SEED
) -> NDArray[np.float64]:
    """Return the two-sided p (P,) of each pair of rankings.

    Units without a difference change nothing and are left out. Where at most `MOST_EXACT` are left,
    p is exact: the share of all 2^n flips. Else `FLIPS` are drawn, and the one that was found
    counts among them: p = (1 + those as far from zero) / (1 + `FLIPS`). No difference gives 1.

    Args:
        differences: (P, Q) float64, a row a pair of rankings, of every query.
        units: (Q,) int64, the unit of each query, numbered from 0; units are flipped as a whole.
        seed: of the draws, which all pairs share.
    """
    totals = np.stack([np.bincount(units, weights=row) for row in differences]).astype(np.float64)
    reach = ROUNDING * np.abs(totals).sum(axis=1)
    totals[np.abs(totals) <= reach[:, None]] = 0.0
    found = np.abs(totals.sum(axis=1)) - reach
    p = np.ones(len(totals))
    drawn = []
    for pair, row in enumerate(totals):
        differing = row[row != 0.0]
        if len(differing) > MOST_EXACT:
            drawn.append(pair)
        elif len(differing):
            p[pair] = float(np.mean(np.abs(_all_flips(differing)) >= found[pair]))
    if drawn:
        far = _as_far(totals[drawn], found[drawn], seed)
        p[drawn] = (1 + far) / (1 + FLIPS)
    return p


def _all_flips(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum (2^n,) of n values under every choice of signs."""
    sums = np.zeros(1)
    for value in totals:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _as_far(
    totals: NDArray[np.float64], found: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """Return how many drawn flips are as far from zero as what was found, (P,).

    A flip has a bit of `default_rng(seed)` for each unit, in words of 64: the same bits whatever
    the size of a step.
    """
    generator, count = np.random.default_rng(seed), totals.shape[1]
    width = (count + 63) // 64
    step = max(1, FLIPPED_AT_ONCE // count)
    far = np.zeros(len(totals), np.int64)
    for first in range(0, FLIPS, step):
        rows = min(step, FLIPS - first)
        words = generator.integers(2**64, size=(rows, width), dtype=np.uint64).astype("<u8")
        keeps_sign = np.unpackbits(words.view(np.uint8), axis=1, count=count)
        sums = 2.0 * (keeps_sign.astype(np.float64) @ totals.T) - totals.sum(axis=1)
        far += (np.abs(sums) >= found).sum(axis=0)
    return far


def holm(p: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return p values corrected for how many there are (Holm 1979), in their order.

    The least is multiplied by their number m, the next by m - 1, and so on; none is corrected to
    less than a smaller one, nor to more than 1. Among rankings without differences, the chance to
    call even one difference significant then stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in corrected]
