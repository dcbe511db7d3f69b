"""Nearest words: worked by hand, against a plain loop, and however the rows are batched."""

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lamella.pipeline.vocabulary.assign import Assigner, Assignment, ExactAssigner, measure_recall
from lamella.pipeline.vocabulary.choose import EXACT_UP_TO, choose_assigner, exact_assigner
from lamella.pipeline.vocabulary.ivf import CellsAssigner, first_cells
from lamella.schemas.vocabulary import AssignerKind, VocabularySpec
from tests.pipeline.vocabulary.vectors import clustered, plain_distances

KINDS: tuple[AssignerKind, ...] = ("exact", "cells")
ROWS = clustered(1_300, 32, 100)
WORDS, QUERIES = ROWS[:300], ROWS[300:]


def make_assigner(kind: AssignerKind, words: NDArray[np.float32], probes: int = 2) -> Assigner:
    """Return what assigns to the words."""
    if kind == "exact":
        return exact_assigner(words)
    return CellsAssigner(words, first_cells(words), probes)


@pytest.mark.parametrize("kind", KINDS)
def test_three_rows_worked_by_hand(kind: AssignerKind) -> None:
    words = np.array([[0, 0], [4, 0]], np.float32)
    rows = np.array([[1, 1], [3, 2], [2, 5]], np.float32)
    assignment = make_assigner(kind, words).assign(rows)
    # 1 + 1 = 2;  (3 - 4)^2 + 2^2 = 5;  2^2 + 5^2 = 29 to both: the lower word
    assert assignment.words.tolist() == [0, 1, 0]
    assert assignment.squared_distances.tolist() == [2, 5, 29]


def test_exact_is_the_plain_search_bit_for_bit() -> None:
    distances = plain_distances(QUERIES, WORDS)
    assignment = ExactAssigner(WORDS).assign(QUERIES)
    np.testing.assert_array_equal(assignment.words, distances.argmin(axis=1))
    np.testing.assert_array_equal(assignment.squared_distances, distances.min(axis=1))
    assert assignment.words.dtype == np.uint32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e9])
@pytest.mark.parametrize("offset", [0.0, 1_000.0])
def test_words_closer_than_float32_can_tell_are_told_apart(
    kind: AssignerKind, scale: float, offset: float
) -> None:
    words = ((WORDS * 1e-4 + offset) * scale).astype(np.float32)
    rows = ((QUERIES * 1e-4 + offset) * scale).astype(np.float32)
    assignment = make_assigner(kind, words, probes=300).assign(rows)
    np.testing.assert_array_equal(assignment.words, plain_distances(rows, words).argmin(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_words_give_the_lowest(kind: AssignerKind) -> None:
    twice = np.concatenate([WORDS, WORDS, WORDS[:1]])
    assignment = make_assigner(kind, twice, probes=100).assign(WORDS)
    assert assignment.words.tolist() == list(range(300))
    assert not assignment.squared_distances.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 7, 999])
def test_a_word_does_not_depend_on_the_batch(kind: AssignerKind, batch: int) -> None:
    assigner = make_assigner(kind, WORDS)
    whole = assigner.assign(QUERIES)
    parts = [assigner.assign(QUERIES[at : at + batch]) for at in range(0, len(QUERIES), batch)]
    np.testing.assert_array_equal(np.concatenate([part.words for part in parts]), whole.words)
    np.testing.assert_array_equal(
        np.concatenate([part.squared_distances for part in parts]), whole.squared_distances
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_does_not_depend_on_threads(kind: AssignerKind) -> None:
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            answers.append(make_assigner(kind, WORDS).assign(QUERIES))
    np.testing.assert_array_equal(answers[0].words, answers[1].words)
    np.testing.assert_array_equal(answers[0].squared_distances, answers[1].squared_distances)


def test_a_word_does_not_depend_on_the_block() -> None:
    answers = [ExactAssigner(WORDS, block).assign(QUERIES) for block in (1, 64, 5_000)]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.words, answers[0].words)


def test_recall_counts_rows_with_a_nearest_word() -> None:
    words = np.array([[0.0], [1.0], [1.0]], np.float32)
    rows = np.array([[0.0], [1.0], [0.9], [0.1]], np.float32)
    exact = ExactAssigner(words)
    # Without word 0, the rows 0 and .1 miss; .9 and 1 find an equally near word: 2 of 4.
    assert measure_recall(ExactAssigner(words[1:]), exact, rows) == 0.5
    assert measure_recall(exact, exact, rows[:0]) == 1.0


def test_more_cells_find_more() -> None:
    rows = clustered(12_000, 64, 800)
    words, queries = rows[:2_000], rows[2_000:4_000]
    exact, cells = ExactAssigner(words), first_cells(words)
    recalls = [
        measure_recall(CellsAssigner(words, cells, probes), exact, queries)
        for probes in (1, 4, 16, len(cells))
    ]
    assert recalls == sorted(recalls)
    assert recalls[2] >= 0.95
    assert recalls[3] == 1.0


def test_auto_is_exact_while_words_are_few() -> None:
    assert choose_assigner(EXACT_UP_TO, VocabularySpec()) == "exact"
    assert choose_assigner(EXACT_UP_TO + 1, VocabularySpec()) == "cells"
    assert choose_assigner(1, VocabularySpec(assigner="cells")) == "cells"
    assert choose_assigner(1_000_000, VocabularySpec(assigner="exact")) == "exact"


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_get_no_words(kind: AssignerKind) -> None:
    assert len(make_assigner(kind, WORDS).assign(QUERIES[:0]).words) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_compared_is_refused(kind: AssignerKind) -> None:
    assigner = make_assigner(kind, WORDS)
    bad = QUERIES[:5].copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="row 3 is not"):
        assigner.assign(bad)
    with pytest.raises(ValueError, match="float32"):
        assigner.assign(QUERIES.astype(np.float64))
    with pytest.raises(ValueError, match="the 32 dimensions of the words; got 31"):
        assigner.assign(QUERIES[:, :31])
    with pytest.raises(ValueError, match="one distance a word"):
        Assignment(np.zeros(3, np.uint32), np.zeros(2))


def test_a_vocabulary_without_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 word"):
        ExactAssigner(WORDS[:0])


def plain_nearest(
    rows: NDArray[np.float32], words: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Return the nearest words of each row, rising; the lowest of equals."""
    order = np.argsort(plain_distances(rows, words), axis=1, kind="stable")
    return np.sort(order[:, :count], axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 16, 300])
def test_several_nearest_words_are_those_of_the_plain_search(
    kind: AssignerKind, count: int
) -> None:
    found = make_assigner(kind, WORDS, probes=300).nearest(QUERIES, count)
    np.testing.assert_array_equal(found, plain_nearest(QUERIES, WORDS, count))
    assert found.dtype == np.uint32


@pytest.mark.parametrize("kind", KINDS)
def test_several_nearest_words_are_told_apart_in_float64(kind: AssignerKind) -> None:
    words = (WORDS * 1e-4 + 1_000.0).astype(np.float32)
    rows = (QUERIES * 1e-4 + 1_000.0).astype(np.float32)
    found = make_assigner(kind, words, probes=300).nearest(rows, 3)
    np.testing.assert_array_equal(found, plain_nearest(rows, words, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_of_equal_words_the_lowest_are_among_the_nearest(kind: AssignerKind) -> None:
    twice = np.concatenate([WORDS, WORDS])
    found = make_assigner(kind, twice, probes=100).nearest(WORDS, 1)
    assert found[:, 0].tolist() == list(range(300))


def test_cells_with_too_few_words_ask_all_of_them() -> None:
    assigner = CellsAssigner(WORDS, first_cells(WORDS), 1)
    few = assigner.nearest(QUERIES, 250)  # no cell has so many
    np.testing.assert_array_equal(few, plain_nearest(QUERIES, WORDS, 250))


@pytest.mark.parametrize("count", [0, 301])
@pytest.mark.parametrize("kind", KINDS)
def test_more_words_than_there_are_cannot_be_nearest(kind: AssignerKind, count: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to all 300 words; got {count}"):
        make_assigner(kind, WORDS).nearest(QUERIES, count)
