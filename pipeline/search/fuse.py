"""The fused score: the weighted sum of mapped similarities (Yu et al. 2017, equation 3)."""

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.compiled import compiled
from lamella.schemas.query import FusionSpec


def map_similarity(similarity: NDArray[np.float64], t: float, p: float) -> NDArray[np.float64]:
    """Return f(S) = t + (1 - t) * ((S - t) / (1 - t)) ** p where S > t, and S elsewhere.

    t = 1 and p = 1 leave S as it is; p = 0 gives 1 above t. Values are mapped one at a time:
    vectorised powers may give other bits at other places of an array.

    Args:
        similarity: any shape, float64, in [0, 1].
        t: the threshold, in [0, 1].
        p: the power, in [0, 1].

    Raises:
        ValueError: t or p outside [0, 1].
    """
    _check(t, p)
    flat = np.array(similarity, dtype=np.float64, order="C", copy=True)
    if t < 1.0 and p < 1.0:
        _map_in_place(flat.reshape(-1), t, p)
    return flat


def fuse(similarities: NDArray[np.float64], spec: FusionSpec) -> NDArray[np.float64]:
    """Return F = sum of w_i f_i(S_i), added in the order of the layers.

    Args:
        similarities: (C, ...) float64, layers as in `spec`, high to low.
        spec: C layers with their maps.

    Returns:
        (...) float64.

    Raises:
        ValueError: the number of layers differs.
    """
    if len(similarities) != len(spec.layers):
        raise ValueError(
            f"one array of similarities a layer; got {len(similarities)} for "
            f"{len(spec.layers)} layers"
        )
    total = np.zeros(similarities.shape[1:], dtype=np.float64)
    for values, layer in zip(similarities, spec.layers, strict=True):
        total += layer.weight * map_similarity(values, layer.t, layer.p)
    return total


def lift_bound(t: float, p: float) -> float:
    """Return the largest f(S) - S: (1 - t) * (p ** (p / (1 - p)) - p ** (1 / (1 - p))).

    The maximum is at S* = t + (1 - t) * p ** (1 / (1 - p)), where the slope of f is 1. So sum S_i
    <= F <= sum S_i + sum of lift bounds. For p = 0 it is the supremum, 1 - t.

    Raises:
        ValueError: t or p outside [0, 1].
    """
    _check(t, p)
    if t == 1.0 or p == 1.0:
        return 0.0
    return float((1.0 - t) * (p ** (p / (1.0 - p)) - p ** (1.0 / (1.0 - p))))


def _check(t: float, p: float) -> None:
    if not (0.0 <= t <= 1.0 and 0.0 <= p <= 1.0):
        raise ValueError(f"t and p must lie in [0, 1]; got t = {t:g}, p = {p:g}")


@compiled
def _map_in_place(values: NDArray[np.float64], t: float, p: float) -> None:
    for i in range(values.size):
        if values[i] > t:
            values[i] = t + (1.0 - t) * ((values[i] - t) / (1.0 - t)) ** p
