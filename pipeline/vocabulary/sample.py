"""The training sample: an equal cap of descriptors an image, chosen by hash, shard by shard."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.run.stage import Task
from pipeline.store.commit import attempt, open_committed
from pipeline.store.storage import open_store
from pipeline.store.tables import (
    binary_vectors_of,
    column,
    map_arrow,
    vectors_column,
    vectors_of,
    write_arrow,
)
from pipeline.vocabulary.batches import row_uniforms
from pipeline.vocabulary.compare import Float32s
from schemas.files import DoneRecord, FileRef

SAMPLE_SEED = 0x5A4D504C45
"""Added to the seed, so that rows chosen here are not also the first ones of the nested batches."""


@dataclass(frozen=True)
class Sample:
    """Descriptors to train on: ids and positions (n,) int64, vectors (n, D) float16."""

    image_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    vectors: NDArray[np.float16]

    def descriptors(self, rows: NDArray[Any] | slice = slice(None)) -> Float32s:
        """Return some rows as the float32 that the arithmetic works on."""
        return self.vectors[rows].astype(np.float32)


@dataclass(frozen=True)
class SampleTask:
    """A shard's file of local descriptors."""

    key: str
    file: FileRef


@dataclass(frozen=True)
class SampleStage:
    """Keeps at most `cap` descriptors of each image of a shard."""

    store_url: str
    folder: str
    inputs: str
    layer: str
    cap: int
    seed: int
    uses_gpu: bool = False

    @property
    def name(self) -> str:
        return f"sample {self.layer}"

    def open(self) -> Callable[[Task], DoneRecord]:
        store = open_store(self.store_url)

        def draw(task: Any) -> DoneRecord:
            sample = draw_sample(open_committed(store, task.file), self.cap, self.seed)
            with attempt(store, self.folder, "sample", task.key, self.inputs) as work:
                work.write("sample", self.folder, "arrow", lambda path: write_sample(sample, path))
                return work.finish(descriptors=len(sample.image_ids))

        return draw


def draw_sample(path: Path, cap: int, seed: int) -> Sample:
    """Return up to `cap` descriptors of each image: those whose hash is least, in file order."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        parts = [
            _draw(file.read_row_group(group), cap, seed)
            for group in range(file.metadata.num_row_groups)
        ]
    return Sample(
        np.concatenate([part.image_ids for part in parts]),
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.vectors for part in parts]),
    )


def _draw(table: Any, cap: int, seed: int) -> Sample:
    image_ids = column(table, "image_id").astype(np.int64)
    positions = column(table, "y").astype(np.int64) << 16 | column(table, "x").astype(np.int64)
    uniforms = row_uniforms(seed + SAMPLE_SEED, image_ids, positions)
    # A picture's rows stand together in one row group, so its cap can be applied here.
    order = np.lexsort((uniforms, image_ids))
    starts = np.flatnonzero(np.r_[True, np.diff(image_ids[order]) != 0])
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    rows = np.sort(order[place < cap])
    vectors = binary_vectors_of(table, "vector", np.float16)
    return Sample(image_ids[rows], positions[rows], vectors[rows])


def write_sample(sample: Sample, path: Path) -> int:
    """Write a sample as an Arrow file; return its rows."""
    columns = {
        "image_id": pa.array(sample.image_ids),
        "position": pa.array(sample.positions),
        "vector": vectors_column(sample.vectors),
    }
    return write_arrow(pa.table(columns), path)


def read_sample(path: Path) -> Sample:
    """Map a sample's file."""
    table = map_arrow(path)
    return Sample(column(table, "image_id"), column(table, "position"), vectors_of(table, "vector"))
