"""Reduce the dimensions of a sample: fit a PCA on part of it, project all of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lamella.pipeline.run.drive import OnProgress, complete
from lamella.pipeline.run.stage import Runner, Task
from lamella.pipeline.store.commit import attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.vocabulary.projection import (
    fit_projection,
    project,
    read_projection,
    write_projection,
)
from lamella.pipeline.vocabulary.rounds import Whole, least_rows
from lamella.pipeline.vocabulary.sample import Sample, read_sample, write_sample
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import ProjectionSpec

FIT_ROWS = 100_000
"""Rows of the sample that a PCA is fitted on: those with the smallest random numbers."""


@dataclass(frozen=True)
class FitStage:
    """Fits a projection on rows of the sample."""

    store_url: str
    folder: str
    inputs: str
    samples: tuple[FileRef, ...]
    spec: ProjectionSpec
    seed: int
    uses_gpu: bool = False
    name: str = "fit"

    def open(self) -> Callable[[Task], DoneRecord]:
        store = open_store(self.store_url)

        def fit(task: Task) -> DoneRecord:
            rows = least_rows(store, self.samples, self.seed, FIT_ROWS)
            found = fit_projection(rows.descriptors(), self.spec)
            with attempt(store, self.folder, "fit", task.key, self.inputs) as work:
                work.write("projection", self.folder, "arrow", partial(write_projection, found))
                return work.finish(rows=len(rows))

        return fit


@dataclass(frozen=True)
class ProjectTask:
    """A shard's sample."""

    key: str
    sample: FileRef
    held: FileRef


@dataclass(frozen=True)
class ProjectStage:
    """Projects the sample of a shard, and its held-out rows."""

    store_url: str
    folder: str
    inputs: str
    projection: FileRef
    uses_gpu: bool = False
    name: str = "project"

    def open(self) -> Callable[[ProjectTask], DoneRecord]:
        store = open_store(self.store_url)
        projection = read_committed(store, self.projection, read_projection)

        def projected(file: FileRef) -> Sample:
            sample = read_committed(store, file, read_sample)
            vectors = project(projection, sample.bits)
            return Sample(sample.image_ids, sample.positions, vectors)

        def work_out(task: ProjectTask) -> DoneRecord:
            sample, held = projected(task.sample), projected(task.held)
            with attempt(store, self.folder, "project", task.key, self.inputs) as work:
                work.write("sample", self.folder, "arrow", partial(write_sample, sample))
                work.write("held", self.folder, "held.arrow", partial(write_sample, held))
                return work.finish(descriptors=len(sample), held=len(held))

        return work_out


def project_samples(
    store: Store,
    runner: Runner,
    folder: str,
    inputs: str,
    samples: Sequence[DoneRecord],
    spec: ProjectionSpec,
    seed: int,
    on_progress: OnProgress,
) -> tuple[FileRef, list[DoneRecord]]:
    """Return the projection fitted on a sample, and the records of the sample under it."""
    fit_folder, project_folder = f"{folder}/projection", f"{folder}/projected"
    files = tuple(record.files["sample"] for record in samples)
    fit = FitStage(store.url, fit_folder, inputs, files, spec, seed)
    (fitted,) = complete(store, runner, fit, [Whole("fit")], fit_folder, inputs)
    projection = fitted.files["projection"]
    tasks = [
        ProjectTask(record.key, record.files["sample"], record.files["held"]) for record in samples
    ]
    stage = ProjectStage(store.url, project_folder, inputs, projection)
    records = complete(store, runner, stage, tasks, project_folder, inputs, on_progress=on_progress)
    return projection, records
