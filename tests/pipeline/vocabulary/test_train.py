"""Training as a whole: the same bits again, no empty words, and as good as full k-means."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.vocabulary.assign import ApproximateAssigner, ExactAssigner, measure_recall
from pipeline.vocabulary.health import improvements
from pipeline.vocabulary.train import train_in_memory
from schemas.vocabulary import RoundReport, VocabularySpec
from tests.pipeline.vocabulary.vectors import clustered, row_names


def train(
    rows: NDArray[np.float32], spec: VocabularySpec, task_rows: int = 1 << 16
) -> tuple[NDArray[np.float32], tuple[RoundReport, ...]]:
    """Train on rows with made-up names."""
    return train_in_memory(rows, *row_names(len(rows)), spec, task_rows)


def assert_no_word_is_empty(rows: NDArray[np.float32], words: NDArray[np.float32]) -> None:
    """Each word is the nearest of a row."""
    assert len(np.unique(ExactAssigner(words).assign(rows).words)) == len(words)


@pytest.mark.parametrize("assigner", ["exact", "hnsw"])
def test_training_again_gives_the_same_bits(assigner: str) -> None:
    rows = clustered(3_000, 16, 80)
    spec = VocabularySpec(words=60, rounds=8, assigner=assigner)
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            answers.append(train(rows, spec, 700))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1]


def test_another_cut_gives_words_as_good() -> None:
    rows = clustered(3_000, 16, 80)
    spec = VocabularySpec(words=60)
    errors = [train(rows, spec, size)[1][-1].objective for size in (700, 3_000)]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)


def test_the_last_report_is_about_the_words_given() -> None:
    rows = clustered(3_000, 16, 80)
    words, reports = train(rows, VocabularySpec(words=60))
    assignment = ExactAssigner(words).assign(rows)
    assert reports[-1].objective == pytest.approx(assignment.squared_distances.mean(), rel=1e-12)
    assert [report.round for report in reports] == list(range(len(reports)))
    assert [report.share for report in reports[:3]] == [1 / 4, 1 / 2, 1]
    assert_no_word_is_empty(rows, words)


def test_the_objective_never_rises_over_full_exact_rounds() -> None:
    rows = clustered(3_000, 16, 80)
    _, reports = train(rows, VocabularySpec(words=200, tolerance=0.0, assigner="exact"))
    # Means are rounded to float32, so at the end they may be off by 2**-24 of their length.
    assert len(improvements(reports)) >= 8
    assert min(improvements(reports)) > -1e-6


def test_words_are_chosen_from_the_sample() -> None:
    words, _ = train(clustered(640, 8, 20), VocabularySpec())
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
        np.concatenate([clustered(400, 8, 20), np.float32([[900.0] * 8, [-900.0] * 8])]),
        200,
    ),
    "one word": (clustered(100, 8, 5), 1),
}


@pytest.mark.parametrize("case", HARD_CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rounds", [3, 40])
def test_no_word_is_empty_at_the_end(case: str, seed: int, rounds: int) -> None:
    rows, wanted = HARD_CASES[case]
    words, reports = train(rows, VocabularySpec(words=wanted, seed=seed, rounds=rounds), 128)
    assert len(words) == wanted
    assert reports[-1].empty_words == reports[-1].dropped == 0
    assert_no_word_is_empty(rows, words)


@pytest.mark.parametrize("assigner", ["exact", "hnsw"])
def test_fewer_distinct_rows_than_words_give_fewer_words(assigner: str) -> None:
    rows = np.repeat(clustered(30, 8, 10), 20, axis=0)
    words, reports = train(rows, VocabularySpec(words=50, assigner=assigner))
    assert len(words) == 30
    assert reports[-1].dropped == 20
    assert reports[-1].objective == 0.0
    assert_no_word_is_empty(rows, words)


def test_words_of_the_graph_are_all_in_use() -> None:
    rows = clustered(2_000, 16, 80)
    words, reports = train(rows, VocabularySpec(words=400, assigner="hnsw"))
    assert len(words) == 400
    assert reports[-1].empty_words == 0
    assert all(report.recall >= 0.95 for report in reports)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 row"):
        train(clustered(10, 8, 2)[:0], VocabularySpec())


@pytest.mark.parametrize("assigner", ["exact", "hnsw"])
def test_the_error_is_within_one_percent_of_full_k_means(assigner: str) -> None:
    rows = clustered(20_000, 64, 600)
    words, reports = train(rows, VocabularySpec(words=256, assigner=assigner))
    peer = faiss.Kmeans(64, 256, niter=60, seed=1, max_points_per_centroid=len(rows))
    peer.train(rows)
    errors = [
        ExactAssigner(np.ascontiguousarray(centroids)).assign(rows).squared_distances.mean()
        for centroids in (words, peer.centroids)
    ]
    assert errors[0] <= 1.01 * errors[1]
    approximate, exact = ApproximateAssigner(words), ExactAssigner(words)
    assert measure_recall(approximate, exact, rows[:5_000]) >= 0.95
    assert reports[-1].empty_words == 0
