"""Query expansion: each query becomes the mean of itself and its best pictures, layer by layer.

Average query expansion (Chum et al. 2007, Total Recall, section 4.1), here over every layer of a
fusion, and with the best of the fused ranking in the place of spatially verified pictures.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.search.score import bag_norms, dense_norms
from lamella.pipeline.search.segment import QueryBatch

COUNT_BITS = 31
"""The greatest count of an expanded bag has so many bits: the others then keep most of theirs."""


def expand(
    queries: QueryBatch, found: QueryBatch, places: Int64s, weights: Mapping[str, Float64s]
) -> QueryBatch:
    """Return queries in which each is the mean of itself and its best pictures, at unit length.

    A query depends on itself and its own pictures alone, to the bit. A vector or bag of zeros has
    no direction and adds nothing.

    Args:
        queries: Q queries, in the layers of `found` at least; layers that it lacks are left out.
        found: F pictures as queries.
        places: (Q, n) int64, the places in `found` of each query's best, best first; -1 for none.
        weights: of the words of each layer that holds bags, (K,) float64.

    Raises:
        InputError: a layer holds neither bags nor vectors.
    """
    layers: dict[str, BagsOfWords | Float32s] = {}
    check_expandable(queries, list(found.layers))
    for name, theirs in found.layers.items():
        own = queries.layers[name]
        if isinstance(own, BagsOfWords) and isinstance(theirs, BagsOfWords):
            layers[name] = expand_bags(own, theirs, places, weights[name])
        elif isinstance(own, np.ndarray) and isinstance(theirs, np.ndarray):
            layers[name] = expand_vectors(own, theirs, places)
        else:
            raise ValueError(f"layer {name} holds bags on one side and vectors on the other")
    return QueryBatch(layers)


def check_expandable(queries: QueryBatch, layers: Sequence[str]) -> None:
    """Check that these layers of a batch have a mean.

    Raises:
        InputError: one that is there holds neither bags nor vectors.
    """
    for name in layers:
        held: object = queries.layers.get(name)
        if not isinstance(held, BagsOfWords | np.ndarray | None):
            raise InputError(
                f"queries with layer {name} cannot be expanded, as it holds neither bags of words "
                "nor vectors: leave expansion off (search.expand = 0), or fuse other layers"
            )


def expand_vectors(own: Float32s, found: Float32s, places: Int64s) -> Float32s:
    """Return the mean of unit vectors, (Q, D) float32, added in float64: own, then best first.

    Args:
        own: (Q, D) float32.
        found: (F, D) float32.
        places: (Q, n), as `expand` has them.
    """
    total = _units(own, dense_norms(own))
    norms = dense_norms(found)
    for column in places.T:
        held = column >= 0
        rows = column[held]
        total[held] += _units(found[rows], norms[rows])
    count = 1 + np.count_nonzero(places >= 0, axis=1)
    mean: Float32s = (total / count[:, None]).astype(np.float32)
    return mean


def expand_bags(
    own: BagsOfWords, found: BagsOfWords, places: Int64s, weights: Float64s
) -> BagsOfWords:
    """Return bags whose weighted counts go in the direction of the mean of unit bags.

    A word counted c times in a bag of norm N is c * weight / N of the bag at unit length. All bags
    share the weight, so the word's count in the mean is the sum of c / N, added in float64: own,
    then best first. Each query's sums are scaled by the power of two that brings the greatest to
    2 ** 30 at least and below 2 ** 31, and rounded. So a count of at least 2 ** 15, a 65,536th of
    the greatest, is off by at most 2 ** -16 of itself, and others by at most half a count. Words of
    weight 0, and those that round to 0, are left out.

    Args:
        own: Q bags.
        found: F bags.
        places: (Q, n), as `expand` has them.
        weights: (K,) float64.

    Raises:
        ValueError: a bag holds a word without a weight.
    """
    every = concatenate([own, found])
    norms = bag_norms(every, weights)
    # Row by row: the query itself, then its pictures.
    itself = np.arange(len(own), dtype=np.int64)[:, None]
    table = np.hstack([itself, np.where(places >= 0, places + len(own), -1)])
    query_of, rows = np.nonzero(table >= 0)[0], table[table >= 0]
    picked, sizes = select(every, rows), np.diff(every.offsets)[rows]
    weighted = weights[picked.words] != 0.0
    keys = (np.repeat(query_of, sizes) << 32 | picked.words)[weighted]
    shares = picked.counts[weighted] / np.repeat(norms[rows], sizes)[weighted]
    keys, places_of_keys = np.unique(keys, return_inverse=True)
    # One after the other, in the order of the table.
    sums: Float64s = np.bincount(places_of_keys, weights=shares, minlength=len(keys)).astype(float)
    return _as_bags(len(own), keys, sums)


def _as_bags(queries: int, keys: Int64s, sums: Float64s) -> BagsOfWords:
    """Return counts in fixed point; a key is the query's number * 2 ** 32 + the word, rising."""
    query_of = keys >> 32
    greatest = np.zeros(queries)
    np.maximum.at(greatest, query_of, sums)
    exponents = COUNT_BITS - np.frexp(greatest)[1]
    counts = np.rint(np.ldexp(sums, exponents[query_of])).astype(np.uint32)
    kept = counts > 0
    return BagsOfWords(
        offsets=np.searchsorted(query_of[kept], np.arange(queries + 1)).astype(np.int64),
        words=(keys[kept] & 0xFFFFFFFF).astype(np.uint32),
        counts=counts[kept],
    )


def _units(vectors: Float32s, norms: Float64s) -> NDArray[np.float64]:
    return vectors / np.where(norms > 0.0, norms, 1.0)[:, None]
