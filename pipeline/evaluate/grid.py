"""The settings that a sweep tries: the map of the highest layer, or those of all layers at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from lamella.schemas.query import FusionSpec, LayerMap

SWEPT_T = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SWEPT_P = (0.05, 0.15, 0.3, 0.45, 0.6, 0.8)

JOINT_T = (0.0, 0.2, 0.4, 0.6, 0.8)
JOINT_P = (0.15, 0.45, 0.8)
"""The axes of each map where several are swept at once: coarser, for points multiply."""

MOST_POINTS = 1_000
"""The most points of a joint grid. Each costs 8 bytes a query, whatever the number of pictures."""

GridPoint = tuple[float, float, FusionSpec]
"""t and p of the highest layer, and the fusion that has them."""


@dataclass(frozen=True)
class JointGrid:
    """Settings of the maps of all layers but the lowest.

    Attributes:
        points: in the order of t and p of the highest layer, then of the next.
        left_out: points of the full product that a bound of their number left out.
    """

    points: tuple[FusionSpec, ...]
    left_out: int


def grid_of(
    fusion: FusionSpec, t: Sequence[float] = SWEPT_T, p: Sequence[float] = SWEPT_P
) -> tuple[GridPoint, ...]:
    """Return the grid over (t, p) of the highest layer; none with one layer.

    The weights and the other layers' maps stay, so points whose t lies above the second layer's
    are left out. The setting in use joins the axes where it is a map at all.
    """
    layers = fusion.layers
    used = [(layers[0].t, layers[0].p)] if is_map(layers[0]) else []
    return tuple(
        (at, power, FusionSpec(layers=(with_map(layers[0], at, power), *layers[1:])))
        for at, power in product(
            sorted({*t, *(each for each, _ in used)}), sorted({*p, *(each for _, each in used)})
        )
        if len(layers) > 1 and at <= layers[1].t
    )


def joint_grid(
    fusion: FusionSpec,
    t: Sequence[float] = JOINT_T,
    p: Sequence[float] = JOINT_P,
    most: int = MOST_POINTS,
) -> JointGrid:
    """Return the grid over the maps of all layers but the lowest; none with fewer than three.

    Every combination in which t does not fall from high to low, each layer's map from the same
    axes, and the setting in use. Weights stay. Where there would be more than `most` points,
    evenly spaced ones are taken, and the setting in use.

    Args:
        most: the most points, at least 2.
    """
    *mapped, lowest = fusion.layers
    if len(mapped) < 2:
        return JointGrid((), 0)
    every = list(_rising(len(mapped), sorted(set(t)), sorted(set(p))))
    used = tuple((layer.t, layer.p) for layer in mapped)
    if used not in every:
        every = sorted([*every, used])
    kept = every
    if len(every) > most:
        places = np.linspace(0, len(every) - 1, most - 1).round().astype(int).tolist()
        kept = sorted({*(every[place] for place in places), used})
    points = tuple(
        FusionSpec(
            layers=(*(with_map(layer, *m) for layer, m in zip(mapped, maps, strict=True)), lowest)
        )
        for maps in kept
    )
    return JointGrid(points, len(every) - len(kept))


def _rising(
    layers: int, t: Sequence[float], p: Sequence[float]
) -> Iterator[tuple[tuple[float, float], ...]]:
    """Yield the maps of some layers, t not falling, in order."""
    for maps in product(product(t, p), repeat=layers):
        if all(high[0] <= low[0] for high, low in pairwise(maps)):
            yield maps


def is_map(entry: LayerMap) -> bool:
    """Say whether a layer's similarity is changed at all."""
    return entry.t < 1.0 and entry.p < 1.0


def with_map(entry: LayerMap, t: float, p: float) -> LayerMap:
    """Return a layer with another map and the same weight."""
    return LayerMap(layer=entry.layer, t=t, p=p, weight=entry.weight)
