"""The visual words of a layer as a sparse matrix: a row an image, a column a word."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.export.arrays import write_csr
from lamella.pipeline.export.layers import Words
from lamella.pipeline.index.bags import BagsOfWords

Batches = Callable[[str], Iterator[tuple[Any, BagsOfWords]]]
"""All bags of a layer, as often as they are asked for; the text says what is written of them."""


def write_words(
    layer: Words, batches: Batches, path: Path, *, weights: Float64s | None = None, unit: bool
) -> np.dtype[Any]:
    """Write the words of all images, in the order of ids; return the type of the values.

    Args:
        weights: (K,) of each word, by which its counts are multiplied, as float64; None leaves the
            counts as they are stored, uint32.
        unit: divide each row by its length, so that products of rows are cosines.
    """
    plain = weights is None and not unit
    dtype = np.dtype(np.uint32 if plain else np.float64)
    columns = (bags.words for _, bags in batches("words"))
    values = (
        bags.counts if plain else _values(bags, weights, unit) for _, bags in batches("counts")
    )
    shape = (len(layer.image_ids), layer.words)
    write_csr(path, shape, layer.sizes(), columns, values, dtype)
    return dtype


def _values(bags: BagsOfWords, weights: Float64s | None, unit: bool) -> NDArray[np.float64]:
    values = bags.counts.astype(np.float64)
    if weights is not None:
        values *= weights[bags.words]
    if unit and len(values):
        owners = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
        lengths = np.sqrt(np.bincount(owners, values * values, minlength=len(bags)))
        values /= np.where(lengths > 0, lengths, 1.0)[owners]
    return values
