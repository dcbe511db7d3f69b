import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.index.postings import Postings
from lamella.pipeline.search.entries import entries_from

IMAGES = 300


@given(
    st.lists(st.sets(st.integers(0, IMAGES - 1), max_size=120), max_size=20),
    st.integers(0, IMAGES - 1),
)
@settings(deadline=None)
def test_lists_are_entered_at_the_first_row_that_is_not_before(
    lists: list[set[int]], row: int
) -> None:
    lists += [set(range(290, 300)), set(range(10))]  # far from where even rows would be
    rows = np.array([one for each in lists for one in sorted(each)], np.uint32)
    offsets = np.cumsum([0] + [len(each) for each in lists], dtype=np.int64)
    postings = Postings(offsets, rows, np.ones(len(rows), np.uint8))
    words = np.arange(len(lists), dtype=np.uint32)
    places = entries_from(postings, words, row, IMAGES) - offsets[:-1]
    assert places.tolist() == [sum(one < row for one in each) for each in lists]
