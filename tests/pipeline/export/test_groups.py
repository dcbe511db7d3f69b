"""Groups are connected components; what is not kept makes a pair with what is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.export.groups import NONE, group_pairs

PIXELS = st.lists(st.integers(1, 4), min_size=2, max_size=12)


def found(pairs: dict[tuple[int, int], float], pixels: list[int]) -> tuple[list[int], ...]:
    first, second = (np.array([pair[end] for pair in pairs], np.int64) for end in (0, 1))
    grouping = group_pairs(first, second, np.array(list(pairs.values())), np.array(pixels))
    columns: tuple[Int64s, ...] = (grouping.group, grouping.order, grouping.like)
    return tuple(column.tolist() for column in columns)


def test_a_chain_keeps_both_ends_where_the_middle_is_like_both() -> None:
    """0 - 1 - 2: 2 is the largest and is kept; 1 is like it; 0 makes no pair with 2, so it stays.

    1 goes, and is more like 0 (.9) than 2 (.8).
    """
    group, order, like = found({(0, 1): 0.9, (1, 2): 0.8}, [5, 6, 7])
    assert (group, order) == ([0, 0, 0], [2, 1, 0])
    assert like == [NONE, 0, NONE]


def test_the_largest_picture_of_copies_is_kept_and_of_equal_ones_the_first() -> None:
    pairs = {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 1.0}
    assert found(pairs, [4, 9, 9]) == ([0, 0, 0], [1, 2, 0], [1, NONE, 1])


def test_groups_go_by_size_and_then_by_their_lowest_picture() -> None:
    pairs = {(0, 5): 1.0, (1, 4): 1.0, (2, 3): 1.0, (3, 6): 1.0}
    group, order, _ = found(pairs, [1] * 7)
    assert group == [1, 2, 0, 0, 2, 1, 0]
    assert order == [2, 3, 6, 0, 5, 1, 4]


def test_no_pairs_give_no_groups() -> None:
    assert found({}, []) == ([], [], [])


@given(data=st.data(), pixels=PIXELS)
def test_components_and_keepers_of_any_pairs(data: st.DataObject, pixels: list[int]) -> None:
    every = [(a, b) for b in range(len(pixels)) for a in range(b)]
    chosen = data.draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    pairs = {pair: data.draw(st.sampled_from([0.5, 0.7, 0.9])) for pair in chosen}
    held = sorted({end for pair in pairs for end in pair})
    places = {end: place for place, end in enumerate(held)}
    pairs = {(places[a], places[b]): score for (a, b), score in pairs.items()}
    sizes = [pixels[end] for end in held]
    group, order, like = found(pairs, sizes)

    slow = list(range(len(held)))  # the lowest picture that each is linked to
    for _ in held:
        for a, b in pairs:
            slow[a] = slow[b] = min(slow[a], slow[b])
    for a in range(len(held)):
        assert [group[a] == group[b] for b in range(len(held))] == [s == slow[a] for s in slow]
    assert sorted(order) == list(range(len(held)))
    keys = [(group[place], -sizes[place], place) for place in order]
    assert keys == sorted(keys)

    kept = {place for place in range(len(held)) if like[place] == NONE}
    for place in range(len(held)):
        partners = {a + b - place: s for (a, b), s in pairs.items() if place in (a, b)}
        if place in kept:
            assert not kept & partners.keys()
        else:
            best = max(s for other, s in partners.items() if other in kept)
            assert partners[like[place]] == best
    for number in set(group):
        first = next(place for place in order if group[place] == number)
        assert first in kept
