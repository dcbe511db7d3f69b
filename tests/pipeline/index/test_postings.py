import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.index.bags import bags_from_words
from lamella.pipeline.index.postings import (
    COUNT_BITS,
    Postings,
    document_frequencies,
    fold,
    invert,
)


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


def postings(rows: list[list[int]], counts: list[list[int]] | None = None) -> Postings:
    """Return posting lists of these rows, word by word, each counted once unless said."""
    flat = [row for word in rows for row in word]
    said = [count for word in counts for count in word] if counts else [1] * len(flat)
    offsets = np.cumsum([0] + [len(word) for word in rows], dtype=np.int64)
    return Postings(offsets, np.array(flat, np.uint32), np.array(said, np.uint8))


def test_posting_lists_that_are_whole_pass() -> None:
    postings([[0, 2], [], [1], [0, 1, 2]]).check_rows(3)
    postings([[], []]).check_rows(0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (postings([[0], [2, 1]]), r"that of word 1 has row 1 with a count of 1 at entry 2"),
        (postings([[1, 1]]), r"that of word 0 has row 1 with a count of 1 at entry 1"),
        (postings([[0, 1]], [[1, 0]]), r"that of word 0 has row 1 with a count of 0 at entry 1"),
        (postings([[0, 3], [1]]), r"rows of 3 images end at 2; got 3"),
        (postings([[2**32 - 1]]), r"rows of 3 images end at 2; got 4,294,967,295"),
    ],
)
def test_posting_lists_that_searches_could_not_follow_are_refused(
    wrong: Postings, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        wrong.check_rows(3)


def test_a_folded_posting_is_its_row_before_its_count() -> None:
    folded = fold(postings([[0, 2], [], [1]], [[1, 255], [], [3]]))
    assert folded is not None
    assert folded.tolist() == [0 * 256 + 1, 2 * 256 + 255, 1 * 256 + 3]


def test_postings_whose_numbers_need_more_bits_are_not_folded() -> None:
    last = 2 ** (32 - COUNT_BITS) - 1
    assert fold(postings([[last]])) is not None
    assert fold(postings([[last + 1]])) is None
    wide = Postings(np.array([0, 1]), np.array([0], np.uint32), np.array([256], np.uint16))
    assert fold(wide) is None
