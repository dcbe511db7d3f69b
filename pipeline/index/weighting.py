"""The weight of each visual word, fixed by the snapshot."""

import math

import numpy as np
from numpy.typing import NDArray

from lamella.schemas.query import Weighting


def idf(document_frequencies: NDArray[np.int64], images: int) -> NDArray[np.float64]:
    """Return ln(N / df) of each word, and 0 where no image holds it (Sivic & Zisserman 2003).

    Each value of df gets one logarithm, from the C library: vectorised logarithms may give other
    bits at other places of an array.

    Args:
        document_frequencies: (K,) int64, over the whole corpus.
        images: N, the images of the whole corpus.

    Raises:
        ValueError: a frequency is negative or above N.
    """
    values, places = np.unique(document_frequencies, return_inverse=True)
    if len(values) and (values[0] < 0 or values[-1] > images):
        raise ValueError(f"a word stands in 0 to {images} images; got {values[0]} to {values[-1]}")
    logarithms = [math.log(images / int(value)) if value else 0.0 for value in values]
    return np.array(logarithms, dtype=np.float64)[places]


def word_weights(
    weighting: Weighting, document_frequencies: NDArray[np.int64], images: int
) -> NDArray[np.float64]:
    """Return the weight of each word, (K,) float64: ones for `tf`, the idf for `tf-idf`.

    A word of weight w that occurs c times in an image contributes c * w.
    """
    if weighting == "tf":
        return np.ones(len(document_frequencies), dtype=np.float64)
    return idf(document_frequencies, images)
