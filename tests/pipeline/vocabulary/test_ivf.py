"""Cells over the words: all are the exact search, few are a slow definition, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.assign import Assigner, Assignment, ExactAssigner
from lamella.pipeline.vocabulary.compare import squared_norms_of
from lamella.pipeline.vocabulary.ivf import (
    FAR,
    NEAR,
    Cells,
    CellsAssigner,
    NeighboursAssigner,
    Placed,
    Reach,
    count_cells,
    first_cells,
    neighbours_of,
    next_cells,
)
from lamella.pipeline.vocabulary.ivf_files import (
    read_cells,
    read_neighbours,
    write_cells,
    write_neighbours,
)
from tests.pipeline.vocabulary.vectors import clustered, plain_distances

Floats = NDArray[np.float32]
ROWS = clustered(1_700, 16, 90)
WORDS, QUERIES = ROWS[:700], ROWS[700:]
CELLS = first_cells(WORDS)
SIZES = [1, 2, 5, 64, 65, 300]
seeds = st.integers(0, 2**32 - 1)


def assert_same(left: Assignment, right: Assignment) -> None:
    """Both give the same bits."""
    np.testing.assert_array_equal(left.words, right.words)
    np.testing.assert_array_equal(left.squared_distances, right.squared_distances)


def slow_cells(words: Floats, cells: Cells, probes: int, rows: Floats) -> Assignment:
    """Return the nearest word in the nearest cells, one row after another in float64."""
    to_words, to_centres = plain_distances(rows, words), plain_distances(rows, cells.centres)
    found, distances = [], []
    for row in range(len(rows)):
        near = sorted((to_centres[row, cell], cell) for cell in range(len(cells)))[:probes]
        seen = [int(word) for _, cell in near for word in cells.words(cell)]
        distance, word = min((to_words[row, w], w) for w in seen or range(len(words)))
        found.append(word)
        distances.append(distance)
    return Assignment(np.array(found, np.uint32), np.array(distances, np.float64))


def slow_neighbours(words: Floats, cells: Cells, reach: Reach = NEAR) -> NDArray[np.uint32]:
    """Return the neighbours of all words by their definition, in the order of `members`."""
    count = min(len(words), reach.words)
    between = plain_distances(words, words)
    found = []
    for cell in range(len(cells)):
        away = squared_norms_of(cells.centres - cells.centres[cell])
        away[cell] = -1  # its own cell comes first, whichever others have the same centre
        pool: list[int] = []
        for place, other in enumerate(np.argsort(away, kind="stable").tolist()):
            if place < reach.cells or len(pool) < count:
                pool += cells.words(other).tolist()
        for word in cells.words(cell).tolist():
            nearest = sorted((between[word, other], other) for other in pool)[:count]
            found.append(sorted(other for _, other in nearest))
    return np.array(found, np.uint32)


def hard_words(draw: np.random.Generator, count: int, dimensions: int) -> Floats:
    """Words of which some are equal and some hard to tell apart."""
    base = clustered(max(1, count // 2), dimensions, 5, seed=int(draw.integers(1 << 30)))
    shift = draw.choice([0.0, 1e-7, 0.1], size=(count, 1))
    noise = draw.standard_normal((count, dimensions))
    return (base[draw.integers(len(base), size=count)] + shift * noise).astype(np.float32)


def test_two_sqrt_of_the_words_are_cells() -> None:
    # 2 sqrt(1) = 2, but no more than words;  2 sqrt(2) = 2.8 -> 3;  2 sqrt(5) = 4.5 -> 4
    assert [count_cells(words) for words in (1, 2, 5, 100, 20_000)] == [1, 2, 4, 20, 283]


def test_the_next_cells_worked_by_hand() -> None:
    words = np.array([[0], [1], [2], [10], [5.5]], np.float32)
    cells = next_cells(words, np.array([[1], [10], [50]], np.float32))
    # 5.5 lies 4.5 from the centres 1 and 10: the lower cell. No word is nearest to 50: it stays.
    assert [cells.words(cell).tolist() for cell in range(3)] == [[0, 1, 2, 4], [3], []]
    assert cells.centres.tolist() == [[2.125], [10], [50]]  # (0 + 1 + 2 + 5.5) / 4


@pytest.mark.parametrize("count", SIZES)
def test_every_word_is_in_exactly_one_cell(count: int) -> None:
    for words in (WORDS[:count], np.repeat(WORDS[:1], count, axis=0)):
        cells = first_cells(words)
        assert len(cells) == count_cells(count)
        for each in (cells, next_cells(words, cells.centres)):
            assert sorted(each.members.tolist()) == list(range(count))
            lists = [each.words(cell) for cell in range(len(each))]
            assert sum(map(len, lists)) == count
            assert all(np.all(np.diff(one.astype(np.int64)) > 0) for one in lists)


@pytest.mark.parametrize("count", SIZES)
def test_all_cells_are_the_exact_search(count: int) -> None:
    words, cells = WORDS[:count], first_cells(WORDS[:count])
    for probes in (len(cells), len(cells) + 9):
        assert_same(
            CellsAssigner(words, cells, probes).assign(QUERIES),
            ExactAssigner(words).assign(QUERIES),
        )


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([1, 2, 3, 5, 20, 90]), st.integers(1, 9))
def test_all_cells_are_the_exact_search_where_words_crowd(
    seed: int, count: int, dimensions: int
) -> None:
    draw = np.random.default_rng(seed)
    words, rows = hard_words(draw, count, dimensions), hard_words(draw, 30, dimensions)
    rows = np.concatenate([rows, words])
    cells = first_cells(words)
    exact = ExactAssigner(words).assign(rows)
    assert_same(CellsAssigner(words, cells, len(cells)).assign(rows), exact)


@pytest.mark.parametrize("probes", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 5, 300])
def test_few_cells_are_the_slow_definition(probes: int, count: int) -> None:
    words, rows = WORDS[:count], QUERIES[:200]
    cells = first_cells(words)
    assert_same(
        CellsAssigner(words, cells, probes).assign(rows), slow_cells(words, cells, probes, rows)
    )


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 60), st.integers(1, 9), st.integers(1, 4))
def test_few_cells_are_the_slow_definition_where_words_crowd(
    seed: int, count: int, dimensions: int, probes: int
) -> None:
    draw = np.random.default_rng(seed)
    words, rows = hard_words(draw, count, dimensions), hard_words(draw, 20, dimensions)
    # Centres are those of other words, some twice: ties between cells, and empty ones.
    centres = hard_words(draw, int(draw.integers(1, 12)), dimensions)
    cells = next_cells(words, np.concatenate([centres, centres[:2]]))
    assert_same(
        CellsAssigner(words, cells, probes).assign(rows), slow_cells(words, cells, probes, rows)
    )


def test_a_row_whose_cells_are_all_empty_is_compared_with_every_word() -> None:
    words = np.array([[0], [4], [9]], np.float32)
    centres = np.array([[2], [100], [200]], np.float32)
    cells = Cells(centres, np.array([0, 3, 3, 3]), np.array([0, 1, 2], np.uint32))
    rows = np.array([[3], [150], [99]], np.float32)
    # 150 is as far from 100 as from 200, and 99 is next to 100: with two probes 150 sees only
    # empty cells, 99 sees the cells of 100 and of 2.
    assert CellsAssigner(words, cells, 1).assign(rows).words.tolist() == [1, 2, 2]
    found = CellsAssigner(words, cells, 2).assign(rows)
    assert found.words.tolist() == [1, 2, 2]
    assert found.squared_distances.tolist() == [1, 141**2, 90**2]


def test_a_word_does_not_depend_on_the_batch() -> None:
    assigner: Assigner = CellsAssigner(WORDS, CELLS, 2)
    rows = QUERIES[:300]
    whole = assigner.assign(rows)
    order = np.random.default_rng(3).permutation(len(rows))
    shuffled, doubled = assigner.assign(rows[order]), assigner.assign(np.repeat(rows, 2, axis=0))
    alone = [assigner.assign(rows[row : row + 1]) for row in range(len(rows))]
    for field in ("words", "squared_distances"):
        expected = getattr(whole, field)
        np.testing.assert_array_equal(getattr(shuffled, field), expected[order])
        np.testing.assert_array_equal(getattr(doubled, field), np.repeat(expected, 2))
        np.testing.assert_array_equal(np.concatenate([getattr(a, field) for a in alone]), expected)


def test_a_word_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    assigner = CellsAssigner(WORDS, CELLS, 2)
    whole = assigner.assign(QUERIES)
    monkeypatch.setattr("lamella.pipeline.vocabulary.ivf.BLOCK_ROWS", 37)
    assert_same(assigner.assign(QUERIES), whole)


@pytest.mark.parametrize("count", SIZES)
def test_neighbours_are_the_brute_force_definition(count: int) -> None:
    words, cells = WORDS[:count], first_cells(WORDS[:count])
    found = neighbours_of(words, cells)
    np.testing.assert_array_equal(found, slow_neighbours(words, cells))
    assert all(word in near for word, near in zip(cells.members, found, strict=True))


def test_neighbours_of_more_cells_than_are_looked_into() -> None:
    assert len(CELLS) > 2 * NEAR.cells
    for reach in (NEAR, FAR):
        found = neighbours_of(WORDS, CELLS, reach)
        np.testing.assert_array_equal(found, slow_neighbours(WORDS, CELLS, reach))
        assert found.shape == (700, reach.words)


def test_many_small_cells_give_as_many_neighbours() -> None:
    words = WORDS[:200]
    centres = np.concatenate(
        [words, np.full((50, 16), 9, np.float32)]
    )  # a word a cell, and 50 empty
    cells = next_cells(words, centres)
    np.testing.assert_array_equal(neighbours_of(words, cells), slow_neighbours(words, cells))


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 100))
def test_neighbours_where_words_crowd(seed: int, count: int) -> None:
    words = hard_words(np.random.default_rng(seed), count, 4)
    cells = first_cells(words)
    np.testing.assert_array_equal(neighbours_of(words, cells), slow_neighbours(words, cells))


def test_the_own_cell_is_looked_into_first_whichever_others_have_its_centre() -> None:
    words = WORDS[:120]
    centres = np.repeat(words[:1], NEAR.cells + 6, axis=0)
    cells = Cells(centres, np.arange(0, 121, 4), np.arange(120, dtype=np.uint32))
    found = neighbours_of(words, cells)
    np.testing.assert_array_equal(found, slow_neighbours(words, cells))
    assert all(word in near for word, near in zip(cells.members, found, strict=True))


def test_neighbours_are_found_cell_by_cell() -> None:
    starts = range(0, len(CELLS), 7)
    parts = [neighbours_of(WORDS, CELLS, FAR, first, first + 7) for first in starts]
    # The last part ends past the cells there are, which is no cell more.
    np.testing.assert_array_equal(np.concatenate(parts), neighbours_of(WORDS, CELLS, FAR))
    assert neighbours_of(WORDS, CELLS, FAR, 5, 5).shape == (0, FAR.words)


@pytest.mark.parametrize("count", [1, 2, 5, NEAR.words])
def test_all_words_as_neighbours_are_the_exact_search(count: int) -> None:
    words, cells = WORDS[:count], first_cells(WORDS[:count])
    lasts = np.random.default_rng(1).integers(count, size=len(QUERIES), dtype=np.uint32)
    found = NeighboursAssigner(words, cells, neighbours_of(words, cells)).assign(QUERIES, lasts)
    assert_same(found, ExactAssigner(words).assign(QUERIES))


def test_a_row_gets_the_nearest_neighbour_of_the_word_it_had() -> None:
    lasts = np.random.default_rng(2).integers(700, size=len(QUERIES), dtype=np.uint32)
    near = neighbours_of(WORDS, CELLS)
    assigner = NeighboursAssigner(WORDS, CELLS, near)
    whole = assigner.assign(QUERIES, lasts)
    plain = plain_distances(QUERIES, WORDS)
    places = {int(word): place for place, word in enumerate(CELLS.members)}
    slow = [
        min((plain[row, word], word) for word in near[places[int(last)]].tolist())
        for row, last in enumerate(lasts)
    ]
    found = zip(whole.squared_distances.tolist(), whole.words.tolist(), strict=True)
    assert list(found) == slow
    order = assigner.order(lasts)
    assert sorted(order.tolist()) == list(range(len(QUERIES)))
    ordered = assigner.assign(QUERIES[order], lasts[order])
    np.testing.assert_array_equal(ordered.words, whole.words[order])


def test_a_word_put_on_a_far_row_is_found_from_its_host() -> None:
    words = np.array([[0], [1], [50], [51], [9]], np.float32)
    cells = Cells(
        np.array([[0.5], [50.5]], np.float32), np.array([0, 2, 5]), np.arange(5, dtype=np.uint32)
    )
    alone = cells.members[:, None]  # each word has but itself for a neighbour
    rows = np.array([[8], [8], [9]], np.float32)
    lasts = np.array([1, 0, 3], np.uint32)
    placed = Placed(np.array([4, 2], np.uint32), np.array([1, 0], np.uint32))
    # From word 1 the word 4 is found at (9 - 8)^2; from word 0 the word 2, farther than 8^2 is.
    found = NeighboursAssigner(words, cells, alone, placed).assign(rows, lasts)
    assert found.words.tolist() == [4, 0, 3]
    assert found.squared_distances.tolist() == [1, 64, 42**2]
    without = NeighboursAssigner(words, cells, alone).assign(rows, lasts)
    assert without.words.tolist() == [1, 0, 3]


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(0, 40))
def test_a_row_is_compared_with_neighbours_and_what_was_placed(seed: int, many: int) -> None:
    draw = np.random.default_rng(seed)
    placed = Placed(
        draw.integers(700, size=many, dtype=np.uint32),
        draw.integers(60, size=many, dtype=np.uint32),
    )
    lasts = draw.integers(60, size=200, dtype=np.uint32)
    near = neighbours_of(WORDS, CELLS)
    found = NeighboursAssigner(WORDS, CELLS, near, placed).assign(QUERIES[:200], lasts)
    plain = plain_distances(QUERIES[:200], WORDS)
    lists = {int(word): near[place].tolist() for place, word in enumerate(CELLS.members)}
    for word, host in zip(placed.words.tolist(), placed.hosts.tolist(), strict=True):
        lists[host].append(word)
    slow = [
        min((plain[row, word], word) for word in lists[int(last)]) for row, last in enumerate(lasts)
    ]
    assert list(zip(found.squared_distances.tolist(), found.words.tolist(), strict=True)) == slow


def test_followed_words_are_nearly_always_the_nearest() -> None:
    steps = 0.01 * np.random.default_rng(0).standard_normal(WORDS.shape)
    words = (WORDS + steps).astype(np.float32)  # by some .04 each, where rows are 1 long
    lasts = ExactAssigner(WORDS).assign(QUERIES).words
    cells = next_cells(words, CELLS.centres)
    found = NeighboursAssigner(words, cells, neighbours_of(words, cells)).assign(QUERIES, lasts)
    assert np.mean(found.words == ExactAssigner(words).assign(QUERIES).words) >= 0.98


@pytest.mark.parametrize("count", [1, 5, 700])
def test_files_give_back_what_was_written(count: int, tmp_path: Path) -> None:
    far = np.full((1, 16), 99, np.float32)  # the centre of an empty cell
    cells = next_cells(WORDS[:count], np.concatenate([first_cells(WORDS[:count]).centres, far]))
    assert write_cells(cells, tmp_path / "cells") == len(cells)
    again = read_cells(tmp_path / "cells")
    for field in ("centres", "offsets", "members"):
        np.testing.assert_array_equal(getattr(again, field), getattr(cells, field))
        assert getattr(again, field).dtype == getattr(cells, field).dtype
    near = neighbours_of(WORDS[:count], cells)
    assert write_neighbours(near, tmp_path / "near") == count
    np.testing.assert_array_equal(read_neighbours(tmp_path / "near"), near)
    assigner = CellsAssigner(WORDS[:count], again, 2)
    assert_same(assigner.assign(QUERIES), CellsAssigner(WORDS[:count], cells, 2).assign(QUERIES))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="700 words in cells for 5"):
        CellsAssigner(WORDS[:5], CELLS, 1)
    with pytest.raises(ValueError, match="0 probes"):
        CellsAssigner(WORDS, CELLS, 0)
    with pytest.raises(ValueError, match="one list a centre"):
        Cells(CELLS.centres, CELLS.offsets[:-1], CELLS.members)
    with pytest.raises(ValueError, match="the 16 dimensions of the words; got 15"):
        CellsAssigner(WORDS, CELLS, 1).assign(QUERIES[:, :15])
    bad = QUERIES[:5].copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="row 3 is not"):
        CellsAssigner(WORDS, CELLS, 1).assign(bad)
