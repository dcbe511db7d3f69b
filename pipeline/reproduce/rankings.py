"""What is scored of a network: each layer alone, pairs and triples of layers, and their sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from lamella.pipeline.evaluate.grid import SWEPT_P, SWEPT_T, JointGrid, grid_of, joint_grid
from lamella.pipeline.evaluate.points import Points
from lamella.pipeline.jobs.resolve import resolve_fusion
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.job import FusionSettings
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import LayerScale

MOST_FUSED = 3

GRID = tuple((t, p) for t in SWEPT_T for p in SWEPT_P)
"""The points of every pair's grid, in the order of its scores; (.2, .45) is one of them."""


@dataclass(frozen=True)
class Fused:
    """Two or three layers: how they are fused, and the settings that are swept.

    Attributes:
        layers: from high to low.
        mapped: with the paper's maps.
        scaled: the same maps and label-free weights; None without a calibration.
        swept: the points of the grid, or of the joint grid of three layers.
    """

    layers: tuple[str, ...]
    mapped: FusionSpec
    scaled: FusionSpec | None
    swept: tuple[FusionSpec, ...]

    @property
    def specs(self) -> tuple[FusionSpec, ...]:
        """All that is scored, in this order: direct, mapped, scaled if any, swept."""
        scaled = () if self.scaled is None else (self.scaled,)
        return (self.mapped.direct(), self.mapped, *scaled, *self.swept)


@dataclass(frozen=True)
class Rankings:
    """All that is scored of a network from one pass of similarities.

    Attributes:
        layers: from high to low, as the tables of similarities.
        points: each layer alone, then the `specs` of each of `fused`.
    """

    layers: tuple[str, ...]
    fused: tuple[Fused, ...]
    points: Points


def rankings_of(layers: Sequence[LayerSpec], calibration: tuple[LayerScale, ...] = ()) -> Rankings:
    """Return the rankings of some layers: all pairs and triples with at most one global layer.

    Two global layers of one network, such as fc1 and fc2, say the same thing, and the paper never
    fuses them.

    Args:
        layers: from high to low.
        calibration: of the index, for label-free weights.
    """
    names = tuple(layer.name for layer in layers)
    found = []
    for count in range(2, MOST_FUSED + 1):
        for chosen in combinations(layers, count):
            if sum(layer.kind == "global" for layer in chosen) < 2:
                found.append(_fused(chosen, calibration))
    alone = [FusionSpec.model_validate({"layers": [{"layer": name}]}) for name in names]
    specs = [*alone, *(spec for each in found for spec in each.specs)]
    return Rankings(names, tuple(found), Points.of(names, specs))


def _fused(layers: tuple[LayerSpec, ...], calibration: tuple[LayerScale, ...]) -> Fused:
    mapped = resolve_fusion(layers, FusionSettings())
    scaled = None
    if calibration:
        scaled = resolve_fusion(layers, FusionSettings(preset="scaled"), calibration)
    grid: JointGrid = joint_grid(mapped)
    swept = grid.points or tuple(spec for _, _, spec in grid_of(mapped))
    return Fused(tuple(layer.name for layer in layers), mapped, scaled, swept)
