"""The index stage: make a segment, with all layers, from consecutive shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.extract.tables import GLOBAL, read_image_ids
from lamella.pipeline.index import residuals as aggregated
from lamella.pipeline.index.bags import BagsOfWords, concatenate
from lamella.pipeline.index.encode import Encoding
from lamella.pipeline.index.files import read_bags
from lamella.pipeline.index.plan import check_segments
from lamella.pipeline.index.residual_files import read_residuals
from lamella.pipeline.index.residuals import Residuals, bytes_of
from lamella.pipeline.index.segment_files import Layers, segment_counts, segment_files
from lamella.pipeline.run.drive import OnProgress, complete, quiet, read_all_done
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.signs import signed
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import binary_vectors_of, column, read_parquet
from lamella.schemas.base import digest_of
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import DoneRecord

SEGMENT_FORMAT = 3
"""The version of a segment's files, part of the digest of what decides them. 2 has sketches, 3 has
drawn images."""


@dataclass(frozen=True)
class SegmentTask:
    """Consecutive shards that become one segment: their records of extraction and of encoding."""

    key: str
    extracted: tuple[DoneRecord, ...]
    encoded: tuple[DoneRecord, ...]

    @property
    def shards(self) -> tuple[str, ...]:
        """The shards' keys."""
        return tuple(record.key for record in self.extracted)


@dataclass(frozen=True)
class IndexWork:
    """Writes the inverted, forward, residual, dense and sketch files of a segment.

    Attributes:
        words: the size of the vocabulary, by local layer.
        residuals: the local layers whose pictures are residuals (`encoding.kind` is asmk).
    """

    layers: tuple[LayerSpec, ...]
    words: Mapping[str, int]
    residuals: frozenset[str] = frozenset()

    def open(self, store: Store) -> Do[SegmentTask]:
        def build(task: SegmentTask, work: Attempt) -> Counts:
            image_ids = np.concatenate(
                [_indexed(store, record) for record in task.extracted]
            ).astype(np.int64)
            layers: dict[str, BagsOfWords | Residuals | NDArray[np.float32]] = {}
            for layer in self.layers:
                if layer.name in self.residuals:
                    layers[layer.name] = _residuals(store, task, layer.name)
                elif layer.kind == "local":
                    layers[layer.name] = _bags(store, task, layer.name)
                else:
                    layers[layer.name] = _vectors(store, task, layer.name, image_ids)
            return write_segment(work, image_ids, layers, self.words)

        return build


def write_segment(
    work: Attempt, image_ids: NDArray[np.int64], layers: Layers, words: Mapping[str, int]
) -> Counts:
    """Write the files of a segment; return the counts of its done record."""
    for file in signed(segment_files(image_ids, layers, words)):
        place = tree.layer_folder(work.folder, file.layer or "images")
        work.write(file.name, place, file.suffix, file.write)
    return {"images": len(image_ids), **segment_counts(layers)}


def _indexed(store: Store, record: DoneRecord) -> NDArray[Any]:
    return read_committed(store, record.files["images"], read_image_ids)


def _bags(store: Store, task: SegmentTask, layer: str) -> BagsOfWords:
    return concatenate(
        [read_committed(store, record.files[layer], read_bags)[1] for record in task.encoded]
    )


def _residuals(store: Store, task: SegmentTask, layer: str) -> Residuals:
    return aggregated.concatenate(
        [read_committed(store, record.files[layer], read_residuals)[1] for record in task.encoded]
    )


def _vectors(
    store: Store, task: SegmentTask, layer: str, image_ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return a layer's vectors, (n, D) float32, in the order of `image_ids`.

    Extraction stores them in the order of its batches.
    """
    ids: list[NDArray[Any]] = []
    vectors: list[NDArray[np.float32]] = []
    for record in task.extracted:
        if layer in record.files:
            table = read_committed(
                store, record.files[layer], lambda path: read_parquet(path, schema=GLOBAL)
            )
            ids.append(column(table, "image_id"))
            vectors.append(binary_vectors_of(table, "vector", np.float32))
    if not ids:
        vectors, ids = [np.empty((0, 1), np.float32)], [np.empty(0, np.int64)]
    order = np.argsort(np.concatenate(ids), kind="stable")
    if not np.array_equal(np.concatenate(ids)[order], image_ids):
        raise AssertionError(f"segment {task.key}: layer {layer} is not of the indexed images")
    return np.ascontiguousarray(np.concatenate(vectors)[order])


@dataclass(frozen=True)
class Index:
    """The outcome of the index stage: tasks and done records of all segments, in order."""

    folder: str
    inputs: str
    tasks: tuple[SegmentTask, ...]
    records: tuple[DoneRecord, ...]


def index_inputs(encoding: str, extraction: str, segment_images: int) -> str:
    """Return the digest of what decides a corpus's segments."""
    return digest_of([encoding, extraction, segment_images, SEGMENT_FORMAT])


def index_place(encoding: Encoding, segment_images: int) -> tuple[str, str]:
    """Return the folder of a corpus's segments and the digest of what decides them."""
    extraction = encoding.extraction
    inputs = index_inputs(encoding.inputs, extraction.inputs, segment_images)
    return tree.INDEX.folder(keyed=tree.keyed(extraction.spec.network, inputs)), inputs


def find_index(store: Store, encoding: Encoding, segment_images: int) -> Index | None:
    """Return the segments of a corpus, None if one is missing."""
    folder, inputs = index_place(encoding, segment_images)
    tasks = cut_segments(encoding.extraction.records, encoding.records, segment_images)
    records = read_all_done(store, folder, [task.key for task in tasks])
    done = tuple(record for record in records if record is not None)
    return Index(folder, inputs, tuple(tasks), done) if len(done) == len(records) else None


def index_corpus(
    store: Store,
    runner: Runner,
    encoding: Encoding,
    *,
    segment_images: int,
    on_progress: OnProgress = quiet,
) -> Index:
    """Make the segments that are missing; return all.

    Args:
        segment_images: images of a segment, at least; only the last may have fewer.

    Raises:
        InputError: a worker has too little memory for a segment.
        StageFailed: tasks failed; those that are done stay done.
    """
    extraction = encoding.extraction
    folder, inputs = index_place(encoding, segment_images)
    tasks = cut_segments(extraction.records, encoding.records, segment_images)
    vocabularies = encoding.vocabularies
    residuals = {
        layer: bytes_of(each.dimensions, each.encoding.residuals)
        for layer, each in vocabularies.items()
        if each.encoding.kind == "asmk"
    }
    check_segments(
        store,
        extraction.spec.layers,
        [(task.extracted, task.encoded) for task in tasks],
        runner.memory_per_worker(),
        residuals,
    )
    words = {layer: vocabulary.words for layer, vocabulary in vocabularies.items()}
    work = IndexWork(extraction.spec.layers, words, frozenset(residuals))
    records = complete(
        store,
        runner,
        StoreStep(tree.INDEX, store.url, folder, inputs, work),
        tasks,
        units=lambda task: sum(record.counts["indexed"] for record in task.extracted),
        on_progress=on_progress,
    )
    return Index(folder, inputs, tuple(tasks), tuple(records))


def cut_segments(
    extracted: Sequence[DoneRecord], encoded: Sequence[DoneRecord], segment_images: int
) -> list[SegmentTask]:
    """Return runs of whole shards with at least `segment_images` images each, except the last."""
    tasks: list[SegmentTask] = []
    run: list[int] = []
    images = 0
    for number, record in enumerate(extracted):
        run.append(number)
        images += record.counts["indexed"]
        if images >= segment_images or number == len(extracted) - 1:
            tasks.append(
                SegmentTask(
                    tree.shard_key(len(tasks)),
                    tuple(extracted[i] for i in run),
                    tuple(encoded[i] for i in run),
                )
            )
            run, images = [], 0
    return tasks
