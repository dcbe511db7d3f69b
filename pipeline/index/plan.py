"""Estimate the memory that building a segment takes, and check it before the first one begins."""

from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq

from lamella.pipeline.index.sketch import LEADING
from lamella.pipeline.run.budget import PROCESS_BYTES, check_memory
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import DoneRecord


def segment_memory(
    images: int,
    words: Mapping[str, int],
    dimensions: Mapping[str, int],
    residuals: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return the peak bytes of a worker that builds a segment, by what holds them.

    Args:
        images: of the segment.
        words: entries of all bags (an image and a word that it holds), by local layer.
        dimensions: of a vector, by global layer.
        residuals: bytes of a residual, by local layer that has them.
    """
    widest, most = max(dimensions.values(), default=0), max(words.values(), default=0)
    held = sum(words[layer] * width for layer, width in (residuals or {}).items())
    needed = {
        "process": PROCESS_BYTES,
        "vectors": 4 * images * sum(dimensions.values()),
        "vectors as they are read": 2 * 4 * images * widest,
        "bags": 2 * 8 * sum(words.values()),
        "sketch or postings": max(images * (5 * LEADING + widest) if widest else 0, 8 * most),
    }
    # By image, and once more in the order of the posting lists.
    return needed | ({"residuals": 2 * held} if residuals else {})


def check_segments(
    store: Store,
    layers: Sequence[LayerSpec],
    segments: Sequence[tuple[Sequence[DoneRecord], Sequence[DoneRecord]]],
    available: int,
    residuals: Mapping[str, int] | None = None,
) -> None:
    """Refuse segments that a worker has no room for.

    Args:
        segments: the records of the shards of each, extracted and encoded.
        available: bytes that a worker has.
        residuals: as for `segment_memory`.

    Raises:
        InputError: the largest takes more; the message says how many images would fit.
    """
    dimensions = {
        layer.name: width
        for layer in layers
        if layer.kind == "global" and (width := _width(store, layer.name, segments))
    }
    for extracted, encoded in segments:
        images = sum(record.counts["indexed"] for record in extracted)
        words = {
            layer.name: sum(record.counts[f"words.{layer.name}"] for record in encoded)
            for layer in layers
            if layer.kind == "local"
        }
        needed = segment_memory(images, words, dimensions, residuals)
        room, rest = available - PROCESS_BYTES, sum(needed.values()) - PROCESS_BYTES
        fitting = int(images * max(room, 0) / max(rest, 1))
        check_memory(
            needed,
            available,
            f"a segment of {images:,} images takes",
            f"ask for smaller ones (index.segment_images), some {fitting:,} would fit",
        )


def _width(
    store: Store,
    layer: str,
    segments: Sequence[tuple[Sequence[DoneRecord], Sequence[DoneRecord]]],
) -> int:
    """Return how many numbers a layer's vectors have, 0 where there is none."""
    for extracted, _ in segments:
        for record in extracted:
            if layer in record.files:
                schema = read_committed(store, record.files[layer], pq.read_schema)
                return int(schema.field("vector").type.byte_width // 4)
    return 0
