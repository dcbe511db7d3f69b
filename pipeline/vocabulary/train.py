"""Training in one process: the reference that a training over many machines equals bit for bit."""

import numpy as np
import numpy.typing as npt

from pipeline.vocabulary.assign import (
    Assigner,
    ExactAssigner,
    choose_assigner,
    make_assigner,
    measure_recall,
)
from pipeline.vocabulary.batches import row_uniforms, seeding_rows, share_of_round
from pipeline.vocabulary.compare import Float32s
from pipeline.vocabulary.partial import Partial, merge_partials, partial_of
from pipeline.vocabulary.refill import SampleKey
from pipeline.vocabulary.seeding import SEEDING_ROWS_A_WORD, choose_words, initial_centroids
from pipeline.vocabulary.update import spares_of_round, update
from schemas.vocabulary import RoundReport, VocabularySpec

TASK_ROWS = 1 << 16
"""Rows of a task here. It is part of what decides the last bits, as the cut of a job is."""

RECALL_ROWS = 1_000
"""Rows on which the assigner's recall is measured every round: the first of the seeding rows."""


def train_in_memory(
    descriptors: Float32s,
    image_ids: npt.NDArray[np.integer],
    positions: npt.NDArray[np.integer],
    spec: VocabularySpec,
    task_rows: int = TASK_ROWS,
) -> tuple[Float32s, tuple[RoundReport, ...]]:
    """Return the visual words, (words, D) float32, and the report of every round.

    No word is empty on the rows in the last report, save those it says were dropped.

    Args:
        descriptors: (n, D) float32, in the job's order.
        image_ids, positions: (n,), which row each is; no two rows the same.
        spec: what is asked for.
        task_rows: how the rows are cut into tasks.

    Raises:
        ValueError: no row, or not one image id and position a row.
    """
    if not len(descriptors) == len(image_ids) == len(positions) or len(descriptors) == 0:
        raise ValueError(
            f"training takes at least 1 row, each with an image id and a position; "
            f"got {len(descriptors):,}, {len(image_ids):,} and {len(positions):,}"
        )
    words = choose_words(len(descriptors)) if spec.words is None else spec.words
    first = seeding_rows(spec.seed, image_ids, positions, SEEDING_ROWS_A_WORD * words)
    sample = descriptors[first]
    uniforms = row_uniforms(spec.seed, image_ids, positions)
    kind = choose_assigner(words, spec)
    centroids = initial_centroids(sample, words, spec.seed)
    reports: list[RoundReport] = []
    done = False
    while not done:
        assigner = make_assigner(kind, centroids)
        recall = 1.0
        if kind != "exact":
            exact = ExactAssigner(centroids)
            recall = measure_recall(assigner, exact, sample[:RECALL_ROWS])
        partials = [
            _task(descriptors[rows], uniforms[rows], assigner, words, spec.seed, len(reports), task)
            for task, rows in enumerate(_cut(len(descriptors), task_rows))
        ]
        merged = merge_partials(partials, spares_of_round(len(reports), words))
        centroids, info = update(centroids, merged, reports, spec, recall)
        reports.append(info.report)
        done = info.done
    return centroids, tuple(reports)


def _cut(rows: int, task_rows: int) -> list[slice]:
    return [slice(start, start + task_rows) for start in range(0, rows, task_rows)]


def _task(
    descriptors: Float32s,
    uniforms: npt.NDArray[np.float64],
    assigner: Assigner,
    words: int,
    seed: int,
    number: int,
    task: int,
) -> Partial:
    rows = descriptors[uniforms < share_of_round(number)]
    key = SampleKey(seed, number, task)
    return partial_of(rows, assigner.assign(rows), key, spares_of_round(number, words))
