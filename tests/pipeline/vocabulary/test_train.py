"""Training as a whole: the same bits again, no empty words, and as good as full k-means."""

from functools import cache

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.diagnostics.health import improvements
from lamella.pipeline.vocabulary import round_assigner as words_module
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.batches import seeding_rows
from lamella.pipeline.vocabulary.ivf import FAR, NEAR, Placed, neighbours_of, next_cells
from lamella.pipeline.vocabulary.sample import Sample
from lamella.pipeline.vocabulary.seeding import choose_words, initial_centroids
from lamella.pipeline.vocabulary.train import begin, follow, train_in_memory
from lamella.schemas.vocabulary import AssignerKind, RoundReport, VocabularySpec
from tests.pipeline.vocabulary.vectors import clustered, plain_distances, sample_of

Floats = NDArray[np.float32]
KINDS: tuple[AssignerKind, ...] = ("exact", "cells")
SAMPLE = sample_of(clustered(3_000, 16, 80))
LINE = np.array([[0], [1], [10], [11], [12]], np.float32)


def error_of(rows: Floats, words: Floats) -> float:
    """Return the mean squared distance of rows to the nearest of all words."""
    words = np.ascontiguousarray(words)
    return float(ExactAssigner(words).assign(rows).squared_distances.mean())


def assert_no_word_is_empty(sample: Sample, words: Floats) -> None:
    """Each word is the nearest of a row."""
    assert len(np.unique(ExactAssigner(words).assign(sample.descriptors()).words)) == len(words)


def plain_k_means(
    sample: Sample, count: int, rounds: int, tolerance: float
) -> tuple[Floats, list[float]]:
    """Return Lloyd's words and objectives by plain loops, for a sample that leaves none empty."""
    rows = sample.descriptors()
    words = rows[seeding_rows(0, sample.image_ids, sample.positions, count)]
    objectives: list[float] = []
    while True:
        distances = plain_distances(rows, words)
        nearest = distances.argmin(axis=1)
        objectives.append(float(distances.min(axis=1).mean()))
        falls = objectives[-2:]
        if len(falls) == 2 and falls[0] - falls[1] <= tolerance * falls[0]:
            return words, objectives
        if len(objectives) == rounds:
            return words, objectives
        words = np.array(
            [rows[nearest == word].astype(np.float64).mean(axis=0) for word in range(count)],
            np.float32,
        )


@pytest.mark.parametrize(("rounds", "tolerance"), [(40, 1e-3), (40, 0.0), (5, 0.0)])
def test_training_is_plain_k_means_bit_for_bit(rounds: int, tolerance: float) -> None:
    spec = VocabularySpec(words=40, rounds=rounds, tolerance=tolerance)
    words, reports = train_in_memory(SAMPLE, spec, task_rows=700)
    plain, objectives = plain_k_means(SAMPLE, 40, rounds, tolerance)
    assert {(report.empty_words, report.split) for report in reports} == {(0, 0)}
    np.testing.assert_array_equal(words, plain)
    assert [report.objective for report in reports] == pytest.approx(objectives, rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1.0, 0.25])
def test_no_cut_and_no_number_of_threads_changes_a_bit(
    kind: AssignerKind, batch: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words_module, "CHUNK_ROWS", 128)
    # Most rows are equal, so that words begin at equal rows and go to far ones of several tasks.
    rows = SAMPLE.rows(slice(0, 400)).vectors
    sample = sample_of(np.concatenate([rows, np.repeat(rows[:1], 1_600, axis=0)]))
    spec = VocabularySpec(words=300, rounds=8, assigner=kind, batch=batch)
    words, reports = train_in_memory(sample, spec)
    assert any(report.refilled > 10 for report in reports)
    for task_rows, threads in ((97, 1), (97, 3), (700, 3), (None, 3)):
        again, others = train_in_memory(sample, spec, task_rows=task_rows, threads=threads)
        assert again.tobytes() == words.tobytes()
        assert others == reports


def test_the_order_of_the_rows_changes_no_bit() -> None:
    order = np.random.default_rng(2).permutation(len(SAMPLE))
    for kind in KINDS:
        spec = VocabularySpec(words=300, rounds=8, assigner=kind)
        words, reports = train_in_memory(SAMPLE, spec)
        again, others = train_in_memory(SAMPLE.rows(order), spec)
        assert words.tobytes() == again.tobytes()
        assert reports == others


def test_another_seed_gives_other_words() -> None:
    one, two = (train_in_memory(SAMPLE, VocabularySpec(words=60, seed=seed))[0] for seed in (0, 1))
    assert np.any(one != two)
    assert error_of(SAMPLE.descriptors(), one) == pytest.approx(
        error_of(SAMPLE.descriptors(), two), rel=0.03
    )


def test_the_last_report_is_about_the_words_given() -> None:
    words, reports = train_in_memory(SAMPLE, VocabularySpec(words=60))
    # Errors are added in units of 2**-30.
    assert reports[-1].objective == pytest.approx(error_of(SAMPLE.descriptors(), words), abs=2e-9)
    assert [report.round for report in reports] == list(range(len(reports)))
    assert {report.share for report in reports} == {1.0}
    assert_no_word_is_empty(SAMPLE, words)


def test_the_objective_never_rises_over_exact_rounds() -> None:
    spec = VocabularySpec(words=200, tolerance=0.0, assigner="exact")
    _, reports = train_in_memory(SAMPLE, spec)
    # Means are rounded to float32, so at the end they may be off by 2**-24 of their length.
    assert len(improvements(reports)) >= 8
    assert min(improvements(reports)) > -1e-6


def test_words_are_chosen_from_the_sample() -> None:
    words, _ = train_in_memory(SAMPLE.rows(slice(0, 640)), VocabularySpec())
    assert len(words) == 20


HARD_CASES = {
    "nearly a word a row": (clustered(500, 8, 50), 490),
    "a word a row": (clustered(300, 8, 50), 300),
    "one row a thousand times": (
        np.concatenate([np.repeat(clustered(1, 8, 1), 1_000, axis=0), clustered(60, 8, 9, seed=1)]),
        55,
    ),
    "each row five times": (np.repeat(clustered(100, 8, 20), 5, axis=0), 100),
    "two rows far away": (
        np.concatenate([clustered(400, 8, 20), np.array([[900.0] * 8, [-900.0] * 8], np.float32)]),
        200,
    ),
    "one word": (clustered(100, 8, 5), 1),
}


@pytest.mark.parametrize("case", HARD_CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounds", [3, 40])
@pytest.mark.parametrize("batch", [1.0, 0.25])
def test_no_word_is_empty_at_the_end(
    case: str, kind: AssignerKind, rounds: int, batch: float
) -> None:
    rows, wanted = HARD_CASES[case]
    sample = sample_of(rows)
    for seed in range(2):
        spec = VocabularySpec(words=wanted, seed=seed, rounds=rounds, assigner=kind, batch=batch)
        words, reports = train_in_memory(sample, spec, task_rows=128)
        assert len(words) == wanted
        assert reports[-1].empty_words == reports[-1].dropped == 0
        assert reports[-1].share == 1.0
        if kind == "exact":  # with cells a row may be at a word that is not the nearest of all
            assert_no_word_is_empty(sample, words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1.0, 0.25])
def test_fewer_distinct_rows_than_words_give_fewer_words(kind: AssignerKind, batch: float) -> None:
    sample = sample_of(np.repeat(clustered(30, 8, 10), 20, axis=0))
    words, reports = train_in_memory(sample, VocabularySpec(words=50, assigner=kind, batch=batch))
    assert len(words) == 30
    assert reports[-1].dropped == 20
    assert reports[-1].objective == 0.0
    assert_no_word_is_empty(sample, words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1.0, 0.25])
@pytest.mark.parametrize("wanted", [1, 2, 10, 300])
def test_equal_rows_are_one_word(kind: AssignerKind, batch: float, wanted: int) -> None:
    sample = sample_of(np.repeat(clustered(1, 8, 1), 200, axis=0))
    spec = VocabularySpec(words=wanted, assigner=kind, batch=batch)
    words, reports = train_in_memory(sample, spec)
    np.testing.assert_array_equal(words, sample.descriptors(slice(0, 1)))
    assert (reports[-1].objective, reports[-1].dropped) == (0.0, wanted - 1)


def test_words_of_cells_are_all_in_use_and_nearly_always_the_nearest() -> None:
    words, reports = train_in_memory(SAMPLE, VocabularySpec(words=400, assigner="cells"))
    assert len(words) == 400
    assert reports[-1].empty_words == 0
    # At first two cells of forty are looked into; from there words are followed.
    assert reports[0].recall >= 0.8
    assert all(report.recall >= 0.97 for report in reports[1:])


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 row"):
        train_in_memory(SAMPLE.rows(slice(0, 0)), VocabularySpec())


ROWS = sample_of(clustered(24_000, 32, 600))
TRAINED, HELD = ROWS.rows(slice(0, 20_000)), ROWS.rows(slice(20_000, None)).descriptors()


@cache
def full_k_means_error(count: int, seed: int) -> float:
    """Return the held-out error of FAISS, run from the words of this seed to where it stands."""
    rows = TRAINED.descriptors()
    seeds = seeding_rows(seed, TRAINED.image_ids, TRAINED.positions, 2 * count)
    peer = faiss.Kmeans(
        rows.shape[1],
        count,
        niter=100,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    peer.train(rows, init_centroids=initial_centroids(rows[seeds], count))
    assert peer.obj is not None
    assert peer.centroids is not None
    assert peer.obj[-1] == pytest.approx(peer.obj[-2], rel=1e-5)
    return error_of(HELD, peer.centroids)


def over_full_k_means(spec: VocabularySpec) -> float:
    """Return the held-out error of a training over that of FAISS from the same words."""
    assert spec.words is not None
    words, reports = train_in_memory(TRAINED, spec)
    assert (len(words), reports[-1].empty_words) == (spec.words, 0)
    assert reports[-1].recall >= 0.98
    return error_of(HELD, words) / full_k_means_error(spec.words, spec.seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_held_out_error_is_within_one_percent_of_full_k_means(kind: AssignerKind) -> None:
    assert over_full_k_means(VocabularySpec(words=800, assigner=kind)) <= 1.01


@pytest.mark.parametrize(
    ("kind", "tolerance", "most"),
    [
        ("exact", 1e-3, 1.01),
        ("cells", 1e-3, 1.015),
        pytest.param("cells", 1e-4, 1.01, marks=pytest.mark.slow),
    ],
)
def test_few_words_followed_in_cells_need_a_finer_tolerance_for_one_percent(
    kind: AssignerKind, tolerance: float, most: float
) -> None:
    # Measured with five seeds, mean and worst: exact 1.004 and 1.006; cells 1.010 and 1.013, and
    # with the finer tolerance 1.004 and 1.011. `auto` compares so few with all.
    spec = VocabularySpec(words=256, assigner=kind, tolerance=tolerance)
    over = [over_full_k_means(spec.model_copy(update={"seed": seed})) for seed in range(3)]
    assert np.mean(over) <= most


@pytest.mark.parametrize("kind", KINDS)
def test_quarters_of_the_rows_come_within_two_percent(kind: AssignerKind) -> None:
    whole = VocabularySpec(words=256, assigner=kind)
    error = error_of(HELD, train_in_memory(TRAINED, whole)[0])
    for full_pass in (True, False):
        spec = whole.model_copy(update={"batch": 0.25, "full_pass": full_pass})
        words, reports = train_in_memory(TRAINED, spec)
        full = [report.share == 1.0 for report in reports]
        assert full == sorted(full)  # full rounds come last
        assert full[-1] is full_pass
        assert full.count(False) >= 8  # two turns at least
        assert {report.share for report in reports} <= {0.25, 1.0}
        assert error_of(HELD, words) <= 1.02 * error


def test_the_next_words_have_cells_that_follow_and_know_what_was_placed() -> None:
    centroids = SAMPLE.descriptors(slice(0, 200))
    moved = SAMPLE.descriptors(slice(200, 400))
    placed = Placed(np.array([3], np.uint32), np.array([7], np.uint32))
    assert follow(begin(centroids, "exact"), moved, placed, NEAR).cells is None
    first = begin(centroids, "cells")
    assert first.cells is not None
    assert first.neighbours is None
    words = follow(first, moved, placed, FAR)
    assert words.placed is placed
    cells = next_cells(moved, first.cells.centres)
    assert words.cells is not None
    assert words.neighbours is not None
    np.testing.assert_array_equal(words.cells.members, cells.members)
    np.testing.assert_array_equal(words.neighbours, neighbours_of(moved, cells, FAR))


def test_each_round_is_told_of() -> None:
    told: list[tuple[bytes, RoundReport]] = []
    words, reports = train_in_memory(
        SAMPLE,
        VocabularySpec(words=20, rounds=5),
        on_round=lambda now, report: told.append((now.tobytes(), report)),
    )
    assert [report for _, report in told] == list(reports)
    assert told[-1][0] == words.tobytes()
    assert told[0][0] != told[1][0]


def test_one_word_for_32_descriptors() -> None:
    assert [choose_words(rows) for rows in (0, 31, 64, 3_200, 10**9)] == [1, 1, 2, 100, 20_000]
    with pytest.raises(ValueError, match="0 descriptors or more"):
        choose_words(-1)


def test_words_begin_at_the_first_distinct_rows() -> None:
    rows = np.array([[3], [1], [3], [1], [4], [1], [5]], np.float32)
    assert initial_centroids(rows, 3).tolist() == [[3], [1], [4]]
    # Four distinct rows for six words: they repeat.
    assert initial_centroids(rows, 6).tolist() == [[3], [1], [4], [5], [3], [1]]


def test_seeding_without_rows_or_words_is_refused() -> None:
    for rows, words in ((LINE[:0], 3), (LINE, 0)):
        with pytest.raises(ValueError, match="at least 1 row and 1 word"):
            initial_centroids(rows, words)
