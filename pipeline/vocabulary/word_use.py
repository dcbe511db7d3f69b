"""How evenly visual words are used."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class WordUse:
    """The use of a vocabulary's words by some rows.

    Attributes:
        words: how many there are.
        empty: how many no row has.
        rows: how many rows there are.
        entropy: of a row's word, in bits; log2 of the words if all are used alike.
        evenness: the entropy over that greatest one, from 0 to 1; 1 for a single word.
        largest_share: share of the rows at the most used word.
        imbalance: words times the chance that two rows, drawn with replacement, share a word; 1
            is even use. FAISS calls it the imbalance factor.
    """

    words: int
    empty: int
    rows: int
    entropy: float
    evenness: float
    largest_share: float
    imbalance: float


def word_use(counts: npt.NDArray[np.integer], words: int | None = None) -> WordUse:
    """Return how evenly the words are used; all zero but `words` and `empty` if no row is.

    Args:
        counts: (m,) rows of each word; words without a row may be left out.
        words: how many words there are, if more than counts.

    Raises:
        ValueError: no word, a negative count, or more counts than words.

    >>> word_use(np.array([2, 1, 1, 0])).entropy
    1.5
    """
    words = len(counts) if words is None else words
    if words < 1 or len(counts) > words or np.any(counts < 0):
        raise ValueError(
            f"counts are 0 or more, for at least 1 word and at most all; "
            f"got {len(counts):,} counts for {words:,} words"
        )
    used = [int(count) for count in counts if count > 0]
    rows = sum(used)
    if rows == 0:
        return WordUse(words, words, 0, 0.0, 0.0, 0.0, 0.0)
    entropy = math.fsum(count / rows * math.log2(rows / count) for count in used)
    return WordUse(
        words=words,
        empty=words - len(used),
        rows=rows,
        entropy=entropy,
        evenness=entropy / math.log2(words) if words > 1 else 1.0,
        largest_share=max(used) / rows,
        imbalance=words * sum(count * count for count in used) / (rows * rows),
    )
