"""Reduce the dimensions of a sample: fit a PCA on part of it, project all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lamella.pipeline.run.drive import OnProgress, complete
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep, TaskT, Whole, Work
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.projection import (
    fit_projection,
    project,
    read_projection,
    write_projection,
)
from lamella.pipeline.vocabulary.rounds import least_rows
from lamella.pipeline.vocabulary.sample import Sample, read_sample, write_sample
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import ProjectionSpec

FIT_ROWS = 100_000
"""Rows of the sample that a PCA is fitted on: those with the smallest random numbers."""


@dataclass(frozen=True)
class FitWork:
    """Fits a projection on rows of the sample."""

    samples: tuple[FileRef, ...]
    spec: ProjectionSpec
    seed: int

    def open(self, store: Store) -> Do[Whole]:
        def fit(task: Whole, work: Attempt) -> Counts:
            rows = least_rows(store, self.samples, self.seed, FIT_ROWS)
            found = fit_projection(rows.descriptors(), self.spec)
            work.write("projection", work.folder, "arrow", partial(write_projection, found))
            return {"rows": len(rows)}

        return fit


@dataclass(frozen=True)
class ProjectTask:
    """A shard's sample."""

    key: str
    sample: FileRef
    held: FileRef


@dataclass(frozen=True)
class ProjectWork:
    """Projects the sample of a shard, and its held-out rows."""

    projection: FileRef

    def open(self, store: Store) -> Do[ProjectTask]:
        projection = read_committed(store, self.projection, read_projection)

        def projected(file: FileRef) -> Sample:
            sample = read_committed(store, file, read_sample)
            vectors = project(projection, sample.bits)
            return Sample(sample.image_ids, sample.positions, vectors)

        def work_out(task: ProjectTask, work: Attempt) -> Counts:
            sample, held = projected(task.sample), projected(task.held)
            work.write("sample", work.folder, "arrow", partial(write_sample, sample))
            work.write("held", work.folder, "held.arrow", partial(write_sample, held))
            return {"descriptors": len(sample), "held": len(held)}

        return work_out


def project_samples(
    store: Store,
    runner: Runner,
    parts: Mapping[str, str],
    inputs: str,
    samples: Sequence[DoneRecord],
    spec: ProjectionSpec,
    seed: int,
    stage: str,
    on_progress: OnProgress,
) -> tuple[FileRef, list[DoneRecord]]:
    """Return the projection fitted on a sample, and the records of the sample under it.

    Args:
        parts: of the training's folder.
        stage: that the steps are part of.
    """
    files = tuple(record.files["sample"] for record in samples)

    def step(kind: tree.StepKind, work: Work[TaskT]) -> StoreStep[TaskT]:
        return StoreStep(kind, store.url, kind.folder(**parts), inputs, work, of_stage=stage)

    fit = step(tree.FIT, FitWork(files, spec, seed))
    (fitted,) = complete(store, runner, fit, [Whole("fit")])
    projection = fitted.files["projection"]
    tasks = [
        ProjectTask(record.key, record.files["sample"], record.files["held"]) for record in samples
    ]
    projecting = step(tree.PROJECT, ProjectWork(projection))
    return projection, complete(store, runner, projecting, tasks, on_progress=on_progress)
