"""Finish a training: choose how many cells to probe, and measure the words."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from lamella.pipeline.arrays import Float32s, UInt32s
from lamella.pipeline.run.step import Counts, Do, Whole
from lamella.pipeline.signs import signed
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.assign import Assigner
from lamella.pipeline.vocabulary.checkpoint import Checkpoint, read_counts
from lamella.pipeline.vocabulary.choose import exact_assigner
from lamella.pipeline.vocabulary.ivf import Cells, CellsAssigner
from lamella.pipeline.vocabulary.ivf_files import write_neighbours
from lamella.pipeline.vocabulary.rounds import Training, least_rows
from lamella.pipeline.vocabulary.sample import read_sample
from lamella.pipeline.vocabulary.seeding import SEEDING_ROWS_A_WORD
from lamella.pipeline.vocabulary.word_use import word_use
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import VocabularyHealth

RECALL_WANTED = 0.995
"""Share of rows that must find the nearest word; probes are added until it is met."""

PROBES = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of probes that are tried, in this order; all cells are the last resort."""


@dataclass(frozen=True)
class FinishWork:
    """Measures the finished words on held-out rows, or on seeding rows where there are none."""

    training: Training
    last: DoneRecord
    links: tuple[FileRef, ...]
    held: FileRef

    def open(self, store: Store) -> Do[Whole]:
        training = self.training

        def finish(task: Whole, work: Attempt) -> Counts:
            checkpoint = Checkpoint.of(self.last)
            words = checkpoint.open_words(store, self.links)
            centroids, cells = words.centroids, words.cells
            counts = read_committed(store, self.last.files["counts"], read_counts)
            held = read_committed(store, self.held, read_sample)
            rows = held
            if len(held) == 0 and cells is not None:
                limit = SEEDING_ROWS_A_WORD * len(centroids)
                rows = least_rows(store, training.samples, training.spec.seed, limit)
                rows = rows.rows(slice(len(rows) - min(len(rows), 1_000), None))
            descriptors = rows.descriptors()
            probes, recall, error = choose_probes(centroids, cells, words.neighbours, descriptors)
            use = word_use(counts)
            health = VocabularyHealth(
                held_rows=len(held),
                held_error=error if len(held) else 0.0,
                recall=recall,
                entropy=use.entropy,
                evenness=use.evenness,
                dead=use.empty,
                largest_share=use.largest_share,
                imbalance=use.imbalance,
            ).to_json()
            folder = f"{work.folder}/rounds"
            work.write("health", folder, "json", lambda path: path.write_bytes(health) and 1)
            if words.neighbours is not None:
                write = partial(write_neighbours, words.neighbours)
                work.write("neighbours", folder, "near.arrow", write)
            return {"probes": probes}

        return finish


def choose_probes(
    centroids: Float32s,
    cells: Cells | None,
    neighbours: UInt32s | None,
    descriptors: Float32s,
) -> tuple[int, float, float]:
    """Return how many cells to probe, the recall this gives, and the mean squared error.

    The least number of `PROBES` with a recall of `RECALL_WANTED` on these descriptors; 0 without
    cells.

    Args:
        centroids: (K, D) float32; the cells over them, if any, and their neighbours.
        descriptors: (n, D) float32; without any, all cells are probed.
    """
    exact: Assigner = exact_assigner(centroids)
    if len(descriptors) == 0:
        return (0, 1.0, 0.0) if cells is None else (len(cells), 1.0, 0.0)
    nearest = exact.assign(descriptors).squared_distances
    if cells is None:
        return 0, 1.0, float(nearest.mean())
    for probes in signed((*(each for each in PROBES if each < len(cells)), len(cells))):
        assigner = CellsAssigner(centroids, cells, probes, neighbours)
        found = assigner.assign(descriptors).squared_distances
        recall = float(np.mean(found <= nearest))
        if recall >= RECALL_WANTED:
            break
    return probes, recall, float(found.mean())
