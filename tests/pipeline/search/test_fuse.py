import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.search.fuse import fuse, lift_bound, map_similarity
from lamella.schemas.query import FusionSpec, LayerMap
from tests import reference

unit = st.floats(0.0, 1.0)


def two_layers(t: float = 0.2, p: float = 0.45) -> FusionSpec:
    return FusionSpec(layers=(LayerMap(layer="high", t=t, p=p), LayerMap(layer="low")))


def test_map_is_worked_by_hand() -> None:
    # p = 0.5 and t = 0.2: 0.2 + 0.8 * sqrt((0.4 - 0.2) / 0.8) = 0.2 + 0.8 * 0.5 = 0.6
    mapped = map_similarity(np.array([0.0, 0.1, 0.2, 0.4, 1.0]), 0.2, 0.5)
    np.testing.assert_allclose(mapped, [0.0, 0.1, 0.2, 0.6, 1.0], rtol=0, atol=1e-15)


def test_map_keeps_t_and_the_limits_of_p() -> None:
    values = np.array([0.1, 0.2, 0.2000001, 0.9, 1.0])
    assert map_similarity(values, 0.2, 0.0).tolist() == [0.1, 0.2, 1.0, 1.0, 1.0]
    assert map_similarity(values, 0.2, 1.0).tolist() == values.tolist()
    assert map_similarity(values, 1.0, 0.45).tolist() == values.tolist()


@pytest.mark.parametrize(("t", "lift", "where"), [(0.2, 0.22894, 0.3873), (0.4, 0.17170, 0.5405)])
def test_lift_is_largest_at_s_star_where_the_slope_is_one(
    t: float, lift: float, where: float
) -> None:
    grid = np.linspace(0.0, 1.0, 200_001)
    lifts = map_similarity(grid, t, 0.45) - grid
    assert lift_bound(t, 0.45) == pytest.approx(lift, abs=5e-6)
    assert lifts.max() == pytest.approx(lift_bound(t, 0.45), abs=1e-9)
    # S* = t + (1 - t) * p ** (1 / (1 - p))
    star = t + (1 - t) * 0.45 ** (1 / 0.55)
    assert star == pytest.approx(where, abs=5e-5)
    assert grid[lifts.argmax()] == pytest.approx(star, abs=1e-4)


def test_an_image_outside_the_top_of_the_high_layer_wins() -> None:
    # F(.15, .70) = .15 + .70 = .85; F(.50, .10) = .2 + .8 * (.3 / .8) ** .45 + .10 = .8145
    scores = fuse(np.array([[0.15, 0.50], [0.70, 0.10]]), two_layers())
    np.testing.assert_allclose(scores, [0.85, 0.81452], atol=5e-6)


@pytest.mark.parametrize(("error", "becomes"), [(1e-3, 0.040), (1e-7, 6e-4)])
def test_an_error_just_above_t_grows(error: float, becomes: float) -> None:
    # (1 - t) ** (1 - p) * e ** p
    grown = map_similarity(np.array(0.2 + error), 0.2, 0.45) - 0.2
    assert float(grown) == pytest.approx(becomes, rel=0.05)


@given(st.lists(unit, min_size=1, max_size=9), unit, unit)
def test_map_is_the_plain_one_at_every_place(values: list[float], t: float, p: float) -> None:
    mapped = map_similarity(np.array(values), t, p)
    assert mapped.tolist() == pytest.approx([reference.f(s, t, p) for s in values], abs=1e-12)
    for place, value in enumerate(values):
        assert map_similarity(np.array([value]), t, p)[0] == mapped[place]


@given(unit, unit, unit, unit)
def test_fused_score_lies_between_sum_and_sum_with_lift(
    high: float, low: float, t: float, p: float
) -> None:
    score = float(fuse(np.array([high, low]), two_layers(t, p)))
    assert high + low - 1e-12 <= score <= high + low + lift_bound(t, p) + 1e-12


def test_direct_fusion_is_the_plain_sum() -> None:
    values = np.array([[0.3, 0.9], [0.5, 0.25]])
    assert fuse(values, two_layers().direct()).tolist() == [0.8, 1.15]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="t and p"):
        map_similarity(np.zeros(1), 1.5, 0.5)
    with pytest.raises(ValueError, match="2 layers"):
        fuse(np.zeros((3, 1)), two_layers())
