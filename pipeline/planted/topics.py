"""Draw words of pictures: each picture prefers some topics, and each topic some words.

The constants were fitted like those of `planted.scale`: words were trained on `b11` of half of the
photographs, and the constants follow the bags of the mixed set in the other half.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.index.bags import BagsOfWords

SIZES = (5_000, 20_000, 100_000)
"""Sizes of vocabularies to which the constants below belong; between them they are interpolated
over the logarithm of the size. Those for 100,000 words extrapolate from 5,000 and 20,000."""

TOPICS, SPREADS = 64, (2.0, 2.15, 2.3)
"""A picture's topics weigh exp(spread * y), y normal: fitted to the number of words that unrelated
pictures share, up to the ninth tenth of pairs, and to their cosines. The last hundredth of pairs
shares more words than real ones do."""

SHAPES = (5.5, 1.8, 1.8)
"""Frequencies of a topic's words follow a gamma law of this shape: 1 over the squared variation of
document frequencies, less that of chance. K-means uses words too evenly for a law of Zipf. Training
had only 14 descriptors a word at 20,000, so the value measured there serves above, too."""

LENGTHS = ((0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0), (0.5, 0.6, 0.87, 1.03, 1.11, 1.16, 1.2))
"""Quantiles of the words drawn for a picture against their mean. With words drawn twice, distinct
words spread as measured: 1 % of pictures have half of the mean, 1 % a quarter more."""

COUNTS = ((1, 2, 3, 4, 7, 16, 40), (0.945, 0.978, 0.989, 0.994, 0.998, 0.9996, 1.0))
"""How often a drawn word counts, and the share of draws that count at most so: fitted to the counts
in bags, together with words drawn twice, and to the cosines of bags."""

SHARED = ((0.88, 0.78, 0.68), (0.05, 0.0, 0.0))
"""Share of a view's words that are its group's, in the nearest view (first row) and the farthest:
fitted to the cosines of bags of the same object."""

GRAIN = 1 << 16
_TRIED = 512


@dataclass(frozen=True, eq=False)
class WordLaw:
    """How words are drawn.

    Attributes:
        words: uint32 (words,), a name once, topic after topic.
        places: float64 (GRAIN,), from an even number to a place in a topic, 0 to 1.
        counts: uint32 (GRAIN,), from an even number to a count.
        spread: of the logarithm of a topic's weight.
        shared: share of a view's words that are its group's, in the nearest and the farthest.
        draws: words to draw a picture, on average; some are drawn twice.
    """

    words: NDArray[np.uint32]
    places: Float64s
    counts: NDArray[np.uint32]
    spread: float
    shared: tuple[float, float]
    draws: float


def word_law(
    rng: np.random.Generator, words: int, words_per_picture: int, sides: Float32s
) -> WordLaw:
    """Return the law of a vocabulary that gives pictures this many distinct words on average.

    Args:
        rng: draws the words of topics, and a trial of the law.
        words: of the vocabulary.
        words_per_picture: at least 1.
        sides: (A, TOPICS); a picture at point p prefers the topics by p @ sides.
    """

    def at(values: Sequence[float]) -> float:
        return float(np.interp(np.log(words), np.log(SIZES), values))

    rising = np.cumsum(np.sort(rng.gamma(at(SHAPES), size=4_096))[::-1])
    even = (np.arange(GRAIN) + 0.5) / GRAIN
    law = WordLaw(
        words=rng.permutation(words).astype(np.uint32),
        places=np.interp(even, np.append(0.0, rising / rising[-1]), np.linspace(0.0, 1.0, 4_097)),
        counts=np.array(COUNTS[0], dtype=np.uint32)[np.searchsorted(COUNTS[1], even)],
        spread=at(SPREADS),
        shared=(at(SHARED[0]), at(SHARED[1])),
        draws=float(words_per_picture),
    )
    leanings = rng.standard_normal((_TRIED, len(sides)), dtype=np.float32) @ sides
    for _ in range(4):
        sizes = draw_sizes(law, rng, _TRIED)
        bags = bags_of(ends_of(sizes), draw_words(law, rng, leanings, sizes))
        short = words_per_picture * _TRIED / len(bags.words)
        law = replace(law, draws=law.draws * min(short, 2.0))
    return law


def draw_sizes(law: WordLaw, rng: np.random.Generator, pictures: int) -> Int64s:
    """Return how many words to draw for each picture, (pictures,) int64, at least 1."""
    sizes = np.interp(rng.random(pictures), *LENGTHS) * law.draws
    return np.maximum(np.rint(sizes), 1.0).astype(np.int64)


def ends_of(sizes: Int64s) -> Int64s:
    """Return where the words of each of n pictures begin, and the last ones end, (n + 1,)."""
    return np.append(0, np.cumsum(sizes))


def draw_words(
    law: WordLaw, rng: np.random.Generator, leanings: Float32s, sizes: Int64s
) -> UInt32s:
    """Return sizes[i] words for each picture, (sum of sizes,); a word may come twice.

    Args:
        law: as `word_law` gives it.
        rng: everything is drawn from it.
        leanings: (n, TOPICS), variance 1.
        sizes: (n,).
    """
    weights = np.cumsum(np.exp(np.float32(law.spread) * leanings), axis=1, dtype=np.float64)
    # One random number a picture rounds the share of each topic, which saves a search a word.
    steps = weights * (sizes / weights[:, -1])[:, None] + rng.random((len(sizes), 1))
    steps[:, -1] = sizes
    parts = np.diff(np.floor(steps), axis=1, prepend=0.0).astype(np.int64).ravel()
    places = np.repeat(np.tile(np.arange(TOPICS, dtype=np.float64), len(sizes)), parts)
    places += law.places[rng.integers(GRAIN, size=len(places), dtype=np.uint16)]
    words = law.words[(places * (len(law.words) / TOPICS)).astype(np.int64)]
    counts = law.counts[rng.integers(GRAIN, size=len(places), dtype=np.uint16)]
    packed: UInt32s = words << np.uint32(8) | counts
    return packed


def bags_of(ends: Int64s, draws: UInt32s) -> BagsOfWords:
    """Return the bags of pictures with words draws[ends[i]:ends[i + 1]], at least 1 each.

    A word that was drawn twice counts for both.
    """
    sizes = np.diff(ends)
    # Short rows sort faster than one long list. Padding sorts last.
    held = np.arange(sizes.max()) < sizes[:, None]
    table = np.full(held.shape, np.iinfo(np.uint32).max, dtype=np.uint32)
    table[held] = draws
    table.sort(axis=1)
    rising = table[held]
    words = rising >> np.uint32(8)
    new = np.append(True, words[1:] != words[:-1])
    new[ends[:-1]] = True
    starts = np.flatnonzero(new)
    return BagsOfWords(
        offsets=np.append(0, np.cumsum(new))[ends],
        words=words[starts],
        counts=np.add.reduceat(rising & np.uint32(255), starts, dtype=np.uint32),
    )
