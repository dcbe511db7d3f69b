"""Cut a shard's pictures into batches: a pure function of their sizes and the spec.

The last bits of a forward pass depend on the batch's shape, so every batch has the spec's size:
the last of a shape is padded with zeros, and a picture that turns out unreadable keeps its slot.
Then workers, threads, retries and the cut into shards change no bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lamella.pipeline.extract.preprocess import whole_shape
from lamella.schemas.extraction import ExtractionSpec


@dataclass(frozen=True)
class Batch:
    """Rows of a shard that go through the network together, at most the batch size."""

    rows: tuple[int, ...]
    shape: tuple[int, int]


def plan_batches(sizes: Sequence[tuple[int, int] | None], spec: ExtractionSpec) -> list[Batch]:
    """Return the batches of a shard, shape by shape, rows rising within a shape.

    Args:
        sizes: (height, width) of each picture as stored, None for one already refused.
    """
    by_shape: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        if size is not None:
            by_shape.setdefault(whole_shape(*size, spec.preprocess), []).append(row)
    return [
        Batch(tuple(rows[start : start + spec.batch_size]), shape)
        for shape, rows in sorted(by_shape.items())
        for start in range(0, len(rows), spec.batch_size)
    ]


def wasted_share(batches: Sequence[Batch], spec: ExtractionSpec) -> float:
    """Return the share of the network's work that is padding, counted in pixels.

    Each shape has one batch that is not full, so the share grows with batch size times shapes.
    """
    filled = sum(len(each.rows) * each.shape[0] * each.shape[1] for each in batches)
    whole = sum(spec.batch_size * each.shape[0] * each.shape[1] for each in batches)
    return 1 - filled / whole if whole else 0.0
