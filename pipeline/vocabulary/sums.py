"""One task of a round: assign its rows to words, and sum the rows of each word."""

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float64s, Int64s, UInt32s
from lamella.pipeline.signs import signed
from lamella.pipeline.vocabulary.assign import Assignment
from lamella.pipeline.vocabulary.batches import Window, row_uniforms
from lamella.pipeline.vocabulary.empty_clusters import Spares, draw_spares, sampling_keys
from lamella.pipeline.vocabulary.ivf_kernels import widen
from lamella.pipeline.vocabulary.partial import Partial, Tally, add_rows, whole_error
from lamella.pipeline.vocabulary.round_assigner import UNSEEN, RoundWords
from lamella.pipeline.vocabulary.sample import Sample
from lamella.schemas.vocabulary import VocabularySpec

CHECKED_ROWS = 1_000
"""About this many rows are compared with every word in each round, to measure recall."""

SPARE_SEED = 0x53504152
"""Added to the seed and the round, so that spares are drawn independently of batches."""


def sum_rows(
    words: RoundWords,
    sample: Sample,
    lasts: UInt32s,
    window: Window,
    spec: VocabularySpec,
    *,
    number: int,
    rows_in_all: int,
    spares: int,
    threads: int = 1,
) -> tuple[Partial, UInt32s]:
    """Return the partial sums of a task's rows, and the word of each row.

    Args:
        words: those that the round begins with.
        sample: the task's rows.
        lasts: uint32 (n,), the word each row had last, or `UNSEEN`.
        window: which rows the round sees.
        number: of the round.
        rows_in_all: rows of all tasks together.
        spares: how many far rows to keep at most.
        threads: chunks compared at once; changes no bit.
    """
    uniforms = row_uniforms(spec.seed, sample.image_ids, sample.positions)
    rows = window.rows(uniforms)
    count, dimensions = words.centroids.shape
    sums = np.zeros((count, dimensions), np.float64)
    squared_error = 0
    now = lasts.copy()
    distances = np.empty(len(uniforms), np.float64)
    for chunk, descriptors, assignment in signed(words.assign(sample, rows, lasts, threads)):
        add_rows(sums, assignment.words, descriptors)
        squared_error += whole_error(assignment.squared_distances)
        now[chunk] = assignment.words
        distances[chunk] = assignment.squared_distances
    tally = Tally(len(rows), squared_error)
    keys = row_uniforms(spec.seed + SPARE_SEED + number, sample.image_ids, sample.positions)
    if words.cells is not None:
        checked = rows[keys[rows] < CHECKED_ROWS / rows_in_all]
        exact = words.exact.assign(widen(sample.bits, checked)) if len(checked) else None
        nearest = np.count_nonzero(distances[checked] <= exact.squared_distances) if exact else 0
        tally += Tally(checked=len(checked), nearest=int(nearest))
    partial = Partial(
        sums=sums,
        counts=np.bincount(now[rows], minlength=count).astype(np.int64),
        tally=tally,
        spares=_spares(sample, rows, now, distances, keys, spares),
    )
    return partial, now


def _spares(
    sample: Sample,
    rows: Int64s,
    words: UInt32s,
    distances: Float64s,
    uniforms: npt.NDArray[np.float64],
    limit: int,
) -> Spares:
    """Draw spares among the rows, converting only as many as are needed for distinct ones."""
    if limit == 0:
        return Spares.none(sample.vectors.shape[1])
    order = rows[np.argsort(-sampling_keys(1.0 - uniforms[rows], distances[rows]), kind="stable")]
    wanted = 2 * limit
    while True:
        best = order[:wanted]
        assignment = Assignment(words[best], distances[best])
        found = draw_spares(widen(sample.bits, best), assignment, uniforms[best], limit)
        if len(found) == limit or wanted >= len(order):
            return found
        wanted *= 4


def unseen(rows: int) -> UInt32s:
    """Return the words of rows that no round has seen."""
    return np.full(rows, UNSEEN, np.uint32)
