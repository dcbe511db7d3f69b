"""What each shared word adds to S: worked by hand, and all of it is S."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.index.bags import BagsOfWords, select
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.index.residuals import select as select_residuals
from lamella.pipeline.search.exact import similarities
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import LocalLayer, ResidualLayer
from lamella.pipeline.search.shared_words import Words, shared_words
from tests.pipeline.search import test_residual_search as residual_corpus
from tests.pipeline.search.test_exact import WEIGHTS, random_corpus

seeds = st.integers(0, 2**32 - 1)


def bag(counts: dict[int, int]) -> BagsOfWords:
    words = np.array(sorted(counts), np.uint32)
    held = np.array([counts[word] for word in sorted(counts)], np.uint32)
    return BagsOfWords(np.array([0, len(words)]), words, held)


def residuals(rows: dict[int, list[float]]) -> Residuals:
    payload = np.array([rows[word] for word in sorted(rows)], np.float16)
    return Residuals(bag(dict.fromkeys(rows, 1)), payload, payload.shape[1])


def test_two_bags_by_hand() -> None:
    weights = np.array([1.0, 2.0, 1.0, 3.0])
    # |q| = sqrt((2 * 2) ** 2 + (1 * 3) ** 2) = 5; |x| = sqrt((3 * 2) ** 2 + 8 ** 2) = 10
    words, parts = shared_words(bag({1: 2, 3: 1}), bag({1: 3, 2: 8}), weights)
    assert words.tolist() == [1]
    assert parts.tolist() == [2 * 2 * 2 * 3 / (5 * 10)]


def test_a_shared_word_without_weight_adds_nothing() -> None:
    words, parts = shared_words(bag({0: 1, 1: 1}), bag({0: 4, 1: 1}), np.array([0.0, 1.0]))
    assert (words.tolist(), parts.tolist()) == ([0, 1], [0.0, 1.0])


def test_two_pictures_of_residuals_by_hand() -> None:
    query = residuals({2: [1.0, 0.0], 5: [0.0, 1.0], 7: [1.0, 0.0]})
    # Word 2: (1, 0) . (0.6, 0.8) = 0.6; word 5 looks the other way, and word 7 is not shared.
    result = residuals({2: [0.6, 0.8], 5: [0.0, -1.0], 9: [0.0, 1.0]})
    words, parts = shared_words(query, result, np.empty(0))
    half = float(np.float16(0.6))
    assert words.tolist() == [2, 5]
    assert parts.tolist() == [half**3 / math.sqrt(3 * 3), 0.0]


def test_signs_by_hand() -> None:
    one = Residuals(bag({4: 1}), np.array([[0b10110000]], np.uint8), 4)
    other = Residuals(bag({4: 1}), np.array([[0b10100000]], np.uint8), 4)
    # One sign of four differs: (4 - 2 * 1) / 4 = 0.5, and 0.5 ** 3 = 0.125.
    assert shared_words(one, other, np.empty(0))[1].tolist() == [0.125]


def test_nothing_is_shared_with_a_picture_without_words() -> None:
    words, parts = shared_words(bag({}), bag({1: 1}), np.ones(2))
    assert (len(words), len(parts)) == (0, 0)


@given(seeds, st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_what_words_add_is_the_similarity_of_bags(seed: int, images: int) -> None:
    segment, queries = random_corpus(seed, images)
    layer, asked = segment.layers["low"], queries.layers["low"]
    assert isinstance(layer, LocalLayer)
    assert isinstance(asked, BagsOfWords)
    found = similarities(segment, queries, ["low"])[0]
    for query in range(len(asked)):
        for row in range(images):
            one, other = select(asked, np.array([query])), select(layer.bags, np.array([row]))
            check(one, other, found[query, row])


@given(seeds, st.integers(1, 12), st.sampled_from(["low", "bits"]))
@settings(max_examples=30, deadline=None)
def test_what_words_add_is_the_similarity_of_residuals(seed: int, images: int, name: str) -> None:
    segment, queries = residual_corpus.random_corpus(seed, images)
    layer, asked = segment.layers[name], queries.layers[name]
    assert isinstance(layer, ResidualLayer)
    assert isinstance(asked, Residuals)
    found = similarities(segment, take_queries(queries, [0, 1, 2]), [name])[0]
    for query in range(len(asked)):
        for row in range(images):
            one, other = select_residuals(asked, np.array([query])), layer.of(np.array([row]))
            check(one, other, found[query, row])


def check(one: Words, other: Words, similarity: float) -> None:
    words, parts = shared_words(one, other, WEIGHTS)
    assert (parts >= 0.0).all()
    assert (np.diff(words.astype(np.int64)) > 0).all()
    assert abs(math.fsum(parts) - similarity) <= 1e-15 * (1 + len(parts))


def test_pictures_are_compared_one_with_one_and_with_their_like() -> None:
    with pytest.raises(ValueError, match="one picture is compared with one; got 2 and 1"):
        shared_words(
            BagsOfWords(np.zeros(3, np.int64), *2 * [np.empty(0, np.uint32)]), bag({}), WEIGHTS
        )
    with pytest.raises(ValueError, match="bags are compared with bags"):
        shared_words(bag({}), residuals({1: [1.0, 0.0]}), WEIGHTS)
