"""The bootstrap: worked by hand, against a loop, and by how often its intervals are right."""

import numpy as np
import pytest

from lamella.pipeline.evaluate import intervals
from lamella.pipeline.evaluate.intervals import (
    expanded_tail,
    percentile_interval,
    resample,
    resampled_means,
)
from lamella.schemas.report import Gain, Interval


def gain(low: float, high: float, p: float | None = None) -> Gain:
    interval = Interval(low=low, high=high)
    return Gain(
        fusion="mapped",
        over="fc",
        difference=(low + high) / 2,
        interval=interval,
        p=p,
        corrected_p=p,
    )


def test_two_units_have_the_three_means_of_their_draws() -> None:
    # unit 0 has one query of score 1; unit 1 has two of 2 and 4. Drawn twice each, or both:
    # 0 0: (1 + 1) / 2 = 1;  1 1: (6 + 6) / 4 = 3;  0 1: (1 + 6) / 3 = 7 / 3
    means = resampled_means(np.array([[1.0, 2.0, 4.0]]), np.array([0, 1, 1]), 4000, seed=5)[0]
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [1.0, 7 / 3, 3.0]
    # each pair of draws is as likely as another: a quarter, a half, a quarter
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_resamples_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    units = np.array([0, 0, 1, 2, 2, 2, 3])
    scores = rng.random((3, 7))
    expected = np.empty((3, 50))
    for column, drawn in enumerate(np.random.default_rng(9).integers(4, size=(50, 4))):
        queries = [query for unit in drawn for query in np.flatnonzero(units == unit)]
        expected[:, column] = scores[:, queries].mean(axis=1)
    for at_once in (1, 7 * 4, 10**6):
        monkeypatch.setattr(intervals, "DRAWN_AT_ONCE", at_once)
        assert resampled_means(scores, units, 50, seed=9) == pytest.approx(expected)


def test_all_rankings_are_scored_on_the_same_draws() -> None:
    scores = np.random.default_rng(2).random(40)
    drawn = resample(np.stack([scores, scores + 0.25]), np.arange(40))
    assert drawn is not None
    # .25 better on every query: the scores vary, their difference does not
    assert drawn.difference(1, 0) == Interval(low=0.25, high=0.25)
    assert drawn.interval(0).high - drawn.interval(0).low > 0.1
    again = resample(np.stack([scores, scores + 0.25]), np.arange(40))
    assert again is not None
    assert (again.means == drawn.means).all()


@pytest.mark.parametrize(
    ("units", "t"), [(10, 2.262157), (11, 2.228139), (30, 2.045230), (1000, 1.962341)]
)
def test_the_tail_is_that_of_t_as_tabled(units: int, t: float) -> None:
    from statistics import NormalDist

    expected = NormalDist().cdf(-t * (units / (units - 1)) ** 0.5)
    assert expanded_tail(units) == pytest.approx(expected, rel=2e-3)
    assert expanded_tail(10**9) == pytest.approx(0.025)


def test_the_ends_lie_between_resampled_means_by_their_share() -> None:
    # of 0, 1, ... 1000 the share x is below 1000 x; 11 units cut off Phi(-2.3369) = .00972
    found = percentile_interval(np.arange(1001.0) / 1000, 11)
    assert (found.low, found.high) == pytest.approx((0.00972, 0.99028), abs=1e-5)


def test_rounding_does_not_keep_a_difference_from_zero() -> None:
    groups = np.arange(60) // 3
    one = np.tile([0.1, 0.2, 0.3], 20)
    other = np.tile([0.3, 0.1, 0.2], 20)  # the same sums, added in another order
    drawn = resample(np.stack([one, other]), groups)
    assert drawn is not None
    assert drawn.difference(0, 1) == Interval(low=0.0, high=0.0)


def test_groups_are_drawn_from_ten_on_single_queries_below_and_nothing_below_ten() -> None:
    scores = np.random.default_rng(4).random((1, 40))
    many, few = resample(scores, np.arange(40) // 4), resample(scores, np.arange(40) // 5)
    assert many is not None
    assert few is not None
    assert (many.bootstrap.unit, many.bootstrap.units) == ("group", 10)
    assert (few.bootstrap.unit, few.bootstrap.units) == ("query", 40)
    assert resample(scores[:, :9], np.arange(9)) is None


def test_queries_that_score_alike_count_as_one() -> None:
    of_objects = np.random.default_rng(6).random(20)
    alone = resample(of_objects[None], np.arange(20))
    repeated = resample(np.repeat(of_objects, 5)[None], np.repeat(np.arange(20), 5))
    assert alone is not None
    assert repeated is not None
    assert repeated.means == pytest.approx(alone.means)  # five times the queries, no news
    assert repeated.interval(0) == alone.interval(0)


@pytest.mark.parametrize(("count", "most_misses"), [(11, 0.09), (40, 0.08)])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(
    count: int, most_misses: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landmarks differ, their five queries hardly; plain resampling of queries would miss often."""
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)
    rng, groups, misses, plain_misses = np.random.default_rng(8), np.repeat(range(count), 5), 0, 0
    for _ in range(300):
        scores = rng.uniform(0.3, 0.7, count)[groups] + rng.normal(0.0, 0.05, len(groups))
        for grouped in (True, False):
            drawn = resample(scores[None], groups if grouped else np.arange(len(groups)))
            assert drawn is not None
            found = drawn.interval(0)
            missed = not found.low <= 0.5 <= found.high
            misses, plain_misses = (
                misses + (missed and grouped),
                plain_misses + (missed and not grouped),
            )
    assert 0.02 <= misses / 300 <= most_misses
    assert plain_misses / 300 > 0.2


def test_a_difference_is_a_gain_only_where_its_interval_excludes_zero() -> None:
    assert gain(0.01, 0.05).verdict == "gain"
    assert gain(-0.05, -0.01).verdict == "loss"
    for low, high in ((-0.01, 0.05), (0.0, 0.05), (-0.05, 0.0), (0.0, 0.0)):
        assert gain(low, high).verdict == "no difference"


def test_a_difference_is_a_gain_only_where_its_corrected_p_is_small_too() -> None:
    assert gain(0.01, 0.05, 0.05).verdict == "gain"
    assert gain(0.01, 0.05, 0.051).verdict == "no difference"
    assert gain(-0.05, -0.01, 0.001).verdict == "loss"
    assert gain(-0.01, 0.05, 0.001).verdict == "no difference"


def test_pairs_are_tested_by_the_units_that_are_drawn() -> None:
    rng = np.random.default_rng(8)
    one = np.repeat(rng.random(12), 5)
    other = one + np.repeat(rng.normal(0.03, 0.03, 12), 5)
    drawn = resample(np.stack([one, other, one]), np.repeat(np.arange(12), 5))
    assert drawn is not None
    (p, corrected), (same, _) = drawn.tests([(1, 0), (2, 0)])
    # 12 objects, of whose 2^12 flips all are tried; 60 queries flipped singly would give less
    assert p * 2**12 == round(p * 2**12)
    assert corrected == 2 * p
    assert same == 1.0
    assert drawn.tests([]) == []
