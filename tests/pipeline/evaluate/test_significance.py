"""The randomisation test: worked by hand, against every flip and against scipy; Holm by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.evaluate import significance
from lamella.pipeline.evaluate.significance import holm, randomisation_tests


def p_of(differences: list[float], units: list[int] | None = None) -> float:
    numbered = np.arange(len(differences)) if units is None else np.array(units)
    return float(randomisation_tests(np.array([differences]), numbered)[0])


def test_three_queries_have_eight_flips() -> None:
    # sums: +-3 +-2 +-1 = 6, 4, 2, 0, 0, -2, -4, -6; of these 6 and -6 are as far as 6
    assert p_of([3.0, 2.0, 1.0]) == 2 / 8
    # 3 + 2 - 1 = 4: as far are 6, 4, -4 and -6
    assert p_of([3.0, 2.0, -1.0]) == 4 / 8


def test_a_group_is_flipped_as_a_whole() -> None:
    # groups of 3 and 2: sums 5, 1, -1, -5
    assert p_of([1.0, 2.0, 2.0], [0, 0, 1]) == 2 / 4


def test_units_without_a_difference_change_nothing() -> None:
    assert p_of([3.0, 0.0, 2.0, 0.0, 1.0]) == p_of([3.0, 2.0, 1.0])
    assert p_of([0.0] * 40) == 1.0
    # 1 - 1 of a group is none, though rounding leaves 5.6e-17
    assert p_of([0.1 + 0.2, -0.3, 0.5], [0, 0, 1]) == p_of([0.5])


def test_rounding_does_not_hide_flips_that_are_as_far() -> None:
    # .1 + .2 and .3 are as far, and so all flips of the three that give .6 or 0
    assert p_of([0.1, 0.2, -0.3]) == 1.0


def test_more_units_are_drawn_and_the_one_found_counts() -> None:
    # 30 times the same sign: no draw of 10,000 among 2^30 is as far, so p = 1 / 10,001
    assert p_of([1.0] * 30) == 1 / 10_001


@pytest.mark.parametrize("count", [14, 16])
def test_draws_agree_with_every_flip(count: int) -> None:
    values = np.random.default_rng(count).normal(0.2, 1.0, count)
    flips = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=count)]
    exact = np.mean(np.array(flips) >= abs(values.sum()) - 1e-12)
    # a binomial of 10,000 draws: four standard errors
    assert p_of(values.tolist()) == pytest.approx(exact, abs=4 * np.sqrt(exact / 10_000))


@pytest.mark.parametrize("count", [8, 12])
def test_p_is_that_of_scipy(count: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(count)
    one, other = rng.random(count), rng.random(count)
    peer = stats.permutation_test(
        (one, other),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert p_of((one - other).tolist()) == pytest.approx(peer.pvalue, abs=1e-12)


def test_p_does_not_depend_on_steps_or_on_the_other_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    differences, units = rng.normal(0.05, 0.4, (4, 150)), np.arange(150) // 2
    whole = randomisation_tests(differences, units)
    monkeypatch.setattr(significance, "FLIPPED_AT_ONCE", 75 * 333)
    assert (randomisation_tests(differences, units) == whole).all()
    assert randomisation_tests(differences[2:3], units)[0] == whole[2]
    assert 0.0 < whole.min() < whole.max() < 1.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
def test_p_has_no_side_and_is_never_zero(values: list[int]) -> None:
    p = p_of([float(value) for value in values])
    assert p == p_of([-float(value) for value in values])
    assert 2 ** (1 - len(values)) <= p <= 1.0


def test_rankings_of_one_quality_are_called_different_as_often_as_allowed() -> None:
    rng, alarms = np.random.default_rng(5), 0
    for number in range(400):
        differences = (rng.random((1, 25)) ** 3 - rng.random((1, 25)) ** 3).round(1)
        alarms += randomisation_tests(differences, np.arange(25), seed=number)[0] <= 0.05
    assert 0.02 <= alarms / 400 <= 0.08  # .05, give or take three standard errors


def test_holm_by_hand() -> None:
    # sorted: .01 x 4 = .04, .02 x 3 = .06, .03 x 2 = .06, .5 x 1 = .5
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    # .02 x 3 = .06; then .025 x 2 = .05 would be less: .06 stays
    assert holm([0.02, 0.025, 0.9]) == pytest.approx([0.06, 0.06, 0.9])
    assert holm([0.4, 0.7]) == pytest.approx([0.8, 0.8])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
