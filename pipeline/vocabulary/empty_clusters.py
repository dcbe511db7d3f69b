"""Draw far rows as new places of empty words: a weighted sample that tasks can draw and join.

Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): the rows with the
largest log(u) / w are a sample without replacement with weights w. The weight here is the squared
distance to the row's word, as in k-means++.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Float64s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.vocabulary.assign import Assignment


@dataclass(frozen=True)
class Spares:
    """Distinct far descriptors in falling order of their keys.

    Attributes:
        keys: float64 (r,), log(u) / squared distance, falling.
        words: uint32 (r,), the word that each had.
        descriptors: float32 (r, D), no two equal.
    """

    keys: Float64s
    words: npt.NDArray[np.uint32]
    descriptors: Float32s

    def __post_init__(self) -> None:
        if not len(self.keys) == len(self.words) == len(self.descriptors):
            raise ValueError(
                f"one key and one word a spare; got {len(self.keys)} keys, {len(self.words)} "
                f"words, {len(self.descriptors)} descriptors"
            )

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def none(cls, dimensions: int) -> "Spares":
        """Return no spares."""
        return cls(
            np.empty(0, np.float64), np.empty(0, np.uint32), np.empty((0, dimensions), np.float32)
        )


def draw_spares(
    descriptors: Float32s, assignment: Assignment, uniforms: Float64s, limit: int
) -> Spares:
    """Return up to `limit` distinct descriptors, drawn by squared distance; none at distance 0.

    Args:
        descriptors: (n, D) float32, and assignment: their words and squared distances, the weights.
        uniforms: (n,) float64 in [0, 1), the random number of each row.
        limit: the most spares.
    """
    if limit == 0:
        return Spares.none(descriptors.shape[1])
    keys = sampling_keys(1.0 - uniforms, assignment.squared_distances)
    return _best_distinct(keys, assignment.words, descriptors, limit)


def join_spares(spares: Sequence[Spares], limit: int) -> Spares:
    """Return the best of several tasks' spares: by key, then in the order given; none twice.

    Raises:
        ValueError: nothing to join.
    """
    if not spares:
        raise ValueError("at least one set of spares is joined; got none")
    keys = np.concatenate([one.keys for one in spares])
    words = np.concatenate([one.words for one in spares])
    return _best_distinct(keys, words, np.concatenate([one.descriptors for one in spares]), limit)


def _best_distinct(
    keys: Float64s, words: npt.NDArray[np.uint32], descriptors: Float32s, limit: int
) -> Spares:
    order = np.argsort(-keys, kind="stable")
    chosen = distinct_rows(descriptors, order[keys[order] > -np.inf], limit)
    return Spares(keys[chosen], words[chosen], descriptors[chosen])


def distinct_rows(
    descriptors: Float32s, order: npt.NDArray[np.int64], limit: int
) -> npt.NDArray[np.int64]:
    """Return the first `limit` rows of an order that differ from all before them."""
    chosen: list[int] = []
    seen: set[bytes] = set()
    for row in order.tolist():
        if len(chosen) == limit:
            break
        value = (descriptors[row] + np.float32(0)).tobytes()  # -0 becomes 0: equal is equal
        if value not in seen:
            seen.add(value)
            chosen.append(row)
    return np.array(chosen, np.int64)


@compiled
def sampling_keys(uniforms: Float64s, weights: Float64s) -> Float64s:
    """Return log(u) / w, float64 (n,), for u in (0, 1]; -inf where the weight is 0."""
    keys = np.full(uniforms.shape[0], -np.inf)
    for row in range(uniforms.shape[0]):
        if weights[row] > 0:
            keys[row] = _logarithm(uniforms[row]) / weights[row]
    return keys


@compiled
def _logarithm(value: float) -> float:
    """Return log(value) for 0 < value <= 1 by its series.

    log(m 2^e) = e log 2 + 2 (s + s^3 / 3 + s^5 / 5 + ...), s = (m - 1) / (m + 1), with m in
    [0.5, 1]. C libraries choose their code by the processor, and results differ in the last bit.
    """
    exponent = 0
    while value < 0.5:
        value *= 2.0
        exponent += 1
    ratio = (value - 1.0) / (value + 1.0)
    square = ratio * ratio
    total = 0.0
    for odd in range(35, 0, -2):
        total = total * square + 1.0 / odd
    return 2.0 * ratio * total - exponent * 0.6931471805599453
