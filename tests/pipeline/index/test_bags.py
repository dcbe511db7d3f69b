import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.index.bags import BagsOfWords, bags_from_words, concatenate, select

images_of_words = st.lists(st.lists(st.integers(0, 12), max_size=9), max_size=7)


def bags_of(images: list[list[int]]) -> BagsOfWords:
    offsets = np.cumsum([0] + [len(image) for image in images], dtype=np.int64)
    return bags_from_words(
        offsets, np.array([w for image in images for w in image], dtype=np.uint32)
    )


def as_dicts(bags: BagsOfWords) -> list[dict[int, int]]:
    cuts = zip(bags.offsets, bags.offsets[1:], strict=False)
    return [
        dict(zip(bags.words[a:b].tolist(), bags.counts[a:b].tolist(), strict=True)) for a, b in cuts
    ]


def test_words_are_counted_by_image() -> None:
    bags = bags_of([[7, 2, 7], [], [2]])
    assert bags.offsets.tolist() == [0, 2, 2, 3]
    assert bags.words.tolist() == [2, 7, 2]
    assert bags.counts.tolist() == [1, 2, 1]
    assert len(bags) == 3


@given(images_of_words)
def test_counts_are_those_of_plain_counting(images: list[list[int]]) -> None:
    assert as_dicts(bags_of(images)) == [{w: image.count(w) for w in image} for image in images]


@given(images_of_words, st.integers(0, 7))
def test_cut_and_concatenated_bags_are_the_same(images: list[list[int]], cut: int) -> None:
    whole, joined = bags_of(images), concatenate([bags_of(images[:cut]), bags_of(images[cut:])])
    assert joined.offsets.tolist() == whole.offsets.tolist()
    assert as_dicts(joined) == as_dicts(whole)


@given(images_of_words.filter(bool), st.data())
def test_selected_rows_keep_their_order(images: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(images) - 1), max_size=6))
    chosen = select(bags_of(images), np.array(rows, dtype=np.int64))
    assert as_dicts(chosen) == [as_dicts(bags_of(images))[row] for row in rows]


@pytest.mark.parametrize(
    ("offsets", "words", "counts", "message"),
    [
        ([0, 2], [3, 3], [1, 1], "image 0 has 3 before 3"),
        ([0, 1, 3], [9, 4, 2], [1, 1, 1], "image 1 has 4 before 2"),
        ([0, 1], [3], [0], "at least once"),
        ([0, 2], [3], [1], "0 to 1"),
        ([0, 2, 1, 2], [3, 4], [1, 1], "must not fall"),
        ([0, 1], [3], [1, 1], "one count a word"),
    ],
)
def test_bags_that_do_not_fit_are_refused(
    offsets: list[int], words: list[int], counts: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BagsOfWords(
            np.array(offsets, dtype=np.int64),
            np.array(words, dtype=np.uint32),
            np.array(counts, dtype=np.uint32),
        )


def test_another_dtype_is_refused_and_arrays_cannot_be_written() -> None:
    bags = bags_of([[1]])
    with pytest.raises(ValueError, match="uint32"):
        BagsOfWords(bags.offsets, bags.words.astype(np.int64), bags.counts)
    with pytest.raises(ValueError, match="read-only"):
        bags.words[0] = 2
