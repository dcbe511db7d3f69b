"""Words drawn by topics: how many, which, and what becomes of those drawn twice."""

from dataclasses import replace

import numpy as np
import pytest

from lamella.pipeline.planted.topics import (
    GRAIN,
    TOPICS,
    WordLaw,
    bags_of,
    draw_sizes,
    draw_words,
    ends_of,
    word_law,
)

WORDS, PICTURES = 6_400, 400
SIDES = np.eye(TOPICS, dtype=np.float32)


def law_of(words: int = WORDS, words_per_picture: int = 50) -> WordLaw:
    return word_law(np.random.default_rng(1), words, words_per_picture, SIDES)


def leanings() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(2).standard_normal((PICTURES, TOPICS), dtype=np.float32)


def test_a_word_that_is_drawn_twice_counts_for_both() -> None:
    # Picture 0 draws word 7 once, word 2 thrice and word 7 twice; picture 1 word 7 once.
    draws = np.array([7 << 8 | 1, 2 << 8 | 3, 7 << 8 | 2, 7 << 8 | 1], dtype=np.uint32)
    bags = bags_of(np.array([0, 3, 4]), draws)
    assert bags.offsets.tolist() == [0, 2, 3]
    assert bags.words.tolist() == [2, 7, 7]
    assert bags.counts.tolist() == [3, 3, 1]


def test_every_word_has_one_name() -> None:
    assert sorted(law_of().words.tolist()) == list(range(WORDS))


def test_common_words_of_a_topic_take_more_of_the_numbers_than_rare_ones() -> None:
    places = law_of().places
    assert len(places) == GRAIN
    assert 0 <= places[0] < places[-1] < 1
    # The first half of the numbers gives less than half of the words.
    assert places[GRAIN // 2] < 0.5
    assert np.all(np.diff(places) >= 0)


@pytest.mark.parametrize("words_per_picture", [1, 50, 300])
def test_pictures_hold_as_many_distinct_words_as_asked_for(words_per_picture: int) -> None:
    law, rng = law_of(words_per_picture=words_per_picture), np.random.default_rng(3)
    sizes = draw_sizes(law, rng, PICTURES)
    bags = bags_of(ends_of(sizes), draw_words(law, rng, leanings(), sizes))
    assert len(bags.words) / PICTURES == pytest.approx(words_per_picture, rel=0.1)
    assert sizes.min() >= 1


def test_a_picture_that_leans_to_one_topic_has_words_of_that_topic() -> None:
    law = law_of()
    towards = np.full((1, TOPICS), -9.0, dtype=np.float32)
    towards[0, 5] = 9.0
    draws = draw_words(law, np.random.default_rng(3), towards, np.array([80]))
    # 6,400 words in 64 topics: topic 5 has places 500 to 600.
    assert set((draws >> np.uint32(8)).tolist()) <= set(law.words[500:600].tolist())


def test_words_that_topics_do_not_divide_are_all_drawn() -> None:
    law = replace(law_of(words=130, words_per_picture=10), spread=0.0)
    sizes = np.full(PICTURES, 50)
    draws = draw_words(law, np.random.default_rng(3), leanings(), sizes)
    assert len(draws) == 50 * PICTURES
    assert sorted(set((draws >> np.uint32(8)).tolist())) == list(range(130))
