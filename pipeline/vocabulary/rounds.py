"""Rounds over files: seed the words, sum each shard's rows, update; a checkpoint a round.

The numerics are those of `train_in_memory`; here each step is a task with a done record, so a
training continues where it was killed and the number of workers changes no bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.run.stage import Task
from pipeline.store import layout
from pipeline.store.commit import attempt, open_committed
from pipeline.store.storage import Store, open_store
from pipeline.store.tables import column, map_arrow, vectors_column, vectors_of, write_arrow
from pipeline.vocabulary.assign import (
    ApproximateAssigner,
    Assigner,
    ExactAssigner,
    measure_recall,
)
from pipeline.vocabulary.batches import row_uniforms, seeding_rows, share_of_round
from pipeline.vocabulary.compare import Float32s
from pipeline.vocabulary.partial import Partial, merge_partials, partial_of
from pipeline.vocabulary.refill import SampleKey, Spares
from pipeline.vocabulary.sample import read_sample
from pipeline.vocabulary.seeding import SEEDING_ROWS_A_WORD, initial_centroids
from pipeline.vocabulary.train import RECALL_ROWS
from pipeline.vocabulary.update import spares_of_round, update
from schemas.files import DoneRecord, FileRef
from schemas.vocabulary import AssignerKind, RoundReport, VocabularySpec


@dataclass(frozen=True)
class Training:
    """What every step of one layer's training shares."""

    store_url: str
    folder: str
    inputs: str
    layer: str
    spec: VocabularySpec
    words: int
    assigner: AssignerKind
    samples: tuple[FileRef, ...]

    def round_folder(self, number: int) -> str:
        """Return where a round keeps its partials."""
        return f"{self.folder}/rounds/{number:05d}"


@dataclass(frozen=True)
class Checkpoint:
    """The words that a round begins with, and the assigner over them if it is a graph."""

    centroids: FileRef
    graph: FileRef | None

    @classmethod
    def of(cls, record: DoneRecord) -> "Checkpoint":
        """Return the checkpoint that a seeding or an update left."""
        return cls(record.files["centroids"], record.files.get("graph"))

    def open(self, store: Store) -> tuple[Float32s, Assigner]:
        """Return the centroids and their assigner."""
        centroids = read_centroids(open_committed(store, self.centroids))
        if self.graph is None:
            return centroids, ExactAssigner(centroids)
        return centroids, ApproximateAssigner.from_bytes(
            open_committed(store, self.graph).read_bytes()
        )


@dataclass(frozen=True)
class Whole:
    """A task that is its whole stage."""

    key: str


@dataclass(frozen=True)
class PartialTask:
    """One shard's sample, and its place in the order of merging."""

    key: str
    number: int
    file: FileRef


@dataclass(frozen=True)
class SeedStage:
    """Chooses the rows of the sample that the words begin at."""

    training: Training
    uses_gpu: bool = False

    @property
    def name(self) -> str:
        return f"seed {self.training.layer}"

    def open(self) -> Callable[[Task], DoneRecord]:
        training = self.training
        store = open_store(training.store_url)

        def seed(task: Task) -> DoneRecord:
            limit = SEEDING_ROWS_A_WORD * training.words
            rows = _seeding_sample(store, training, limit)
            centroids = initial_centroids(rows, training.words, training.spec.seed)
            with attempt(store, training.folder, "seed", task.key, training.inputs) as work:
                folder = f"{training.folder}/rounds"
                held = rows[:RECALL_ROWS]
                work.write("recall", folder, "recall.arrow", lambda p: write_centroids(held, p))
                _write_checkpoint(work, folder, centroids, training.assigner)
                return work.finish(words=training.words)

        return seed


@dataclass(frozen=True)
class PartialStage:
    """Sums one round's rows of a shard, word by word."""

    training: Training
    round: int
    start: Checkpoint
    uses_gpu: bool = False

    @property
    def name(self) -> str:
        return f"round {self.round} {self.training.layer}"

    def open(self) -> Callable[[Task], DoneRecord]:
        training = self.training
        store = open_store(training.store_url)
        _, assigner = self.start.open(store)
        spares = spares_of_round(self.round, training.words)

        def work_out(task: Any) -> DoneRecord:
            sample = read_sample(open_committed(store, task.file))
            share = share_of_round(self.round)
            uniforms = row_uniforms(training.spec.seed, sample.image_ids, sample.positions)
            rows = sample.descriptors(np.flatnonzero(uniforms < share))
            key = SampleKey(training.spec.seed, self.round, task.number)
            partial = partial_of(rows, assigner.assign(rows), key, spares)
            folder = training.round_folder(self.round)
            with attempt(store, folder, "partial", task.key, training.inputs) as work:
                work.write("sums", folder, "sums.arrow", lambda p: _write_sums(partial, p))
                work.write("spares", folder, "spares.arrow", lambda p: _write_spares(partial, p))
                return work.finish(rows=partial.rows)

        return work_out


@dataclass(frozen=True)
class UpdateStage:
    """Merges a round's partials, in their order, and moves the words."""

    training: Training
    round: int
    start: Checkpoint
    partials: tuple[DoneRecord, ...]
    reports: tuple[RoundReport, ...]
    recall_rows: FileRef
    uses_gpu: bool = False

    @property
    def name(self) -> str:
        return f"update {self.round} {self.training.layer}"

    def open(self) -> Callable[[Task], DoneRecord]:
        training = self.training
        store = open_store(training.store_url)

        def move(task: Task) -> DoneRecord:
            centroids, assigner = self.start.open(store)
            spares = spares_of_round(self.round, len(centroids))
            merged = merge_partials([_read_partial(store, r) for r in self.partials], spares)
            recall = 1.0
            if self.start.graph is not None:
                held = read_centroids(open_committed(store, self.recall_rows))
                recall = measure_recall(assigner, ExactAssigner(centroids), held)
            moved, info = update(centroids, merged, self.reports, training.spec, recall)
            with attempt(store, training.folder, "round", task.key, training.inputs) as work:
                folder = f"{training.folder}/rounds"
                _write_checkpoint(work, folder, moved, training.assigner)
                report = info.report.to_json()
                work.write("report", folder, "json", lambda path: path.write_bytes(report) and 1)
                return work.finish(done=int(info.done), words=len(moved))

        return move


def _seeding_sample(store: Store, training: Training, limit: int) -> Float32s:
    samples = [read_sample(open_committed(store, file)) for file in training.samples]
    image_ids = np.concatenate([sample.image_ids for sample in samples])
    positions = np.concatenate([sample.positions for sample in samples])
    chosen = seeding_rows(training.spec.seed, image_ids, positions, limit)
    starts = np.cumsum([0, *(len(sample.image_ids) for sample in samples)])
    rows = np.empty((len(chosen), samples[0].vectors.shape[1]), np.float32)
    owner = np.searchsorted(starts, chosen, side="right") - 1
    for number, sample in enumerate(samples):
        mine = np.flatnonzero(owner == number)
        rows[mine] = sample.descriptors(chosen[mine] - starts[number])
    return rows


def _write_checkpoint(work: Any, folder: str, centroids: Float32s, kind: AssignerKind) -> None:
    work.write("centroids", folder, "arrow", lambda path: write_centroids(centroids, path))
    if kind == "hnsw":
        graph = ApproximateAssigner(centroids).to_bytes()
        work.write("graph", folder, "faiss", lambda path: path.write_bytes(graph) and 1)


def write_centroids(centroids: Float32s, path: Path) -> int:
    """Write centroids (K, D) as an Arrow file; return K."""
    return write_arrow(pa.table({"centroid": vectors_column(centroids)}), path)


def read_centroids(path: Path) -> Float32s:
    """Map a file of centroids, (K, D) float32."""
    return vectors_of(map_arrow(path), "centroid")


def _write_sums(partial: Partial, path: Path) -> int:
    # The total goes along in hex: every bit of it counts.
    metadata = {"squared_error": float(partial.squared_error).hex(), "rows": str(partial.rows)}
    columns = {
        "word": pa.array(partial.words),
        "count": pa.array(partial.counts),
        "sum": vectors_column(partial.sums),
    }
    return write_arrow(pa.table(columns).replace_schema_metadata(metadata), path)


def _write_spares(partial: Partial, path: Path) -> int:
    columns = {
        "key": pa.array(partial.spares.keys),
        "descriptor": vectors_column(partial.spares.descriptors),
    }
    return write_arrow(pa.table(columns), path)


def _read_partial(store: Store, record: DoneRecord) -> Partial:
    sums = map_arrow(open_committed(store, record.files["sums"]))
    spares = map_arrow(open_committed(store, record.files["spares"]))
    metadata = sums.schema.metadata
    return Partial(
        words=column(sums, "word"),
        sums=vectors_of(sums, "sum"),
        counts=column(sums, "count"),
        squared_error=float.fromhex(metadata[b"squared_error"].decode()),
        rows=int(metadata[b"rows"]),
        spares=Spares(column(spares, "key"), vectors_of(spares, "descriptor")),
    )


def read_report(store: Store, record: DoneRecord) -> RoundReport:
    """Return the report that an update left."""
    return RoundReport.from_json(open_committed(store, record.files["report"]).read_bytes())


def partial_tasks(samples: Sequence[tuple[str, FileRef]]) -> list[PartialTask]:
    """Return one task a sample file, numbered in the order in which they are merged."""
    return [PartialTask(key, number, file) for number, (key, file) in enumerate(samples)]


def round_key(number: int) -> str:
    """Return the key of a round's update."""
    return layout.shard_key(number)
