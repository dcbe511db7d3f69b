"""A small corpus and some descriptors, answered by every kind of products, as one digest.

Run as a program it prints that digest, for a process whose oneDNN is limited.
"""

import hashlib
from functools import partial

import numpy as np

from lamella.pipeline.index.bags import bags_from_words
from lamella.pipeline.products import choice
from lamella.pipeline.search.bounds import Cascade
from lamella.pipeline.search.candidates import Finder, find_reached
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.segment import (
    Answer,
    Layer,
    QueryBatch,
    SegmentData,
    dense_layer,
    local_layer,
)
from lamella.pipeline.vocabulary import refine
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.ivf import CellsAssigner, first_cells, neighbours_of
from lamella.schemas.job import ProductKind
from lamella.schemas.query import FusionSpec, LayerMap

KINDS: tuple[ProductKind, ...] = ("float32", "bfloat16", "int8")
SPEC = FusionSpec(layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low")))
WORDS, IMAGES, K = 50, 2_000, 10


def corpus(width: int, seed: int = 0) -> tuple[list[SegmentData], QueryBatch]:
    """Return two segments with twins, near-ties and a vector of zeros, and 40 queries."""
    rng = np.random.default_rng(seed)
    vectors = np.abs(rng.standard_normal((IMAGES, width))).astype(np.float32)
    vectors[1::7] = vectors[::7][: len(vectors[1::7])]
    vectors[2::7] = vectors[::7][: len(vectors[2::7])] * np.float32(1.0 + 2.0**-20)
    vectors[5] = 0.0
    offsets = np.arange(IMAGES + 1, dtype=np.int64) * 6
    words = rng.integers(WORDS, size=offsets[-1], dtype=np.uint32)
    queries = vectors[rng.integers(IMAGES, size=40)]
    queries = queries + 0.1 * rng.standard_normal(queries.shape).astype(np.float32)
    queries[3] = 0.0
    asked = np.arange(41, dtype=np.int64) * 6
    weights = np.linspace(0.1, 2.0, WORDS)
    halves = []
    for half in (slice(0, 1_200), slice(1_200, IMAGES)):
        mine = words[offsets[half.start] : offsets[half.stop]]
        bags = bags_from_words(offsets[half.start : half.stop + 1] - offsets[half.start], mine)
        layers: dict[str, Layer] = {
            "high": dense_layer(vectors[half]),
            "low": local_layer(bags, weights),
        }
        halves.append(SegmentData(np.arange(half.start, half.stop), layers))
    bags = bags_from_words(asked, rng.integers(WORDS, size=asked[-1], dtype=np.uint32))
    return halves, QueryBatch({"high": queries, "low": bags})


def searched(
    segments: list[SegmentData], queries: QueryBatch, find: Finder = find_reached
) -> Answer:
    """Return the best of each query."""
    return search_exact(segments, queries, SPEC, K, find=find)


def by(kind: ProductKind, *, whole: bool) -> Finder:
    """Return what finds pairs with a cascade."""
    return partial(find_reached, cascade=Cascade(kind, whole))


def words_found(seed: int = 0) -> list[np.ndarray]:
    """Return what rows get of words by all ways to assign, and the neighbours of words."""
    rng = np.random.default_rng(seed)
    words = np.abs(rng.standard_normal((200, 70))).astype(np.float32)
    words[1::9] = words[::9][: len(words[1::9])]
    words[2::9] = words[::9][: len(words[2::9])] * np.float32(1.0 + 2.0**-20)
    rows = np.concatenate([words[::5], np.abs(rng.standard_normal((300, 70)))]).astype(np.float32)
    rows[7] = 0.0
    exact, cells = ExactAssigner(words), first_cells(words)
    near = neighbours_of(words, cells)
    through = CellsAssigner(words, cells, 3, near)
    found = exact.assign(rows)
    few = exact.nearest(rows, 4)
    return [
        found.words,
        found.squared_distances,
        few.words,
        cells.members,
        near,
        through.assign(rows).words,
        through.nearest(rows, 3).words,
    ]


def digest_of(kind: ProductKind) -> str:
    """Return the SHA-256 of all answers by a kind."""
    digest = hashlib.sha256()
    segments, queries = corpus(130)
    for whole in (False, True):
        answer = searched(segments, queries, by(kind, whole=whole))
        for part in (answer.image_ids, answer.scores, answer.similarities):
            digest.update(np.ascontiguousarray(part).tobytes())
    choice.use(kind)
    for found in words_found():
        digest.update(np.ascontiguousarray(found).tobytes())
    return digest.hexdigest()


def main() -> None:
    """Print the digest of each kind."""
    refine.WORTH = 0  # products of a test are small
    print(*map(digest_of, KINDS))


if __name__ == "__main__":
    main()
