"""The arithmetic that decides: cosines in float64, every sum in one fixed order.

A similarity depends on its query and its image alone, to the bit: not on the segment, the other
queries of the batch, or threads, which take whole queries or images and never part of a sum.
Similarities are clamped to [0, 1]; with a bag or vector of zeros they are 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s, read_only
from lamella.pipeline.index.bags import BagsOfWords, check_offsets
from lamella.pipeline.index.postings import COUNT_BITS, Postings
from lamella.pipeline.search import kernels
from lamella.pipeline.search.entries import entries_from


@dataclass(frozen=True, eq=False)
class Candidates:
    """Chosen rows of a segment for each query: query q has rows[offsets[q]:offsets[q + 1]].

    Attributes:
        offsets: (Q + 1,) int64.
        rows: (m,) int64, positions of images inside the segment.
    """

    offsets: Int64s
    rows: Int64s

    def __post_init__(self) -> None:
        for name in ("offsets", "rows"):
            array = read_only(getattr(self, name), np.int64, f"{name} of candidates", ndim=1)
            object.__setattr__(self, name, array)
        check_offsets(self.offsets, len(self.rows), "candidates")

    def check(self, queries: int, images: int) -> None:
        """Check that they are for this many queries and name only rows of this many images.

        Raises:
            ValueError: they are not.
        """
        if len(self.offsets) != queries + 1:
            raise ValueError(f"candidates of {len(self.offsets) - 1} queries for {queries} queries")
        if len(self.rows) and not (self.rows.min() >= 0 and self.rows.max() < images):
            raise ValueError(f"candidates must be rows of {images} images")


def bag_norms(bags: BagsOfWords, weights: Float64s) -> Float64s:
    """Return sqrt(sum over rising words of (count * weight) ** 2) of each image, (n,) float64.

    Raises:
        ValueError: a bag holds a word without a weight.
    """
    bags.check_words(len(weights))
    norms = np.empty(len(bags), dtype=np.float64)
    weights = read_only(weights, np.float64, "weights", ndim=1)
    kernels.bag_norms(bags.offsets, bags.words, bags.counts, weights, norms)
    return norms


@dataclass(frozen=True, eq=False)
class Terms:
    """The position in each query word's posting list, and the factor of its counts.

    Attributes:
        cursors: (m,) int64, the next entry; moved on block by block.
        ends: (m,) int64.
        factors: (m,) float64: the word's count in the query times its squared weight.
    """

    cursors: Int64s
    ends: Int64s
    factors: Float64s


def start_terms(
    query_bags: BagsOfWords, postings: Postings, weights: Float64s, first: int = 0, images: int = 0
) -> Terms:
    """Return the terms of queries at the beginning of their posting lists.

    Args:
        first: a row; they begin there, of a segment of so many images.

    Raises:
        ValueError: a query holds a word outside the vocabulary.
    """
    query_bags.check_words(postings.words)
    words = query_bags.words
    own = weights[words]
    return Terms(
        cursors=entries_from(postings, words, first, images),
        ends=postings.offsets[1:][words],
        factors=query_bags.counts.astype(np.float64) * own * own,
    )


def add_block(
    query_bags: BagsOfWords,
    postings: Postings,
    terms: Terms,
    query_norms: Float64s,
    image_norms: Float64s,
    first: int,
    out: NDArray[Any],
) -> None:
    """Write the similarities of a block of rows into `out`, and move the terms past it.

    A word at a time, in rising order: for each image that is the order of a merge of two bags.
    Blocks are taken from the first row to the last, so that sums stay in the processor's cache.

    Args:
        query_bags: Q bags.
        postings: of the segment.
        terms: from `start_terms`, as left by the block before.
        query_norms: (Q,).
        image_norms: (n,).
        first: the first row of the block.
        out: (Q, b) float64 or, rounded, float32; written.
    """
    norms = read_only(image_norms[first : first + out.shape[1]], np.float64, "norms", ndim=1)
    query_norms = read_only(query_norms, np.float64, "norms of queries", ndim=1)
    kernels.bag_block(
        query_bags.offsets, terms.cursors, terms.ends, terms.factors, postings.rows,
        postings.counts, query_norms, norms, first, out,
    )  # fmt: skip


def propose_block(
    query_bags: BagsOfWords,
    folded: UInt32s,
    terms: Terms,
    inverse_norms: Float64s,
    first: int,
    out: Float32s,
) -> None:
    """Write what `add_block` does, apart from rounding in float64, in two thirds of the time.

    Args:
        folded: as `index.postings.fold` returns them.
        terms: with factors over the norm of their query.
        inverse_norms: (n,), 0 for an empty bag.
    """
    kernels.folded_block(
        query_bags.offsets, terms.cursors, terms.ends, terms.factors, folded, COUNT_BITS,
        read_only(inverse_norms, np.float64, "norms", ndim=1), first, out,
    )  # fmt: skip


def bag_similarities(
    query_bags: BagsOfWords,
    postings: Postings,
    weights: Float64s,
    query_norms: Float64s,
    image_norms: Float64s,
) -> Float64s:
    """Return the cosine of every query bag with every image of a segment, (Q, n) float64.

    Raises:
        ValueError: a query holds a word outside the vocabulary.
    """
    out = np.empty((len(query_bags), len(image_norms)), dtype=np.float64)
    terms = start_terms(query_bags, postings, weights)
    add_block(query_bags, postings, terms, query_norms, image_norms, 0, out)
    return out


def bag_similarities_of(
    query_bags: BagsOfWords,
    candidates: Candidates,
    bags: BagsOfWords,
    weights: Float64s,
    query_norms: Float64s,
    image_norms: Float64s,
    alone: bool = False,
) -> Float64s:
    """Return the cosines with chosen images, (m,) float64, bitwise as `bag_similarities` has them.

    `alone` keeps the work in the calling thread, here and below: others may then do the same.

    Raises:
        ValueError: candidates of other queries or images, or a word without a weight.
    """
    candidates.check(len(query_bags), len(bags))
    query_bags.check_words(len(weights))
    out = np.empty(len(candidates.rows), dtype=np.float64)
    weights = read_only(weights, np.float64, "weights", ndim=1)
    image_norms = read_only(image_norms, np.float64, "norms", ndim=1)
    query_norms = read_only(query_norms, np.float64, "norms of queries", ndim=1)
    arguments = (
        query_bags.offsets, query_bags.words, query_bags.counts, candidates.offsets,
        candidates.rows, bags.offsets, bags.words, bags.counts, weights, query_norms,
        image_norms, out,
    )  # fmt: skip
    if alone:
        kernels.bag_pairs_of(0, len(query_bags), *arguments)
    else:
        kernels.bag_pairs(*arguments)
    return out


def dense_norms(vectors: Float32s) -> Float64s:
    """Return the Euclidean norm of each row of (n, D) float32, as (n,) float64.

    Raises:
        ValueError: a value is not finite.
    """
    norms = np.empty(len(vectors), dtype=np.float64)
    kernels.dense_norms(read_only(vectors, np.float32, "vectors", ndim=2), norms)
    if not np.isfinite(norms).all():
        raise ValueError(f"vectors must be finite; row {int(np.argmin(np.isfinite(norms)))} is not")
    return norms


def dense_similarities(
    queries: Float32s, vectors: Float32s, query_norms: Float64s, vector_norms: Float64s
) -> Float64s:
    """Return the cosine of every query with every vector, (Q, n) float64.

    Products of float32 are exact in float64; they go to 64 partial sums in turn, and those are
    added as a tree of fixed shape.

    Raises:
        ValueError: the vectors have another length than the queries.
    """
    everyone = Candidates(
        offsets=np.arange(len(queries) + 1, dtype=np.int64) * len(vectors),
        rows=np.tile(np.arange(len(vectors), dtype=np.int64), len(queries)),
    )
    out = dense_similarities_of(queries, everyone, vectors, query_norms, vector_norms)
    return out.reshape(len(queries), len(vectors))


def dense_similarities_of(
    queries: Float32s,
    candidates: Candidates,
    vectors: Float32s,
    query_norms: Float64s,
    vector_norms: Float64s,
    alone: bool = False,
) -> Float64s:
    """Return the cosines with chosen vectors, (m,) float64, bitwise as `dense_similarities`.

    Raises:
        ValueError: candidates of other queries or images, or vectors of another length.
    """
    candidates.check(len(queries), len(vectors))
    queries = read_only(queries, np.float32, "queries", ndim=2)
    vectors = read_only(vectors, np.float32, "vectors", ndim=2)
    if queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} values, vectors {vectors.shape[1]}")
    out = np.empty(len(candidates.rows), dtype=np.float64)
    arguments = (
        queries, candidates.offsets, candidates.rows, vectors,
        read_only(query_norms, np.float64, "norms of queries", ndim=1),
        read_only(vector_norms, np.float64, "norms", ndim=1), out,
    )  # fmt: skip
    if alone:
        kernels.dense_pairs_of(0, len(queries), *arguments)
    else:
        kernels.dense_pairs(*arguments)
    return out
