"""The steps of a training over files: seed, then link, sum, merge and update in each round.

The arithmetic is that of `train_in_memory`. Here each step is made of tasks with done records, so a
training that was killed continues, and the number of workers changes no bit. Large data goes from
worker to worker: a summing task cuts its sums into ranges of words, and each range is merged by a
task of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.run.step import Counts, Do, StoreStep, TaskT, Whole, Work
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary import checkpoint as files
from lamella.pipeline.vocabulary.assign import Assigner
from lamella.pipeline.vocabulary.batches import seeding_rows, window_of_round
from lamella.pipeline.vocabulary.checkpoint import Checkpoint, Moved
from lamella.pipeline.vocabulary.choose import CARD_FROM, exact_assigner
from lamella.pipeline.vocabulary.ivf import (
    Cells,
    CellsAssigner,
    Placed,
    Reach,
    first_cells,
    neighbours_of,
    next_cells,
)
from lamella.pipeline.vocabulary.ivf_files import write_neighbours
from lamella.pipeline.vocabulary.partial import merge_sums, merge_tallies
from lamella.pipeline.vocabulary.sample import Sample, join_samples, read_sample, write_sample
from lamella.pipeline.vocabulary.seeding import SEEDING_ROWS_A_WORD, initial_centroids
from lamella.pipeline.vocabulary.sums import sum_rows, unseen
from lamella.pipeline.vocabulary.update import Measured, move_words, spares_of_round, update
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import AssignerKind, RoundReport, VocabularySpec

RANGE_WORDS = 8_192
"""Words in a merging task."""

LINK_CELLS = 64
"""Cells in a linking task."""

HELD_ROWS = 5_000
"""The most held-out rows on which rounds and finished words are measured."""

HELD_PROBES = 16
"""Cells that are probed for a held-out row until the training has ended."""


@dataclass(frozen=True)
class Training:
    """What all steps of one layer's training share.

    Attributes:
        words: words to train.
        rows: rows of all samples.
        samples, held: files of the sampled and of the held-out rows, one a shard.
        threads: threads of a worker; their number changes no bit.
    """

    store_url: str
    folder: str
    inputs: str
    layer: str
    spec: VocabularySpec
    words: int
    dimensions: int
    rows: int
    assigner: AssignerKind
    samples: tuple[FileRef, ...]
    held: tuple[FileRef, ...]
    threads: int

    @property
    def uses_gpu(self) -> bool:
        """Whether each row is compared with so many words that a GPU pays."""
        return self.assigner == "exact" and self.words >= CARD_FROM

    def round_folder(self, number: int) -> str:
        """Return the folder of a round's intermediate files."""
        return tree.LINK.folder(**tree.parts_of(self.folder), round=number)

    @property
    def stage(self) -> str:
        """The stage of the job that all steps of this training belong to."""
        return f"vocabulary {self.layer}"

    def step(
        self, kind: tree.StepKind, work: Work[TaskT], number: int | None = None, label: str = ""
    ) -> StoreStep[TaskT]:
        """Return a step of this training, or of round `number`."""
        return StoreStep(
            kind,
            self.store_url,
            self.folder if kind.until is None else self.round_folder(number or 0),
            self.inputs,
            work,
            label=" ".join(
                [label or kind.name, *([] if number is None else [str(number)]), self.layer]
            ),
            of_stage=self.stage,
            uses_gpu=self.uses_gpu and kind in (tree.SUM, tree.ROUND, tree.HEALTH),
        )

    def ranges(self) -> list["Range"]:
        """Return the ranges of words, each of which a task merges."""
        return cut("merge", self.words, RANGE_WORDS)


@dataclass(frozen=True)
class Range:
    """A task for a range of words or of cells, from `first` to before `stop`."""

    key: str
    first: int
    stop: int


@dataclass(frozen=True)
class SumTask:
    """A task for the samples of some shards.

    Attributes:
        words: the file of the words that the rows had in the last round, if there is one.
    """

    key: str
    files: tuple[FileRef, ...]
    words: FileRef | None


def cut(name: str, total: int, size: int) -> list[Range]:
    """Return ranges of this size that cover the numbers below `total`."""
    return [
        Range(f"{name}-{number:05d}", first, min(first + size, total))
        for number, first in enumerate(range(0, total, size))
    ]


@dataclass(frozen=True)
class SeedWork:
    """Chooses the initial words from the sample, and the held-out rows."""

    training: Training

    def open(self, store: Store) -> Do[Whole]:
        training = self.training

        def seed(task: Whole, work: Attempt) -> Counts:
            limit = SEEDING_ROWS_A_WORD * training.words
            rows = least_rows(store, training.samples, training.spec.seed, limit)
            centroids = initial_centroids(rows.descriptors(), training.words)
            held = least_rows(store, training.held, training.spec.seed, HELD_ROWS)
            cells = first_cells(centroids) if training.assigner == "cells" else None
            masses = np.zeros(len(centroids)) if training.spec.batch < 1 else None
            folder = f"{work.folder}/rounds"
            work.write("held", folder, "held.arrow", partial(write_sample, held))
            files.write_checkpoint(work, folder, centroids, cells, masses)
            return {"words": training.words, "held": len(held)}

        return seed


@dataclass(frozen=True)
class LinkWork:
    """Finds the nearest words of each word, for a range of cells."""

    start: Checkpoint
    reach: Reach

    def open(self, store: Store) -> Do[Range]:
        centroids, cells = self.start.open_centroids(store), self.start.open_cells(store)
        assert cells is not None

        def link(task: Range, work: Attempt) -> Counts:
            near = neighbours_of(centroids, cells, self.reach, task.first, task.stop)
            work.write("near", work.folder, "near.arrow", partial(write_neighbours, near))
            return {"words": len(near)}

        return link


@dataclass(frozen=True)
class SumWork:
    """Assigns the rows of some shards to words, and sums the rows of each word."""

    training: Training
    round: int
    start: Checkpoint
    links: tuple[FileRef, ...]
    reports: tuple[RoundReport, ...]

    def open(self, store: Store) -> Do[SumTask]:
        training = self.training
        words = self.start.open_words(store, self.links)
        window = window_of_round(self.reports, training.spec)

        def sum_up(task: SumTask, work: Attempt) -> Counts:
            sample = open_samples(store, task.files)
            last = unseen(len(sample))
            if task.words is not None:
                last = read_committed(store, task.words, files.read_words)
            found, now = sum_rows(
                words,
                sample,
                last,
                window,
                training.spec,
                number=self.round,
                rows_in_all=training.rows,
                spares=spares_of_round(window, len(words.centroids)),
                threads=training.threads,
            )
            for each in training.ranges():
                write = partial(files.write_sums, found.part(each.first, each.stop))
                work.write(each.key, work.folder, f"{each.key}.arrow", write)
            write_spares = partial(files.write_spares, found.spares)
            work.write("spares", work.folder, "spares.arrow", write_spares)
            if words.cells is not None:
                work.write("words", work.folder, "words.arrow", partial(files.write_words, now))
            tally = found.tally
            return {
                "rows": tally.rows,
                "squared_error": tally.squared_error,
                "checked": tally.checked,
                "nearest": tally.nearest,
            }

        return sum_up


@dataclass(frozen=True)
class MergeWork:
    """Adds the sums of all tasks for a range of words, and moves these words."""

    training: Training
    start: Checkpoint
    sums: tuple[DoneRecord, ...]
    reports: tuple[RoundReport, ...]

    def open(self, store: Store) -> Do[Range]:
        training = self.training
        centroids = self.start.open_centroids(store)
        window = window_of_round(self.reports, training.spec)

        def merge(task: Range, work: Attempt) -> Counts:
            parts = [
                read_committed(store, record.files[task.key], files.read_sums)
                for record in self.sums
            ]
            sums, counts = merge_sums(parts, task.first, task.stop, training.dimensions)
            masses = self.start.open_masses(store, task.first, task.stop)
            mine = centroids[task.first : task.stop]
            unit = training.spec.unit_words
            vectors, masses = move_words(mine, sums, counts, masses, window.keep, unit)
            moved = Moved(vectors, counts, masses)
            work.write("moved", work.folder, "arrow", partial(files.write_moved, moved))
            return {"words": len(counts), "rows": int(counts.sum())}

        return merge


@dataclass(frozen=True)
class UpdateWork:
    """Ends a round: places empty words, and writes the report and the next checkpoint."""

    training: Training
    start: Checkpoint
    sums: tuple[DoneRecord, ...]
    merged: tuple[DoneRecord, ...]
    reports: tuple[RoundReport, ...]
    held: FileRef

    def open(self, store: Store) -> Do[Whole]:
        training = self.training

        def end(task: Whole, work: Attempt) -> Counts:
            centroids, cells = self.start.open_centroids(store), self.start.open_cells(store)
            window = window_of_round(self.reports, training.spec)
            moved = files.read_moved(
                [
                    read_committed(store, record.files["moved"], files.map_moved)
                    for record in self.merged
                ]
            )
            tally, spares = merge_tallies(
                [files.tally_of(record) for record in self.sums],
                [
                    read_committed(store, record.files["spares"], files.read_spares)
                    for record in self.sums
                ],
                spares_of_round(window, len(centroids)),
            )
            error = held_error(store, self.held, centroids, cells)
            measured = Measured(moved.counts, tally, spares, error)
            result, info = update(
                centroids, moved.centroids, measured, window, self.reports, training.spec
            )
            masses = moved.masses if self.start.masses is not None else None
            if cells is not None and not info.done:
                cells = next_cells(result, cells.centres)
            elif cells is not None and len(result) < len(centroids):
                cells = first_cells(result)
            counts = moved.counts[moved.counts > 0] if info.report.dropped else moved.counts
            folder = f"{work.folder}/rounds"
            files.write_checkpoint(work, folder, result, cells, masses)
            if cells is not None and len(info.placed):
                write_placed = partial(files.write_placed, Placed(info.placed, info.hosts))
                work.write("placed", folder, "placed.arrow", write_placed)
            work.write("counts", folder, "counts.arrow", partial(files.write_counts, counts))
            report = info.report.to_json()
            work.write("report", folder, "json", lambda path: path.write_bytes(report) and 1)
            for record in self.sums:
                if "words" in record.files:
                    # The next round needs them, so they stay when the sums are removed.
                    work.files[f"{files.WORDS}{record.key}"] = record.files["words"]
            return {"done": int(info.done), "words": len(result)}

        return end


def open_samples(store: Store, references: Sequence[FileRef]) -> Sample:
    """Return the rows of several sample files as one sample."""
    return join_samples([read_committed(store, file, read_sample) for file in references])


def least_rows(store: Store, references: Sequence[FileRef], seed: int, limit: int) -> Sample:
    """Draw up to `limit` rows from all files: those with the least random numbers, in that order.

    Files are read one after the other, and only the least rows so far are held in memory.
    """
    best: Sample | None = None
    for reference in references:
        sample = open_samples(store, [reference])
        own = sample.rows(seeding_rows(seed, sample.image_ids, sample.positions, limit))
        joined = own if best is None else join_samples([best, own])
        best = joined.rows(seeding_rows(seed, joined.image_ids, joined.positions, limit))
    if best is None:
        raise ValueError("at least one file of a sample is read; got none")
    return best


def held_error(
    store: Store, held: FileRef, centroids: Float32s, cells: Cells | None
) -> float | None:
    """Return the mean squared error of the held-out rows, None if there are none."""
    sample = read_committed(store, held, read_sample)
    if len(sample) == 0:
        return None
    assigner: Assigner = (
        exact_assigner(centroids) if cells is None else CellsAssigner(centroids, cells, HELD_PROBES)
    )
    found = assigner.assign(sample.descriptors())
    return float(found.squared_distances.mean())


def link_tasks(cells: int) -> list[Range]:
    """Return the linking tasks for this many cells."""
    return cut("link", cells, LINK_CELLS)


def round_key(number: int) -> str:
    """Return the key of the task that ends a round."""
    return tree.shard_key(number)
