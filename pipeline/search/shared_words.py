"""What each visual word that two pictures share adds to their similarity in a local layer.

S of bags is sum over shared words of c_q c_x w ** 2 / (|q| |x|), with the counts c, the weight w of
the word and the norms of both bags (`score`). S of residuals is sum of max(0, u . v) ** 3 /
sqrt(n_q n_x) (`residual_score`). So each word's part of the sum is what it adds to S.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s, UInt32s
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.search.score import bag_norms

Words = BagsOfWords | Residuals


def shared_words(query: Words, result: Words, weights: Float64s) -> tuple[UInt32s, Float64s]:
    """Return the words that two pictures share, rising, and what each adds to S; both (m,).

    The parts add up to S within the rounding of float64. Where S is clamped to 1, as it may be of a
    picture with itself, all parts shrink alike so that they add up to 1.

    Args:
        query, result: one picture each, of one kind.
        weights: of the words of a layer that holds bags, (K,); residuals have none.

    Raises:
        ValueError: not one picture each, or not of one kind.
    """
    if len(query) != 1 or len(result) != 1:
        raise ValueError(f"one picture is compared with one; got {len(query)} and {len(result)}")
    if isinstance(query, BagsOfWords) and isinstance(result, BagsOfWords):
        words, mine, theirs = _common(query, result)
        own = weights[words]
        products = query.counts[mine].astype(np.float64) * own * own * result.counts[theirs]
        norms = float(bag_norms(query, weights)[0] * bag_norms(result, weights)[0])
        parts = products / (norms if norms > 0.0 else 1.0)
    elif isinstance(query, Residuals) and isinstance(result, Residuals):
        words, mine, theirs = _common(query.bags, result.bags)
        both = len(query.bags.words) * len(result.bags.words)
        alike = _products(query.payload[mine], result.payload[theirs], query.dimensions)
        parts = np.maximum(alike, 0.0) ** 3 / math.sqrt(max(both, 1))
    else:
        raise ValueError("bags are compared with bags, and residuals with residuals")
    total = math.fsum(parts)
    return words, parts / total if total > 1.0 else parts


def _common(
    query: BagsOfWords, result: BagsOfWords
) -> tuple[UInt32s, NDArray[np.int64], NDArray[np.int64]]:
    words, mine, theirs = np.intersect1d(
        query.words, result.words, assume_unique=True, return_indices=True
    )
    return words.astype(np.uint32), mine, theirs


def _products(left: NDArray[Any], right: NDArray[Any], dimensions: int) -> Float64s:
    """Return the product of each two residuals, (m,): as `residual_kernels.product`, exact."""
    if left.dtype == np.float16:
        wide: Float64s = (left.astype(np.float64) * right.astype(np.float64)).sum(axis=1)
        return wide
    apart = np.unpackbits(left ^ right, axis=1).sum(axis=1, dtype=np.int64)
    signs: Float64s = (dimensions - 2 * apart) / np.float64(dimensions)
    return signs
