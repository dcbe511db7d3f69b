"""How often intervals hold the true mean, and how often the test finds what is not there.

Percentile, expanded percentile (ours) and BCa (Efron 1987) on the kinds of scores that occur. All
three read the same resampled means, so they differ by their rule alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.evaluate.intervals import expanded_tail, resampled_means
from lamella.pipeline.evaluate.significance import randomisation_tests
from tests.benchmarks.record import write_json

pytestmark = pytest.mark.bench

Draw = Callable[[np.random.Generator], tuple[NDArray[np.float64], NDArray[np.int64]]]

ROUNDS, RESAMPLES, TRUE_MEAN_ROUNDS = 2000, 2000, 20_000
NORMAL = NormalDist()


def precision(groups: int, queries: int, middle: float = 0.5) -> Draw:
    """Average precision: objects differ much, their queries a little; piled up near 0 and 1."""

    def draw(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        units = np.repeat(np.arange(groups), queries)
        logit = middle + rng.normal(0, 1.8, groups)[units] + rng.normal(0, 0.7, len(units))
        return 1 / (1 + np.exp(-logit)), units

    return draw


def uneven(groups: int) -> Draw:
    """Average precision where objects have 1 to 9 queries, and those of many are easier."""

    def draw(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        sizes = rng.integers(1, 10, groups)
        units = np.repeat(np.arange(groups), sizes)
        logit = 0.2 * sizes[units] - 1 + rng.normal(0, 1.5, groups)[units]
        return 1 / (1 + np.exp(-logit - rng.normal(0, 0.7, len(units)))), units

    return draw


def four_of_four(objects: int, easy: float) -> Draw:
    """N-S: most objects find all four of their pictures, from each of the four; a few lose some."""

    def draw(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        units = np.repeat(np.arange(objects), 4)
        hard = rng.random(objects) >= easy
        lost = rng.binomial(3, np.where(hard[units], 0.35, 0.0))
        return np.asarray(4.0 - lost, np.float64), units.astype(np.int64)

    return draw


def difference(draw: Draw, kept: float) -> Draw:
    """The difference of two rankings of one quality, which agree on a share of the objects."""

    def both(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        one, units = draw(rng)
        differ = rng.random(units.max() + 1) >= kept
        other = draw(rng)[0]
        return np.where(differ[units], other[: len(one)] - one, 0.0), units

    return both


KINDS: dict[str, Draw] = {
    "AP, 11 landmarks of 5 queries": precision(11, 5),
    "AP, 20 objects of 3 queries": precision(20, 3),
    "AP, 100 single queries": precision(100, 1),
    "AP near 1, 20 objects of 3": precision(20, 3, middle=3.0),
    "AP, 25 objects of 1 to 9 queries": uneven(25),
    "N-S 3.9, 25 objects of 4": four_of_four(25, 0.90),
    "N-S 3.9, 100 objects of 4": four_of_four(100, 0.90),
    "N-S 3.98, 400 objects of 4": four_of_four(400, 0.98),
    "difference of AP, 11 landmarks": difference(precision(11, 5), 0.0),
    "difference of AP, half of 20 objects": difference(precision(20, 3), 0.5),
    "difference of N-S, 100 objects": difference(four_of_four(100, 0.90), 0.0),
    "difference of N-S, 400 objects": difference(four_of_four(400, 0.98), 0.0),
}


@dataclass(frozen=True)
class Found:
    """The ends of an interval by each rule."""

    percentile: NDArray[np.float64]
    expanded: NDArray[np.float64]
    bca: NDArray[np.float64]


def intervals(scores: NDArray[np.float64], units: NDArray[np.int64], seed: int) -> Found:
    means = resampled_means(scores[None], units, RESAMPLES, seed)[0]
    tail = expanded_tail(int(units.max()) + 1)
    return Found(
        np.quantile(means, [0.025, 0.975]),
        np.quantile(means, [tail, 1 - tail]),
        bca(scores, units, means),
    )


def bca(
    scores: NDArray[np.float64], units: NDArray[np.int64], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the bias-corrected and accelerated interval; ties with the mean count half."""
    mean = scores.mean()
    below = np.mean(means < mean) + np.mean(means == mean) / 2
    if not 0 < below < 1:
        return np.quantile(means, [0.025, 0.975])
    bias = NORMAL.inv_cdf(float(below))
    totals, sizes = np.bincount(units, weights=scores), np.bincount(units)
    without = (totals.sum() - totals) / (sizes.sum() - sizes)
    off = without.mean() - without
    spread = (off**2).sum() ** 1.5
    acceleration = (off**3).sum() / (6 * spread) if spread else 0.0
    shares = []
    for z in (NORMAL.inv_cdf(0.025), NORMAL.inv_cdf(0.975)):
        moved = bias + (bias + z) / (1 - acceleration * (bias + z))
        shares.append(NORMAL.cdf(moved))
    return np.quantile(means, shares)


def test_coverage_and_false_alarms() -> None:
    found: dict[str, dict[str, float]] = {}
    for kind, draw in KINDS.items():
        rng = np.random.default_rng(1)
        held = {"percentile": 0, "expanded": 0, "bca": 0}
        width = dict.fromkeys(held, 0.0)
        if kind.startswith("difference"):
            true = 0.0
        else:
            drawn = [draw(rng)[0] for _ in range(TRUE_MEAN_ROUNDS)]
            true = sum(float(row.sum()) for row in drawn) / sum(len(row) for row in drawn)
        alarms = 0
        for number in range(ROUNDS):
            scores, units = draw(rng)
            ends = intervals(scores, units, number)
            for name in held:
                low, high = getattr(ends, name)
                held[name] += bool(low - 1e-12 <= true <= high + 1e-12)
                width[name] += float(high - low)
            if kind.startswith("difference"):
                alarms += bool(randomisation_tests(scores[None], units, number)[0] <= 0.05)
        found[kind] = {name: count / ROUNDS for name, count in held.items()}
        found[kind] |= {f"{name} width": total / ROUNDS for name, total in width.items()}
        if kind.startswith("difference"):
            found[kind]["false alarms"] = alarms / ROUNDS
        print(kind, {name: round(value, 4) for name, value in found[kind].items()}, flush=True)
    write_json("intervals.json", found)
    assert all(each.get("false alarms", 0.0) <= 0.06 for each in found.values())
    differences = [each for kind, each in found.items() if kind.startswith("difference")]
    assert all(each["expanded"] >= each["bca"] for each in differences)
    assert np.mean([each["expanded"] for each in found.values()]) >= 0.92
