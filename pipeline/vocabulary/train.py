"""Train in one process: the reference that distributed training equals bit for bit."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.vocabulary.batches import seeding_rows, window_of_round
from lamella.pipeline.vocabulary.choose import choose_assigner
from lamella.pipeline.vocabulary.ivf import Placed, Reach, first_cells, neighbours_of, next_cells
from lamella.pipeline.vocabulary.partial import merge_tallies
from lamella.pipeline.vocabulary.round_assigner import RoundWords, reach_of_round
from lamella.pipeline.vocabulary.sample import Sample
from lamella.pipeline.vocabulary.seeding import SEEDING_ROWS_A_WORD, choose_words, initial_centroids
from lamella.pipeline.vocabulary.sums import sum_rows, unseen
from lamella.pipeline.vocabulary.update import Measured, move_words, spares_of_round, update
from lamella.schemas.vocabulary import AssignerKind, RoundReport, VocabularySpec


def train_in_memory(
    sample: Sample,
    spec: VocabularySpec,
    *,
    task_rows: int | None = None,
    threads: int = 1,
    on_round: Callable[[Float32s, RoundReport], None] = lambda words, report: None,
) -> tuple[Float32s, tuple[RoundReport, ...]]:
    """Return the visual words, (words, D) float32, and the report of every round.

    No word is empty on the rows of the last report, except those it reports as dropped.

    Args:
        sample: the training rows; no two with the same image id and position.
        spec: the requested vocabulary.
        task_rows: rows of a task; all by default. Changes no bit.
        threads: chunks compared at once; changes no bit.
        on_round: called with the words after each round and its report.

    Raises:
        ValueError: no row.
    """
    rows = len(sample.image_ids)
    if rows == 0:
        raise ValueError("training takes at least 1 row; got 0")
    count = choose_words(rows) if spec.words is None else spec.words
    seeding = seeding_rows(
        spec.seed, sample.image_ids, sample.positions, SEEDING_ROWS_A_WORD * count
    )
    kind = choose_assigner(count, spec)
    words = begin(initial_centroids(sample.descriptors(seeding), count), kind)
    masses = np.zeros(count, np.float64)
    tasks = [
        sample.rows(slice(start, start + (task_rows or rows)))
        for start in range(0, rows, task_rows or rows)
    ]
    lasts = [unseen(len(task.image_ids)) for task in tasks]
    reports: list[RoundReport] = []
    while True:
        number, window = len(reports), window_of_round(reports, spec)
        spares = spares_of_round(window, len(words.centroids))
        found = []
        for place, task in enumerate(tasks):
            one, lasts[place] = sum_rows(
                words,
                task,
                lasts[place],
                window,
                spec,
                number=number,
                rows_in_all=rows,
                spares=spares,
                threads=threads,
            )
            found.append(one)
        counts = np.sum([one.counts for one in found], axis=0)
        sums = np.sum([one.sums for one in found], axis=0)
        tally, joined = merge_tallies(
            [one.tally for one in found], [one.spares for one in found], spares
        )
        moved, masses = move_words(
            words.centroids, sums, counts, masses, window.keep, spec.unit_words
        )
        centroids, info = update(
            words.centroids, moved, Measured(counts, tally, joined), window, reports, spec
        )
        reports.append(info.report)
        on_round(centroids, info.report)
        if info.done:
            return centroids, tuple(reports)
        placed = Placed(info.placed, info.hosts)
        words = follow(words, centroids, placed, reach_of_round(reports), threads)


def begin(centroids: Float32s, kind: AssignerKind) -> RoundWords:
    """Return the words that a training begins with."""
    if kind == "exact":
        return RoundWords(centroids)
    return RoundWords(centroids, first_cells(centroids))


def follow(
    words: RoundWords, centroids: Float32s, placed: Placed, reach: Reach, threads: int = 1
) -> RoundWords:
    """Return the words of the next round, with cells updated from those of the last."""
    if words.cells is None:
        return RoundWords(centroids)
    cells = next_cells(centroids, words.cells.centres)
    bounds = np.linspace(0, len(cells), threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(partial(neighbours_of, centroids, cells, reach), bounds[:-1], bounds[1:])
        return RoundWords(centroids, cells, np.concatenate(list(parts)), placed)
