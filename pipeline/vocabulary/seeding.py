"""Where the words begin, and how many there are if the spec does not say."""

import numpy as np

from pipeline.vocabulary.assign import ExactAssigner
from pipeline.vocabulary.compare import Float32s
from pipeline.vocabulary.refill import SampleKey, draw_spares

ROWS_A_WORD = 32
LARGEST_CHOICE = 20_000

SEEDING_ROWS_A_WORD = 16
"""Rows of the sample from which the words begin, for each word."""

DRAWS = 8


def choose_words(descriptors: int) -> int:
    """Return the words for a sample of so many descriptors: one for 32, from 1 to 20,000.

    Raises:
        ValueError: the number is negative.
    """
    if descriptors < 0:
        raise ValueError(f"a sample has 0 descriptors or more; got {descriptors:,}")
    return min(max(descriptors // ROWS_A_WORD, 1), LARGEST_CHOICE)


def initial_centroids(sample: Float32s, words: int, seed: int, draws: int = DRAWS) -> Float32s:
    """Return rows of the sample for the words to begin at, (words, D) float32.

    Args:
        sample: (n, D) float32; some `SEEDING_ROWS_A_WORD` rows a word, see `seeding_rows`.
        words: at least 1. If the sample has fewer distinct rows, they repeat; the copies get no
            rows and are refilled in the first full round.
        seed: of the spec.
        draws: in how many steps the words are drawn.

    Raises:
        ValueError: no row, no word, no draw.
    """
    if len(sample) == 0 or words < 1 or draws < 1:
        raise ValueError(
            f"seeding takes at least 1 row, 1 word and 1 draw; "
            f"got {len(sample):,}, {words:,} and {draws:,}"
        )
    weights = np.ones(len(sample), np.float64)
    chosen = np.empty((0, sample.shape[1]), np.float32)
    for draw in range(draws):
        wanted = words * (draw + 1) // draws - len(chosen)
        drawn = draw_spares(sample, weights, SampleKey(seed, 0xFFFFFFFF, draw), wanted).descriptors
        if len(drawn) == 0:
            continue
        chosen = np.concatenate([chosen, drawn])
        distances = ExactAssigner(drawn).assign(sample).squared_distances
        weights = distances if draw == 0 else np.minimum(weights, distances)
    return chosen[np.arange(words) % len(chosen)]
