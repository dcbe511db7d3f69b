"""The training sample: an equal cap of descriptors an image, chosen by hash, shard by shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.extract.tables import LOCAL
from lamella.pipeline.run.step import Counts, Do
from lamella.pipeline.signs import signed
from lamella.pipeline.store.commit import WRONG_FORM, Attempt, open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import (
    binary_vectors_of,
    column,
    map_arrow,
    of,
    open_parquet,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)
from lamella.pipeline.vocabulary.batches import row_uniforms
from lamella.pipeline.vocabulary.ivf_kernels import squared_norms_of_bits, widen
from lamella.pipeline.vocabulary.partial import LONGEST_TRAINED
from lamella.schemas.files import FileRef
from lamella.schemas.vocabulary import VocabularySpec

SAMPLE_SEED = 0x5A4D504C45
"""Added to the seed, so that these draws differ from those of the initial centroids."""


HELD_PER_IMAGE, HELD_PART = 4, 16
"""An image holds out at most 4 rows, and below its cap at most one in 16 of its rows."""


@dataclass(frozen=True)
class Sample:
    """Descriptors to train on: ids and positions (n,) int64, vectors (n, D) float16."""

    image_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    vectors: NDArray[np.float16]

    def __post_init__(self) -> None:
        if not len(self.image_ids) == len(self.positions) == len(self.vectors):
            raise ValueError(
                f"a sample has an image id and a position a row; got {len(self.image_ids):,} and "
                f"{len(self.positions):,} for {len(self.vectors):,}"
            )
        if self.vectors.dtype != np.float16:
            raise ValueError(f"a sample holds float16; got {self.vectors.dtype}")

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def bits(self) -> NDArray[np.uint16]:
        """The bits of the vectors."""
        return np.ascontiguousarray(self.vectors).view(np.uint16)

    def descriptors(self, rows: NDArray[np.int64] | slice = slice(None)) -> Float32s:
        """Return some rows as float32, for arithmetic."""
        return widen(self.bits, np.arange(len(self))[rows])

    def rows(self, rows: NDArray[Any] | slice) -> "Sample":
        """Return some rows as a sample of their own."""
        return Sample(self.image_ids[rows], self.positions[rows], self.vectors[rows])


def join_samples(samples: Sequence[Sample]) -> Sample:
    """Return the rows of all samples, one after the other; a single one is not copied."""
    if len(samples) == 1:
        return samples[0]
    return Sample(
        np.concatenate([sample.image_ids for sample in samples]),
        np.concatenate([sample.positions for sample in samples]),
        np.concatenate([sample.vectors for sample in samples]),
    )


@dataclass(frozen=True)
class SampleTask:
    """A shard's file of local descriptors."""

    key: str
    file: FileRef


@dataclass(frozen=True)
class SampleWork:
    """Keeps at most `cap` descriptors of each image of a shard, and holds out a few more."""

    cap: int
    seed: int

    def open(self, store: Store) -> Do[SampleTask]:
        def draw(task: SampleTask, work: Attempt) -> Counts:
            path = open_committed(store, task.file)
            try:
                sample, held = draw_sample(path, self.cap, self.seed)
            except WRONG_FORM as error:
                raise InputError(f"{task.file.path}: {one_line(error)}") from error
            work.write("sample", work.folder, "arrow", partial(write_sample, sample))
            work.write("held", work.folder, "held.arrow", partial(write_sample, held))
            return {"descriptors": len(sample), "held": len(held)}

        return draw


def cap_of(spec: VocabularySpec, images: int) -> int:
    """Return the most descriptors an image gives, at least 1, for this many images."""
    return max(1, min(spec.descriptors_per_image, spec.descriptors // max(images, 1)))


def draw_sample(path: Path, cap: int, seed: int) -> tuple[Sample, Sample]:
    """Return up to `cap` descriptors of each image, and a few others to measure on.

    Those with the smallest hashes are trained on, the next ones are held out: at most
    `HELD_PER_IMAGE` an image, and fewer where it has few. Both in the order of the file, which is
    read row group by row group.

    Raises:
        ValueError: a number is not finite, or a descriptor is longer than `LONGEST_TRAINED`; the
            row is named.
    """
    with open_parquet(path, LOCAL) as file:
        starts = np.cumsum(
            [0] + [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        )
        parts = [
            _draw(file.read_row_group(group), cap, seed, int(starts[group]))
            for group in signed(range(file.metadata.num_row_groups))
        ]
    return join_samples([part[0] for part in parts]), join_samples([part[1] for part in parts])


def _draw(table: Any, cap: int, seed: int, first_row: int) -> tuple[Sample, Sample]:
    image_ids = column(table, "image_id").astype(np.int64)
    positions = column(table, "y").astype(np.int64) << 16 | column(table, "x").astype(np.int64)
    vectors = binary_vectors_of(table, "vector", np.float16)
    _check_vectors(vectors, first_row)
    uniforms = row_uniforms(seed + SAMPLE_SEED, image_ids, positions)
    # A picture's rows stand together in one row group, so its cap can be applied here.
    order = np.lexsort((uniforms, image_ids))
    starts = np.flatnonzero(np.r_[True, np.diff(image_ids[order]) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    most = np.repeat(np.minimum(cap, sizes - sizes // HELD_PART), sizes)
    rows = Sample(image_ids, positions, vectors)
    return (
        rows.rows(np.sort(order[place < most])),
        rows.rows(np.sort(order[(place >= most) & (place < most + HELD_PER_IMAGE)])),
    )


def _check_vectors(vectors: NDArray[np.float16], first_row: int) -> None:
    norms = squared_norms_of_bits(vectors.view(np.uint16))
    bad = np.flatnonzero(~(norms <= LONGEST_TRAINED**2))
    if len(bad):
        raise ValueError(
            f"row {first_row + int(bad[0]):,} holds a number that is not finite, or is longer than "
            f"{LONGEST_TRAINED:g}: descriptors have unit length; the activations are damaged or "
            "from elsewhere: extract them again"
        )


_SAMPLE = {
    "image_id": of(pa.int64()),
    "position": of(pa.int64()),
    "vector": vectors_of_type(pa.float16()),
}


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
    table = map_arrow(path, _SAMPLE)
    return Sample(column(table, "image_id"), column(table, "position"), vectors_of(table, "vector"))
