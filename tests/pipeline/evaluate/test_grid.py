"""The settings of a sweep: which points there are, in which order, and what a bound leaves out."""

import pytest

from lamella.pipeline.evaluate.grid import grid_of, joint_grid
from lamella.schemas.query import FusionSpec, LayerMap


def fusion(*maps: tuple[float, float], weight: float = 1.0) -> FusionSpec:
    """Return layers with these maps, and one below them."""
    layers = [LayerMap(layer=f"l{n}", t=t, p=p, weight=weight) for n, (t, p) in enumerate(maps)]
    return FusionSpec(layers=(*layers, LayerMap(layer="last")))


def maps_of(spec: FusionSpec) -> list[tuple[float, float]]:
    return [(layer.t, layer.p) for layer in spec.layers[:-1]]


def test_a_joint_grid_has_every_pair_of_maps_whose_t_does_not_fall() -> None:
    # used: (0, .5) and (.5, .5), on the axes already
    grid = joint_grid(fusion((0.0, 0.5), (0.5, 0.5)), t=(0.0, 0.5), p=(0.5,))
    assert [maps_of(spec) for spec in grid.points] == [
        [(0.0, 0.5), (0.0, 0.5)],
        [(0.0, 0.5), (0.5, 0.5)],
        [(0.5, 0.5), (0.5, 0.5)],
    ]
    assert grid.left_out == 0


def test_the_setting_in_use_is_a_point_of_its_own() -> None:
    grid = joint_grid(fusion((0.2, 0.45), (0.4, 0.45), weight=2.0), t=(0.0, 0.5), p=(0.5,))
    assert len(grid.points) == 4
    assert [(0.2, 0.45), (0.4, 0.45)] in [maps_of(spec) for spec in grid.points]
    assert {layer.weight for spec in grid.points for layer in spec.layers[:-1]} == {2.0}


@pytest.mark.parametrize("most", [2, 7, 50])
def test_a_bound_keeps_the_setting_in_use_and_counts_what_it_leaves_out(most: int) -> None:
    wanted = fusion((0.2, 0.45), (0.4, 0.45), (0.4, 0.45))
    every, grid = joint_grid(wanted), joint_grid(wanted, most=most)
    assert len(every.points) == 35 * 27  # 3 of 5 t with repetition, 3 p each
    assert len(grid.points) <= most
    assert len(grid.points) + grid.left_out == len(every.points)
    assert wanted in grid.points
    assert set(map(str, grid.points)) <= set(map(str, every.points))


@pytest.mark.parametrize("maps", [(), ((0.2, 0.45),)])
def test_fewer_than_three_layers_have_no_joint_grid(maps: tuple[tuple[float, float], ...]) -> None:
    assert joint_grid(fusion(*maps)).points == ()


def test_two_layers_have_the_grid_of_the_highest_one() -> None:
    points = grid_of(fusion((0.2, 0.45)), t=(0.0,), p=(0.8,))
    assert [(t, p) for t, p, _ in points] == [(0.0, 0.45), (0.0, 0.8), (0.2, 0.45), (0.2, 0.8)]
    assert grid_of(FusionSpec(layers=(LayerMap(layer="a"),))) == ()
