"""The method, slow and obvious: what the fast code is compared with."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bag = Mapping[int, int]


def cosine_of_bags(left: Bag, right: Bag, weights: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the cosine of two bags {word: count}, clamped to [0, 1]; 0 with an empty bag."""
    product = math.fsum(left[w] * right[w] * weights[w] ** 2 for w in left if w in right)
    return _over_norms(
        product,
        math.sqrt(math.fsum((left[w] * weights[w]) ** 2 for w in left)),
        math.sqrt(math.fsum((right[w] * weights[w]) ** 2 for w in right)),
    )


def cosine_of_vectors(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Return the cosine of two vectors, clamped to [0, 1]; 0 with a vector of zeros."""
    return _over_norms(
        math.fsum(float(a) * float(b) for a, b in zip(left, right, strict=True)),
        math.sqrt(math.fsum(float(a) ** 2 for a in left)),
        math.sqrt(math.fsum(float(b) ** 2 for b in right)),
    )


Vector = Sequence[float]


def residuals(
    descriptors: Sequence[tuple[Sequence[int], Vector]], centroids: Sequence[Vector]
) -> dict[int, list[float]]:
    """Return {word: sum of d - c at unit length} of one picture; words that give 0 are left out.

    Args:
        descriptors: the words of each descriptor, and the descriptor.
    """
    sums: dict[int, list[float]] = {}
    for words, descriptor in descriptors:
        for word in words:
            rest = [float(d) - float(c) for d, c in zip(descriptor, centroids[word], strict=True)]
            before = sums.get(word, [0.0] * len(rest))
            sums[word] = [a + b for a, b in zip(before, rest, strict=True)]
    lengths = {word: math.sqrt(sum(value**2 for value in total)) for word, total in sums.items()}
    return {
        word: [value / lengths[word] for value in total]
        for word, total in sums.items()
        if lengths[word] > 0.0
    }


Stored = Mapping[int, NDArray[np.float64]]


def match_kernel(left: Stored, right: Stored) -> float:
    """Return the sum of max(0, u . v) ** 3 over common words, by the root of both numbers of words.

    Args:
        left, right: residuals {word: u} as they are stored; for signs each is 1 or -1 by sqrt(D).
    """
    if not left or not right:
        return 0.0
    total = 0.0
    for word in sorted(left.keys() & right.keys()):
        product = math.fsum(
            float(a) * float(b) for a, b in zip(left[word], right[word], strict=True)
        )
        total += max(0.0, product) ** 3
    return min(total / math.sqrt(len(left) * len(right)), 1.0)


def _over_norms(product: float, left: float, right: float) -> float:
    if left == 0.0 or right == 0.0:
        return 0.0
    return min(max(product / (left * right), 0.0), 1.0)


def f(similarity: float, t: float, p: float) -> float:
    """Return t + (1 - t) * ((S - t) / (1 - t)) ** p above t, and S elsewhere."""
    if similarity <= t:
        return similarity
    return t + (1.0 - t) * ((similarity - t) / (1.0 - t)) ** p


def scores(
    similarities: Sequence[Sequence[float]],
    maps: Sequence[tuple[float, float]],
    weights: Sequence[float] | None = None,
) -> list[float]:
    """Return F of each image, from similarities by layer (C, n), and (t, p) and w of each layer."""
    ws = weights or [1.0] * len(maps)
    return [
        sum(w * f(s, t, p) for s, (t, p), w in zip(image, maps, ws, strict=True))
        for image in zip(*similarities, strict=True)
    ]


def ranking(image_ids: Sequence[int], values: Sequence[float], k: int) -> list[tuple[int, float]]:
    """Return the k best (image id, score): score falling, then image id rising."""
    pairs = sorted(zip(image_ids, values, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return pairs[:k]
