"""Far rows on which empty words are put: a weighted sample that tasks can draw apart and join.

Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): the rows with the
largest log(u) / w are a sample without replacement with weights w. The weight here is the squared
distance to the row's word, as in k-means++.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.vocabulary.compare import Float32s, Float64s
from pipeline.vocabulary.compiled import compiled


@dataclass(frozen=True)
class SampleKey:
    """What names a stream of random numbers: the seed of the spec, the round and the task.

    Raises:
        ValueError: a number is negative, the seed has over 64 bits or another over 32.
    """

    seed: int
    round: int = 0
    task: int = 0

    def __post_init__(self) -> None:
        limits = (self.seed, 1 << 64), (self.round, 1 << 32), (self.task, 1 << 32)
        if not all(0 <= number < limit for number, limit in limits):
            raise ValueError(f"a key holds a seed of 64 bits, a round and a task of 32; got {self}")

    def uniforms(self, rows: int) -> Float64s:
        """Return that many numbers in (0, 1], by the counter-based Philox generator."""
        words = np.array([self.seed, self.round << 32 | self.task], np.uint64)
        raw = np.random.Philox(key=words).random_raw(rows)
        return ((raw >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Spares:
    """Distinct far descriptors in falling order of their keys.

    Attributes:
        keys: float64 (r,), log(u) / squared distance, falling.
        descriptors: float32 (r, D), no two equal.
    """

    keys: Float64s
    descriptors: Float32s

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.descriptors):
            raise ValueError(
                f"one key a spare; got {len(self.keys)} keys, {len(self.descriptors)} descriptors"
            )

    def __len__(self) -> int:
        return len(self.keys)


def draw_spares(
    descriptors: Float32s, squared_distances: Float64s, key: SampleKey, limit: int
) -> Spares:
    """Return up to `limit` distinct descriptors, drawn by squared distance; none at distance 0.

    Args:
        descriptors: (n, D) float32.
        squared_distances: (n,) float64, the weights.
        key: names the random numbers; row i takes the i-th.
        limit: how many at most.
    """
    if limit == 0:
        return Spares(np.empty(0, np.float64), np.empty((0, descriptors.shape[1]), np.float32))
    keys = _sampling_keys(key.uniforms(len(descriptors)), squared_distances)
    return _best_distinct(keys, descriptors, limit)


def join_spares(spares: Sequence[Spares], limit: int) -> Spares:
    """Return the best of several tasks' spares: by key, then in the order given; none twice.

    Raises:
        ValueError: nothing to join.
    """
    if not spares:
        raise ValueError("at least one set of spares is joined; got none")
    keys = np.concatenate([one.keys for one in spares])
    return _best_distinct(keys, np.concatenate([one.descriptors for one in spares]), limit)


def _best_distinct(keys: Float64s, descriptors: Float32s, limit: int) -> Spares:
    chosen: list[int] = []
    seen: set[bytes] = set()
    for row in np.argsort(-keys, kind="stable").tolist():
        if len(chosen) == limit or keys[row] == -np.inf:
            break
        value = (descriptors[row] + np.float32(0)).tobytes()  # -0 becomes 0: equal is equal
        if value not in seen:
            seen.add(value)
            chosen.append(row)
    return Spares(keys[chosen], descriptors[chosen])


@compiled
def _sampling_keys(uniforms: Float64s, weights: Float64s) -> Float64s:
    keys = np.full(uniforms.shape[0], -np.inf)
    for row in range(uniforms.shape[0]):
        if weights[row] > 0:
            keys[row] = _logarithm(uniforms[row]) / weights[row]
    return keys


@compiled
def _logarithm(value: float) -> float:
    """Return log(value) for 0 < value <= 1 by its series: the same bits on every processor.

    log(m 2^e) = e log 2 + 2 (s + s^3 / 3 + s^5 / 5 + ...), s = (m - 1) / (m + 1), with m in
    [0.5, 1]. C libraries choose other code for other processors, which differs in the last bit.
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
