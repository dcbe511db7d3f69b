import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.index.bags import bags_from_words
from pipeline.index.postings import document_frequencies, invert


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=8))
def test_postings_hold_what_the_bags_hold(images: list[list[int]]) -> None:
    offsets = np.cumsum([0] + [len(image) for image in images], dtype=np.int64)
    postings = invert(
        bags_from_words(offsets, np.array([w for image in images for w in image], dtype=np.uint32)),
        6,
    )
    for word in range(6):
        entries = slice(postings.offsets[word], postings.offsets[word + 1])
        holding = [row for row, image in enumerate(images) if word in image]
        assert postings.rows[entries].tolist() == holding
        assert postings.counts[entries].tolist() == [images[row].count(word) for row in holding]
        assert document_frequencies(postings)[word] == len(holding)


def test_a_word_outside_the_vocabulary_is_refused() -> None:
    bags = bags_from_words(np.array([0, 1]), np.array([6], dtype=np.uint32))
    with pytest.raises(ValueError, match="another vocabulary"):
        invert(bags, 6)
