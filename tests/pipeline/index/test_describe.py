"""Pictures in words: worked by hand, and by a slow definition."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.describe import Describer, count_words, weighed
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.schemas.vocabulary import EncodingSpec

WORDS = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)


def as_dicts(bags: BagsOfWords) -> list[dict[int, int]]:
    runs = zip(bags.offsets[:-1], bags.offsets[1:], strict=True)
    return [
        dict(zip(bags.words[a:b].tolist(), bags.counts[a:b].tolist(), strict=True)) for a, b in runs
    ]


def test_a_descriptor_counts_for_each_of_its_nearest_words() -> None:
    describer = Describer(ExactAssigner(WORDS), EncodingSpec(nearest=2, power=0.5))
    vectors = np.array([[0.9, 0.1], [0.8, 0.6], [-0.9, 0.1]], np.float32)
    parts = [
        describer.describe(np.array([7, 7]), vectors[:2]),  # words 0 and 1, twice
        describer.describe(np.array([3]), vectors[2:]),  # words 1 and 2
    ]
    bags = describer.of_images(parts, np.array([3, 5, 7]))
    # 16 * 1 ** .5 = 16;  16 * 2 ** .5 = 22.6
    assert as_dicts(bags) == [{1: 16, 2: 16}, {}, {0: 23, 1: 23}]


def test_without_any_descriptor_bags_are_empty() -> None:
    describer = Describer(ExactAssigner(WORDS), EncodingSpec(nearest=2))
    assert as_dicts(describer.of_images([], np.array([3, 5]))) == [{}, {}]


def test_plain_counts_are_left_alone() -> None:
    bags = count_words(np.array([4, 4]), np.array([[1], [1]], np.uint32), np.array([4]))
    assert weighed(bags, 1.0) is bags
    assert as_dicts(bags) == [{1: 2}]


@pytest.mark.parametrize("count", [1, 2, 4, 91, 254])
def test_a_byte_holds_the_square_root_of_a_count(count: int) -> None:
    bags = BagsOfWords(np.array([0, 1]), np.array([0], np.uint32), np.array([count], np.uint32))
    (weight,) = weighed(bags, 0.5).counts.tolist()
    assert weight == round(16 * count**0.5) <= 255


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_bags_are_those_of_a_slow_count(seed: int, each: int, descriptors: int) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, 5, descriptors)
    words = np.stack([rng.permutation(9)[:each] for _ in owners]).astype(np.uint32)
    bags = count_words(owners, words, np.arange(5))
    plain = [Counter[int]() for _ in range(5)]
    for owner, mine in zip(owners.tolist(), words.tolist(), strict=True):
        plain[owner].update(mine)
    assert as_dicts(bags) == [dict(sorted(one.items())) for one in plain]
