"""One task of a round: its sums, its far rows and what it checks, however rows are cut."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.vocabulary import round_assigner as words_module
from lamella.pipeline.vocabulary.assign import Assigner, Assignment, ExactAssigner
from lamella.pipeline.vocabulary.batches import Window, row_uniforms, seeding_rows
from lamella.pipeline.vocabulary.ivf import (
    CellsAssigner,
    NeighboursAssigner,
    Placed,
    first_cells,
    neighbours_of,
)
from lamella.pipeline.vocabulary.partial import ERROR_SCALE, Partial, Tally, merge_tallies
from lamella.pipeline.vocabulary.round_assigner import FIRST_PROBES, UNSEEN, RoundWords
from lamella.pipeline.vocabulary.sample import Sample
from lamella.pipeline.vocabulary.sums import CHECKED_ROWS, sum_rows, unseen
from lamella.schemas.vocabulary import AssignerKind, VocabularySpec
from tests.pipeline.vocabulary.vectors import clustered, sample_of

SAMPLE = sample_of(clustered(2_000, 16, 90))
ALL = Window(0.0, 1.0)
SPEC = VocabularySpec(seed=5)
KINDS: tuple[AssignerKind, ...] = ("exact", "cells")


def round_words(kind: AssignerKind, count: int = 200) -> RoundWords:
    """Words of a later round: some rows, and for cells their neighbours."""
    centroids = SAMPLE.descriptors(slice(0, count))
    if kind == "exact":
        return RoundWords(centroids)
    cells = first_cells(centroids)
    return RoundWords(centroids, cells, neighbours_of(centroids, cells))


def some_lasts(count: int = 200) -> NDArray[np.uint32]:
    """Return last words of the rows, of which every third was never seen."""
    lasts = np.random.default_rng(1).integers(count, size=len(SAMPLE), dtype=np.uint32)
    lasts[::3] = UNSEEN
    return lasts


def summed(
    words: RoundWords, rows: NDArray[np.int64] | slice, window: Window = ALL, threads: int = 1
) -> tuple[Partial, NDArray[np.uint32]]:
    """Return the sums of a task with these rows of the sample."""
    return sum_rows(
        words,
        SAMPLE.rows(rows),
        some_lasts()[rows],
        window,
        SPEC,
        number=3,
        rows_in_all=len(SAMPLE),
        spares=25,
        threads=threads,
    )


def joined(parts: list[Partial]) -> Partial:
    """Return what several tasks come to."""
    tally, spares = merge_tallies(
        [each.tally for each in parts], [each.spares for each in parts], 25
    )
    sums = np.sum([each.sums for each in parts], axis=0)
    counts = np.sum([each.counts for each in parts], axis=0)
    return Partial(sums, counts, tally, spares)


def assert_same_bits(left: Partial, right: Partial) -> None:
    np.testing.assert_array_equal(left.sums, right.sums)
    np.testing.assert_array_equal(left.counts, right.counts)
    assert left.tally == right.tally
    for field in fields(left.spares):
        np.testing.assert_array_equal(
            getattr(left.spares, field.name), getattr(right.spares, field.name)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_five_rows_worked_by_hand(kind: AssignerKind) -> None:
    rows = sample_of(np.array([[0], [1], [10], [11], [12]]))
    centroids = np.array([[0], [99], [10]], np.float32)
    words = RoundWords(centroids, first_cells(centroids) if kind == "cells" else None)
    partial, now = sum_rows(words, rows, unseen(5), ALL, SPEC, number=0, rows_in_all=5, spares=9)
    assert now.tolist() == [0, 0, 2, 2, 2]
    assert partial.sums.tolist() == [[1.0], [0.0], [33.0]]  # 0 + 1;  10 + 11 + 12
    assert partial.counts.tolist() == [2, 0, 3]
    assert partial.tally.rows == 5
    assert partial.tally.squared_error == 6 * ERROR_SCALE  # 0 + 1 + 0 + 1 + 4
    assert sorted(partial.spares.descriptors[:, 0].tolist()) == [1, 11, 12]
    # Five rows are fewer than are checked, so all are; not where all words are compared anyway.
    assert (partial.tally.checked, partial.tally.recall) == (5 if kind == "cells" else 0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cut_order_or_thread_changes_a_bit(
    kind: AssignerKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words_module, "CHUNK_ROWS", 64)
    words = round_words(kind)
    whole, now = summed(words, slice(None))
    for task_rows, threads in ((97, 1), (97, 3), (700, 2), (2_000, 3)):
        cuts = [slice(start, start + task_rows) for start in range(0, len(SAMPLE), task_rows)]
        parts = [summed(words, cut, threads=threads) for cut in cuts]
        assert_same_bits(joined([part for part, _ in parts]), whole)
        assert_same_bits(joined([part for part, _ in parts[::-1]]), whole)
        np.testing.assert_array_equal(np.concatenate([lasts for _, lasts in parts]), now)
    order = np.random.default_rng(8).permutation(len(SAMPLE))
    shuffled, lasts = summed(words, order)
    assert_same_bits(shuffled, whole)
    np.testing.assert_array_equal(lasts, now[order])


def test_sums_are_those_of_the_words_found() -> None:
    partial, now = summed(round_words("cells"), slice(None))
    plain = np.zeros((200, 16))
    for word, row in zip(now, SAMPLE.descriptors(), strict=True):
        plain[word] += row
    np.testing.assert_array_equal(partial.sums, plain)
    np.testing.assert_array_equal(partial.counts, np.bincount(now, minlength=200))


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_over_a_window_sees_its_rows_alone(kind: AssignerKind) -> None:
    words, window = round_words(kind), Window(0.6, 0.5)
    uniforms = row_uniforms(SPEC.seed, SAMPLE.image_ids, SAMPLE.positions)
    inside = (uniforms >= 0.6) | (uniforms < 0.1)
    partial, now = summed(words, slice(None), window)
    assert_same_bits(partial, summed(words, np.flatnonzero(inside))[0])
    assert partial.tally.rows == np.count_nonzero(inside)
    np.testing.assert_array_equal(now[~inside], some_lasts()[~inside])
    assert np.all(now[inside] < 200)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_rows_adds_nothing(kind: AssignerKind) -> None:
    partial, now = summed(round_words(kind), slice(0, 0))
    assert (len(now), partial.tally, len(partial.spares)) == (0, Tally(), 0)
    assert not partial.sums.any()
    assert not partial.counts.any()


class Recorder:
    """Compares with all words and keeps what it was asked."""

    def __init__(self, exact: Assigner) -> None:
        self.exact = exact
        self.asked: list[bytes] = []

    def assign(self, descriptors: NDArray[np.float32]) -> Assignment:
        self.asked += [row.tobytes() for row in descriptors]
        return self.exact.assign(descriptors)


def test_recall_is_measured_on_about_a_thousand_rows_that_are_not_the_seeds() -> None:
    sample = sample_of(clustered(8_000, 16, 300))
    spec, count = VocabularySpec(seed=11), 1_000
    seeds = seeding_rows(spec.seed, sample.image_ids, sample.positions, 2 * count)
    centroids = sample.descriptors(seeds[:count])
    words = RoundWords(centroids, first_cells(centroids))
    recorder = Recorder(ExactAssigner(centroids))
    vars(words)["exact"] = recorder  # in the place of what it would make itself
    rows = {row.tobytes(): place for place, row in enumerate(sample.descriptors())}
    assert len(rows) == 8_000
    checks = []
    for number in range(2):
        recorder.asked.clear()
        partial, now = sum_rows(
            words, sample, unseen(8_000), ALL, spec, number=number, rows_in_all=8_000, spares=0
        )
        checked = np.array([rows[row] for row in recorder.asked])
        assert len(checked) == partial.tally.checked
        assert abs(len(checked) - CHECKED_ROWS) < 150  # five times sqrt(1000 * 7/8) = 30
        exact = ExactAssigner(centroids).assign(sample.descriptors(checked))
        # Words are distinct, so that a nearest word is the nearest word.
        assert partial.tally.nearest == np.count_nonzero(exact.words == now[checked])
        # A seed is at distance 0 of its word. Seeds are 1/8 of all rows, and no more of these.
        assert abs(np.isin(checked, seeds[:count]).mean() - 1 / 8) < 0.055  # five deviations
        checks.append(set(checked.tolist()))
    assert len(checks[0] & checks[1]) < 250  # other rows in another round: some 1/8 of 1,000


def test_recall_counts_the_rows_whose_word_is_the_nearest() -> None:
    centroids = np.array([[0], [1], [5]], np.float32)
    cells = first_cells(centroids)
    # Neighbours of themselves alone: rows stay at the words they had.
    words = RoundWords(centroids, cells, cells.members[:, None])
    rows = sample_of(np.array([[0], [1], [3], [5], [0]]))
    partial, now = sum_rows(
        words,
        rows,
        np.array([0, 0, 1, 1, 2], np.uint32),
        ALL,
        SPEC,
        number=0,
        rows_in_all=5,
        spares=0,
    )
    assert now.tolist() == [0, 0, 1, 1, 2]
    # 0 is right, 1 is not; 3 lies 2 from the words 1 and 5: one of the nearest; 5 and 0 are not.
    assert (partial.tally.checked, partial.tally.nearest) == (5, 2)
    assert partial.tally.squared_error == (0 + 1 + 4 + 16 + 25) * ERROR_SCALE


def test_rows_come_once_each_with_what_their_assigner_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words_module, "CHUNK_ROWS", 64)
    words, lasts = round_words("cells"), some_lasts()
    assert words.cells is not None
    assert words.neighbours is not None
    rows = np.arange(0, len(SAMPLE), 2)
    entering = CellsAssigner(words.centroids, words.cells, FIRST_PROBES)
    following = NeighboursAssigner(words.centroids, words.cells, words.neighbours)
    for threads in (1, 3):
        found = np.full(len(SAMPLE), UNSEEN)
        times = np.zeros(len(SAMPLE), int)
        for chunk, descriptors, assignment in words.assign(SAMPLE, rows, lasts, threads):
            np.testing.assert_array_equal(descriptors, SAMPLE.descriptors(chunk))
            found[chunk] = assignment.words
            times[chunk] += 1
        assert times.tolist() == [1, 0] * 1_000
        new = rows[lasts[rows] == UNSEEN]
        seen = rows[lasts[rows] != UNSEEN]
        np.testing.assert_array_equal(found[new], entering.assign(SAMPLE.descriptors(new)).words)
        np.testing.assert_array_equal(
            found[seen], following.assign(SAMPLE.descriptors(seen), lasts[seen]).words
        )


def test_chunks_come_in_the_same_order_from_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(words_module, "CHUNK_ROWS", 64)
    words, rows = round_words("cells"), np.arange(len(SAMPLE))
    orders = [
        [chunk.tolist() for chunk, _, _ in words.assign(SAMPLE, rows, some_lasts(), threads)]
        for threads in (1, 2, 5)
    ]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(itertools.chain.from_iterable(orders[0])) == rows.tolist()


def test_rows_find_the_words_that_were_put_on_them() -> None:
    centroids = np.array([[0], [1], [9]], np.float32)
    cells = first_cells(centroids)
    placed = Placed(np.array([2], np.uint32), np.array([1], np.uint32))
    words = RoundWords(centroids, cells, cells.members[:, None], placed)
    lasts = np.array([1, 1, 0], np.uint32)
    rows = sample_of(np.array([[9], [2], [9]]))
    partial, now = sum_rows(words, rows, lasts, ALL, SPEC, number=1, rows_in_all=3, spares=9)
    assert now.tolist() == [2, 1, 0]  # the last row had word 0, where nothing was put
    assert partial.tally.squared_error == (0 + 1 + 81) * ERROR_SCALE


def test_spares_are_found_behind_many_equal_rows() -> None:
    # 990 rows at 50 and far ones among them: the first drawn are nearly all equal.
    values = np.full(1_000, 50.0)
    values[::100] = np.arange(10) + 1
    rows: Sample = sample_of(values[:, None])
    words = RoundWords(np.zeros((1, 1), np.float32))
    for limit in (3, 11, 40):
        partial, _ = sum_rows(
            words, rows, unseen(1_000), ALL, SPEC, number=0, rows_in_all=1_000, spares=limit
        )
        found = partial.spares.descriptors[:, 0].tolist()
        assert len(found) == len(set(found)) == min(limit, 11)
        assert set(found) <= set(values.tolist())
