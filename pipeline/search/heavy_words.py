"""Which posting lists a fast search reads of a local layer: those of highest impact.

A word adds its count in the query times its squared weight times its count in an image to their
product (`score`), so the words that add most come first, as many as a budget of postings lets in.
The budget is over all segments and goes by the document frequencies of the snapshot, so the words
do not depend on how the corpus is cut. What the lists left out would add is missing: the sum over
both norms is a lower bound of the cosine.

A layer of residuals proposes by words in common, of which each may add up to 1 over the root of
both numbers of words (`residual_score`). Which of them do is only known from the residuals, so all
words count alike, and the rarest come first: their lists are shortest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s, read_only
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.postings import COUNT_BITS
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.search import shortlist_kernels
from lamella.pipeline.search.score import bag_norms
from lamella.pipeline.search.segment import Features, LocalLayer, ResidualLayer

_NO_COUNTS = np.empty(0, np.uint8)


@dataclass(frozen=True, eq=False)
class HeavyWords:
    """The words of Q queries whose posting lists are read.

    Attributes:
        starts: (Q + 1,) int64, where the words of each query begin.
        words: (m,) uint32, rising within a query.
        factors: (m,) float32 above 0, of the counts of postings.
        norms: (Q,) float64, of the whole queries.
    """

    starts: Int64s
    words: UInt32s
    factors: Float32s
    norms: Float64s


@dataclass(frozen=True, eq=False)
class Lists:
    """The posting lists of a segment's local layer, as a fast search reads them.

    Attributes:
        offsets: (K + 1,) int64, where the list of each word begins.
        entries: (m,) uint32, rows << bits | counts.
        bits: of the counts; 0 where `counts` has them, or a posting counts once.
        counts: (m,) or, where they are not read, (0,).
        inverse_norms: (n,) float32, 0 for an empty bag.
        greatest: of these, above 0.
    """

    offsets: Int64s
    entries: UInt32s
    bits: int
    counts: NDArray[Any]
    inverse_norms: Float32s
    greatest: float

    @classmethod
    def of(cls, layer: LocalLayer | ResidualLayer) -> "Lists":
        """Return those of a layer. Folded postings are shared with exact search."""
        postings, folded, counts = layer.postings, None, _NO_COUNTS
        if isinstance(layer, LocalLayer):
            folded, inverse = layer.folded, layer.inverse_norms.astype(np.float32)
            if folded is None:
                counts = postings.counts
        else:
            inverse = layer.roots * (np.diff(layer.bags.offsets) > 0)
        return cls(
            postings.offsets,
            postings.rows if folded is None else folded,
            0 if folded is None else COUNT_BITS,
            counts,
            inverse,
            float(inverse.max(initial=0.0)) or 1.0,
        )


def heavy_words(asked: Features, weights: Float64s, frequencies: Int64s, budget: int) -> HeavyWords:
    """Return the words of queries with the highest impact, as many as the budget lets in.

    Words come in the order of falling impact, equal ones in rising order. A word whose list no
    longer fits is passed over, and shorter ones after it may still fit.

    Args:
        asked: Q bags or Q residuals.
        weights: (K,) float64, of each word.
        frequencies: (K,) int64, the length of each word's lists over all segments.
        budget: the most postings of a query, at least 0.

    Raises:
        ValueError: vectors, or a query holds a word outside the vocabulary.
    """
    if isinstance(asked, np.ndarray):
        raise ValueError("posting lists are asked by words; the queries are vectors")
    bags = asked.bags if isinstance(asked, Residuals) else asked
    bags.check_words(len(frequencies))
    if isinstance(asked, Residuals):
        factors = np.ones(len(bags.words))
        impacts = -frequencies[bags.words].astype(np.float64)
        norms = _roots(bags)
    else:
        own = weights[bags.words]
        factors = bags.counts.astype(np.float64) * own * own
        impacts, norms = factors, bag_norms(bags, weights)
    query_of = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
    order = np.lexsort((bags.words, -impacts, query_of)).astype(np.int64)
    taken = np.zeros(len(bags.words), np.bool_)
    shortlist_kernels.take_words(
        bags.offsets, order, bags.words, read_only(frequencies, np.int64, "frequencies", ndim=1),
        budget, taken,
    )  # fmt: skip
    single = factors.astype(np.float32)
    taken &= single > 0.0
    starts = np.concatenate([[0], np.cumsum(taken)])[bags.offsets].astype(np.int64)
    return HeavyWords(starts, bags.words[taken], single[taken], norms)


def _roots(bags: BagsOfWords) -> Float64s:
    """Return the root of each image's number of words, (n,)."""
    return read_only(np.sqrt(np.diff(bags.offsets).astype(np.float64)), np.float64, "roots", ndim=1)
