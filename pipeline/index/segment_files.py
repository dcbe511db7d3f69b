"""The files of a segment, made from the bags and vectors of its images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.index.bags import BagsOfWords, select
from lamella.pipeline.index.draw import draw
from lamella.pipeline.index.files import (
    write_axes,
    write_bags,
    write_dense,
    write_postings,
    write_sketch,
)
from lamella.pipeline.index.postings import document_frequencies, invert
from lamella.pipeline.index.residual_files import write_payload, write_residuals
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.index.residuals import select as select_residuals
from lamella.pipeline.index.sketch import sketch_vectors
from lamella.pipeline.search.score import dense_norms
from lamella.pipeline.store.tables import column, write_arrow

Layers = Mapping[str, BagsOfWords | Residuals | NDArray[np.float32]]


@dataclass(frozen=True)
class SegmentFile:
    """A file to be written: `LAYER.KIND`, or `images`; `layer` is None for that one."""

    name: str
    layer: str | None
    suffix: str
    write: Callable[[Path], int]


def members_of(
    image_ids: NDArray[np.int64],
    shards: NDArray[np.int32] | None = None,
    rows: NDArray[np.int32] | None = None,
) -> Any:
    """Return the table of a segment's images: each with the shard and the row where it stands.

    Args:
        image_ids: (n,) rising.
        shards, rows: (n,); by default all stand in one shard, in this order.
    """
    count = len(image_ids)
    shards = np.zeros(count, np.int32) if shards is None else shards
    rows = np.arange(count, dtype=np.int32) if rows is None else rows
    return pa.table(
        {"image_id": pa.array(image_ids), "shard": pa.array(shards), "row": pa.array(rows)}
    )


def segment_files(
    members: Any, layers: Layers, words: Mapping[str, int], threads: int = 1
) -> Iterator[SegmentFile]:
    """Yield the files of a segment one by one, each made on demand.

    Args:
        members: n images, as `members_of` gives them.
        layers: n bags, n residuals, or (n, D) float32 vectors, in that order.
        words: of each local layer's vocabulary.
        threads: changes no bit.
    """
    image_ids = column(members, "image_id").astype(np.int64)
    drawn = draw(image_ids)
    yield SegmentFile("images", None, "arrow", partial(write_arrow, members))
    for name, value in layers.items():
        if isinstance(value, BagsOfWords | Residuals):
            bags = value.bags if isinstance(value, Residuals) else value
            yield _file(name, "bags", partial(write_bags, image_ids, bags))
            postings = invert(bags, words[name])
            yield _file(name, "postings", partial(write_postings, postings))
            held = pa.table({"document_frequency": pa.array(document_frequencies(postings))})
            yield _file(name, "frequencies", partial(write_arrow, held))
            if isinstance(value, Residuals):
                yield _file(name, "payload", partial(write_payload, value))
                some = partial(write_residuals, image_ids[drawn], select_residuals(value, drawn))
            else:
                some = partial(write_bags, image_ids[drawn], select(value, drawn))
            yield _file(name, "drawn", some)
        else:
            norms = dense_norms(value)
            yield _file(name, "dense", partial(write_dense, image_ids, value, norms))
            sketch = sketch_vectors(value, norms, threads=threads)
            yield _file(name, "sketch", partial(write_sketch, sketch))
            yield _file(name, "axes", partial(write_axes, sketch))
            few = partial(write_dense, image_ids[drawn], value[drawn], norms[drawn])
            yield _file(name, "drawn", few)


def segment_counts(layers: Layers) -> dict[str, int]:
    """Return the counts of a segment's record for each layer: postings, and images without any word
    or with a vector of zeros.
    """
    counts: dict[str, int] = {}
    for name, value in layers.items():
        if isinstance(value, BagsOfWords | Residuals):
            bags = value.bags if isinstance(value, Residuals) else value
            counts[f"postings.{name}"] = len(bags.words)
            counts[f"zero.{name}"] = int(np.count_nonzero(np.diff(bags.offsets) == 0))
        else:
            counts[f"zero.{name}"] = int(np.count_nonzero(~value.any(axis=1)))
    return counts


def _file(layer: str, kind: str, write: Callable[[Path], int]) -> SegmentFile:
    return SegmentFile(f"{layer}.{kind}", layer, f"{kind}.arrow", write)
