"""Places of words: cells of the grid, as boxes over the picture."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.corpus.resize import Look, whole_look
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.search.located import WordPlaces, rectangles, same_words


def bag(words: list[int], counts: list[int]) -> BagsOfWords:
    offsets = np.array([0, len(words)])
    return BagsOfWords(offsets, np.array(words, np.uint32), np.array(counts, np.uint32))


def test_rectangles_by_hand() -> None:
    # x x .    the first two rows are one rectangle, the cell below another
    # x x .
    # . x x
    cells = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)]
    assert rectangles(cells) == [(0, 1, 0, 1), (2, 2, 1, 2)]
    assert rectangles([]) == []


@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_rectangles_cover_each_cell_once_and_no_other(cells: set[tuple[int, int]]) -> None:
    covered = [
        cell
        for top, bottom, first, last in rectangles(cells)
        for cell in itertools.product(range(top, bottom + 1), range(first, last + 1))
    ]
    assert sorted(covered) == sorted(cells)


def test_boxes_of_a_whole_picture() -> None:
    # 256 x 384 pixels in a grid of 8 x 12: a cell is an eighth of the height, a twelfth across.
    places = WordPlaces({7: [(2, 3), (2, 4)]}, (8, 12), whole_look(256, 384))
    (box,) = places.boxes(7)
    assert box == pytest.approx((3 / 12, 2 / 8, 2 / 12, 1 / 8))
    assert places.boxes(8) == ()


def test_boxes_of_a_crop_lie_inside_the_picture() -> None:
    # The middle 224 of 256 x 320 pixels: from (16, 48). A cell of the grid of 7 x 7 is 32 pixels.
    places = WordPlaces({1: [(0, 0)], 2: [(6, 6)]}, (7, 7), Look(256, 320, 16, 48, 224, 224))
    (box,) = places.boxes(1)
    assert box == pytest.approx((48 / 320, 16 / 256, 32 / 320, 32 / 256))
    (box,) = places.boxes(2)
    assert box == pytest.approx((240 / 320, 208 / 256, 32 / 320, 32 / 256))


def test_the_same_words_as_often() -> None:
    assert same_words(bag([1, 2], [3, 4]), bag([1, 2], [3, 4]))
    assert not same_words(bag([1, 2], [3, 4]), bag([1, 2], [3, 5]))
    assert not same_words(bag([1, 2], [3, 4]), bag([1], [3]))
    with pytest.raises(ValueError, match="bags are compared with bags"):
        same_words(bag([1], [1]), np.zeros((1, 2), np.float32))
