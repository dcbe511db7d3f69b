"""The propose stage: a frame of each global layer, then the proposers of each segment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from lamella.pipeline.arrays import UInt8s
from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.index.files import read_dense
from lamella.pipeline.index.stage import Index
from lamella.pipeline.proposers.build import build_proposer, proposer_memory
from lamella.pipeline.proposers.files import read_frame, write_axes, write_centres, write_index
from lamella.pipeline.proposers.frame import (
    Frame,
    Vectors,
    cells_for,
    drawn,
    fit_frame,
    frame_memory,
)
from lamella.pipeline.proposers.library import faiss_version
from lamella.pipeline.run.budget import check_memory
from lamella.pipeline.run.drive import OnProgress, complete, quiet, read_all_done
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.base import digest_of
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.query import ProposerKind
from lamella.schemas.snapshot import Proposers

FRAME_FORMAT, PROPOSER_FORMAT = 1, 1
"""The versions of these files, part of the digests of what decides them."""

FRAME = "frame"
"""Key of the task that fits a frame."""

Frames = Mapping[str, Mapping[str, FileRef]]
"""By layer, the files of its frame, as its done record names them."""


@dataclass(frozen=True)
class FrameTask:
    """The dense files of a layer in all segments."""

    key: str
    dense: tuple[FileRef, ...]


@dataclass(frozen=True)
class FrameWork:
    """Fits the frame of a layer to images drawn from all segments, read one after the other.

    Attributes:
        images: of all segments.
        cells: how many the frame gets; 0 for none.
    """

    images: int
    cells: int

    def open(self, store: Store) -> Do[FrameTask]:
        def fit(task: FrameTask, work: Attempt) -> Counts:
            def draw(share: float) -> Iterator[Vectors]:
                for file in task.dense:
                    yield read_committed(store, file, partial(_drawn, share))

            frame, sampled = fit_frame(draw, self.images, self.cells)
            work.write("axes", work.folder, "axes.arrow", partial(write_axes, frame))
            if self.cells:
                work.write("centres", work.folder, "centres.arrow", partial(write_centres, frame))
            return {"indexed": self.images, "sampled": sampled, "cells": len(frame.centres)}

        return fit


def _drawn(share: float, path: Path) -> Vectors:
    ids, vectors, norms = read_dense(path)
    rows = drawn(ids, share)
    return ids[rows], vectors[rows], norms[rows]


@dataclass(frozen=True)
class ProposeTask:
    """A segment: its dense file in each global layer."""

    key: str
    images: int
    dense: Mapping[str, FileRef]


@dataclass(frozen=True)
class ProposeWork:
    """Builds the proposers of a segment, one a global layer.

    Attributes:
        faiss: the version that the job was begun with.
    """

    kind: ProposerKind
    faiss: str
    frames: Frames

    @property
    def uses_gpu(self) -> bool:
        """Whether a GPU builds them."""
        return self.kind == "cagra"

    def open(self, store: Store) -> Do[ProposeTask]:
        _check_faiss(self.faiss)
        frames = {layer: read_frame(store, files) for layer, files in self.frames.items()}

        def build(task: ProposeTask, work: Attempt) -> Counts:
            for layer, file in task.dense.items():
                make = partial(self._build, frames[layer], task.images)
                data = read_committed(store, file, make)
                folder = tree.layer_folder(work.folder, layer)
                write = partial(write_index, data, task.images)
                work.write(f"{layer}.proposer", folder, "faiss", write)
            return {"images": task.images}

        return build

    def _build(self, frame: Frame, images: int, path: Path) -> UInt8s:
        _, vectors, norms = read_dense(path)
        if len(vectors) != images:
            raise ValueError(f"{len(vectors):,} vectors of {images:,} images")
        return build_proposer(self.kind, frame, vectors, norms)


def _check_faiss(wanted: str) -> None:
    """Check that the installed FAISS is that of the job. Raises IncompatibleInputs: it is not."""
    if (installed := faiss_version()) != wanted:
        raise IncompatibleInputs(
            f"this job was begun with FAISS {wanted}, and FAISS {installed} is installed here: "
            f"install faiss {wanted} for all workers, or give `lamella index` again, which makes "
            "all proposers anew"
        )


@dataclass(frozen=True)
class Proposed:
    """The outcome of the propose stage.

    Attributes:
        kind, faiss: what built the proposers.
        frames, frame_paths: the done record of each layer's frame, and its path.
        own_folders: the folders of the frames that no earlier snapshot has made.
        records: of each segment, by its key.
    """

    kind: ProposerKind
    faiss: str
    folder: str
    frames: Mapping[str, DoneRecord]
    frame_paths: Mapping[str, str]
    own_folders: frozenset[str]
    records: Mapping[str, DoneRecord]

    def described(self, k: int) -> Proposers:
        """Return what a snapshot says of them before anything is measured.

        Args:
            k: of how many best images it is going to be measured.
        """
        return Proposers(
            kind=self.kind,
            faiss=self.faiss,
            cells=max(record.counts["cells"] for record in self.frames.values()),
            frames={
                f"{layer}.{name}": file
                for layer, record in self.frames.items()
                for name, file in record.files.items()
            },
            k=k,
            queries=0,
            reaches=(),
        )


def frames_of(made: Proposers) -> dict[str, str]:
    """Return the paths of the done records of a snapshot's frames, by layer."""
    return {
        name.removesuffix(".axes"): tree.done(tree.folder_of(file.path), FRAME)
        for name, file in made.frames.items()
        if name.endswith(".axes")
    }


@dataclass(frozen=True)
class Proposing:
    """Finds or makes the proposers of an index.

    Attributes:
        layers: the global layers.
        kind, faiss: what is to build them.
        kept: by layer, the path of the done record of a frame that an earlier snapshot has.
    """

    store: Store
    index: Index
    layers: Sequence[str]
    kind: ProposerKind
    faiss: str
    kept: Mapping[str, str]

    @cached_property
    def frame_inputs(self) -> Mapping[str, str]:
        """The digest of what decides each layer's own frame."""
        keys = [task.key for task in self.index.tasks]
        cells = self.kind == "ivf"
        return {
            layer: digest_of([self.index.inputs, keys, layer, cells, FRAME_FORMAT])
            for layer in self.layers
        }

    @cached_property
    def frame_paths(self) -> Mapping[str, str]:
        """The path of the done record of each layer's frame, kept or its own."""
        own = {layer: tree.done(self._own_folder(layer), FRAME) for layer in self.layers}
        return own | {layer: path for layer, path in self.kept.items() if layer in own}

    @cached_property
    def inputs(self) -> str:
        """The digest of what decides the proposers of any segment."""
        frames = dict(self.frame_paths)
        return digest_of([self.index.inputs, self.kind, self.faiss, frames, PROPOSER_FORMAT])

    @property
    def folder(self) -> str:
        """The folder of the proposers; all corpora share it."""
        return tree.PROPOSE.folder(keyed=tree.keyed(self.kind, self.inputs))

    def find(self) -> Proposed | None:
        """Return the proposers of all segments, None where one is missing."""
        if not all(self.store.exists(path) for path in self.frame_paths.values()):
            return None
        records = read_all_done(self.store, self.folder, [task.key for task in self.index.tasks])
        done = [record for record in records if record is not None]
        return self._outcome(done) if len(done) == len(records) else None

    def make(self, runner: Runner, on_progress: OnProgress = quiet) -> Proposed:
        """Make what is missing; return all.

        Raises:
            InputError: a frame that is to be kept is gone, or a worker has too little memory.
            StageFailed: tasks failed; those that are done stay done.
        """
        images = [record.counts["images"] for record in self.index.records]
        for layer, path in self.frame_paths.items():
            if not self.store.exists(path):
                self._fit(layer, sum(images), runner, on_progress)
        frames = {layer: record.files for layer, record in self._frames().items()}
        found = read_all_done(self.store, self.folder, [task.key for task in self.index.tasks])
        if None in found:
            _check_faiss(self.faiss)
            check_memory(
                proposer_memory(max(images), max(map(self._width, self.layers))),
                runner.memory_per_worker(),
                f"the proposers of a segment of {max(images):,} images take",
                "ask for smaller segments (index.segment_images)",
            )
        work = ProposeWork(self.kind, self.faiss, frames)
        records = complete(
            self.store,
            runner,
            StoreStep(
                tree.PROPOSE,
                self.store.url,
                self.folder,
                self.inputs,
                work,
                uses_gpu=work.uses_gpu,
            ),
            [
                ProposeTask(task.key, count, {x: record.files[f"{x}.dense"] for x in self.layers})
                for task, record, count in zip(
                    self.index.tasks, self.index.records, images, strict=True
                )
            ],
            units=lambda task: task.images,
            found=found,
            on_progress=on_progress,
        )
        return self._outcome(records)

    def _own_folder(self, layer: str) -> str:
        return tree.FRAME.folder(keyed=tree.keyed(layer, self.frame_inputs[layer]))

    def _fit(self, layer: str, images: int, runner: Runner, on_progress: OnProgress) -> None:
        """Fit a layer's own frame."""
        if layer in self.kept:
            raise InputError(
                f"{self.kept[layer]}, the frame of the snapshot before, is gone: `lamella repair "
                f"{self.store.url}`, or make one anew with --retrain"
            )
        dense = tuple(record.files[f"{layer}.dense"] for record in self.index.records)
        check_memory(
            frame_memory(images, self._width(layer)),
            runner.memory_per_worker(),
            f"the frame of layer {layer} takes",
            'leave that layer out (--layers), or proposers (index.proposer = "none")',
        )
        work = FrameWork(images, cells_for(images) if self.kind == "ivf" else 0)
        step = StoreStep(
            tree.FRAME,
            self.store.url,
            self._own_folder(layer),
            self.frame_inputs[layer],
            work,
            label=f"frame {layer}",
            of_stage=tree.PROPOSE.name,
        )
        complete(self.store, runner, step, [FrameTask(FRAME, dense)], on_progress=on_progress)

    def _width(self, layer: str) -> int:
        """Return how many numbers the vectors of a layer have."""
        dense = self.index.records[0].files[f"{layer}.dense"]
        return int(read_committed(self.store, dense, lambda path: read_dense(path)[1].shape[1]))

    def _frames(self) -> dict[str, DoneRecord]:
        paths = self.frame_paths.items()
        return {layer: read_record(self.store, path, DoneRecord) for layer, path in paths}

    def _outcome(self, records: Sequence[DoneRecord]) -> Proposed:
        return Proposed(
            self.kind,
            self.faiss,
            self.folder,
            self._frames(),
            self.frame_paths,
            frozenset(self._own_folder(layer) for layer in self.layers if layer not in self.kept),
            {record.key: record for record in records},
        )
