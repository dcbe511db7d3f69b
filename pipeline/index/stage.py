"""The index stage: make a segment, with all layers, from consecutive shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.cut import cut_segments
from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.tables import GLOBAL, read_image_ids
from lamella.pipeline.extract.taken import lacks
from lamella.pipeline.index import residuals as aggregated
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.index.encode import Encoding
from lamella.pipeline.index.files import read_bags
from lamella.pipeline.index.plan import check_segments
from lamella.pipeline.index.residual_files import read_residuals
from lamella.pipeline.index.residuals import Residuals, bytes_of
from lamella.pipeline.index.segment_files import Layers, members_of, segment_counts, segment_files
from lamella.pipeline.run.drive import OnProgress, complete, quiet, read_all_done
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.signs import signed
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, create_once, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import binary_vectors_of, column, read_parquet
from lamella.schemas.base import digest_of
from lamella.schemas.corpus import ShardRef
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import DoneRecord
from lamella.schemas.snapshot import SegmentManifest

SEGMENT_FORMAT = 4
"""The version of a segment's files, part of the digest of what decides them. 2 has sketches, 3
drawn images, 4 says which row of which shard an image is, and counts the images of each word."""


@dataclass(frozen=True)
class SegmentTask:
    """Consecutive shards that become one segment: their records of extraction and of encoding.

    `key` is made from what the shards hold, so the same shards are the same segment in every
    corpus.
    """

    key: str
    shards: tuple[ShardRef, ...]
    extracted: tuple[DoneRecord, ...]
    encoded: tuple[DoneRecord, ...]


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
            members = _members(store, task)
            image_ids = column(members, "image_id").astype(np.int64)
            layers: dict[str, BagsOfWords | Residuals | NDArray[np.float32]] = {}
            for layer in self.layers:
                if layer.name in self.residuals:
                    layers[layer.name] = _residuals(store, task, layer.name, image_ids)
                elif layer.kind == "local":
                    layers[layer.name] = _bags(store, task, layer.name, image_ids)
                else:
                    layers[layer.name] = _vectors(store, task, layer.name, image_ids)
            return write_segment(work, members, layers, self.words)

        return build


def write_segment(work: Attempt, members: Any, layers: Layers, words: Mapping[str, int]) -> Counts:
    """Write the files of a segment; return the counts of its done record.

    Args:
        members: a table of its images, ids rising; see `segment_files`.
    """
    for file in signed(segment_files(members, layers, words)):
        place = tree.layer_folder(work.folder, file.layer or "images")
        work.write(file.name, place, file.suffix, file.write)
    return {"images": members.num_rows, **segment_counts(layers)}


def _members(store: Store, task: SegmentTask) -> Any:
    """Return a table of the images of a segment, ids rising: each with the number of its shard in
    the segment, and its row in the image table of that shard.
    """
    ids, shards, rows = [], [], []
    for number, (shard, record) in enumerate(zip(task.shards, task.extracted, strict=True)):
        table = read_committed(store, shard.file, lambda path: read_images(path, ["image_id"]))
        known = column(table, "image_id").astype(np.int64)
        own = read_committed(store, record.files["images"], read_image_ids)
        order = np.argsort(known, kind="stable")
        at = np.minimum(np.searchsorted(known, own, sorter=order), max(len(known) - 1, 0))
        if len(own) and not np.array_equal(known[order[at]], own):
            raise lacks(shard.file)
        ids.append(own)
        shards.append(np.full(len(own), number, np.int32))
        rows.append(order[at].astype(np.int32) if len(own) else np.empty(0, np.int32))
    every = np.concatenate(ids)
    order = np.argsort(every, kind="stable")
    return members_of(every[order], np.concatenate(shards)[order], np.concatenate(rows)[order])


def _bags(store: Store, task: SegmentTask, layer: str, image_ids: NDArray[np.int64]) -> BagsOfWords:
    parts = [read_committed(store, record.files[layer], read_bags) for record in task.encoded]
    return select(concatenate([bags for _, bags in parts]), _order(parts, image_ids, layer))


def _residuals(
    store: Store, task: SegmentTask, layer: str, image_ids: NDArray[np.int64]
) -> Residuals:
    parts = [read_committed(store, record.files[layer], read_residuals) for record in task.encoded]
    together = aggregated.concatenate([residuals for _, residuals in parts])
    return aggregated.select(together, _order(parts, image_ids, layer))


def _order(
    parts: Sequence[tuple[NDArray[np.int64], Any]], image_ids: NDArray[np.int64], layer: str
) -> NDArray[np.int64]:
    """Return the rows of these images, joined part after part, in the order of `image_ids`."""
    ids = np.concatenate([part for part, _ in parts])
    order = np.argsort(ids, kind="stable")
    if not np.array_equal(ids[order], image_ids):
        raise AssertionError(f"words of layer {layer} are not of the indexed images")
    return order


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


def index_inputs(encoding: str) -> str:
    """Return the digest of what decides a segment besides its shards."""
    return digest_of([encoding, SEGMENT_FORMAT])


def index_place(encoding: Encoding) -> tuple[str, str]:
    """Return the folder of segments and the digest of what decides them; all corpora share it."""
    inputs = index_inputs(encoding.inputs)
    return tree.INDEX.folder(keyed=tree.keyed(encoding.extraction.spec.network, inputs)), inputs


@dataclass(frozen=True)
class Cuts:
    """How large shards and segments are to be, in images; see `corpus.cut`."""

    shard_images: int
    segment_images: int


def find_index(store: Store, encoding: Encoding, cuts: Cuts) -> Index | None:
    """Return the segments of a corpus, None if one is missing."""
    folder, inputs = index_place(encoding)
    tasks = segment_tasks(encoding, cuts)
    records = read_all_done(store, folder, [task.key for task in tasks])
    done = tuple(record for record in records if record is not None)
    if len(done) < len(records):
        return None
    if not all(store.exists(path) for path in _manifests(folder, tasks)):
        return None
    return Index(folder, inputs, tuple(tasks), done)


def index_corpus(
    store: Store,
    runner: Runner,
    encoding: Encoding,
    cuts: Cuts,
    *,
    on_progress: OnProgress = quiet,
) -> Index:
    """Make the segments that are missing; return all.

    Raises:
        InputError: a worker has too little memory for a segment.
        StageFailed: tasks failed; those that are done stay done.
    """
    extraction = encoding.extraction
    folder, inputs = index_place(encoding)
    tasks = segment_tasks(encoding, cuts)
    vocabularies = encoding.vocabularies
    residuals = {
        layer: bytes_of(each.dimensions, each.encoding.residuals)
        for layer, each in vocabularies.items()
        if each.encoding.kind == "asmk"
    }
    found = read_all_done(store, folder, [task.key for task in tasks])
    pending = [task for task, record in zip(tasks, found, strict=True) if record is None]
    check_segments(
        store,
        extraction.spec.layers,
        [(task.extracted, task.encoded) for task in pending],
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
        found=found,
        on_progress=on_progress,
    )
    for path, task in zip(_manifests(folder, tasks), tasks, strict=True):
        if not store.exists(path):
            create_once(store, path, SegmentManifest(key=task.key, shards=task.shards).to_json())
    return Index(folder, inputs, tuple(tasks), tuple(records))


def _manifests(folder: str, tasks: Sequence[SegmentTask]) -> list[str]:
    parts = tree.parts_of(folder)
    return [tree.SEGMENT.at(**parts, key=task.key) for task in tasks]


def segment_tasks(encoding: Encoding, cuts: Cuts) -> list[SegmentTask]:
    """Return the segments of a corpus; a segment's key is made of what its shards gave.

    A run of shards without any indexed image is no segment by itself: it goes with the one before,
    or, as the first, with the next.
    """
    extraction = encoding.extraction
    runs: list[slice] = []
    first = 0
    for shards in cut_segments(extraction.shards, cuts.shard_images, cuts.segment_images):
        run = slice(first, first + len(shards))
        first = run.stop
        if runs and not (_has_images(extraction, run) and _has_images(extraction, runs[-1])):
            run = slice(runs.pop().start, run.stop)
        runs.append(run)
    return [
        SegmentTask(
            segment_key(extraction.keys[run]),
            extraction.shards[run],
            extraction.records[run],
            encoding.records[run],
        )
        for run in runs
    ]


def _has_images(extraction: Extraction, run: slice) -> bool:
    return any(record.counts["indexed"] for record in extraction.records[run])


def segment_key(keys: Sequence[str]) -> str:
    """Return the key of a segment, from the keys of what was extracted of its shards."""
    return tree.content_key(digest_of(keys))
