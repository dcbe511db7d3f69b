"""Estimate the memory of a training before it starts."""

from collections.abc import Mapping

from lamella.pipeline.run.budget import PROCESS_BYTES
from lamella.pipeline.vocabulary.ivf import FAR
from lamella.pipeline.vocabulary.round_assigner import CHUNK_ROWS
from lamella.schemas.vocabulary import AssignerKind

TASK_ROWS = 4
"""Rows a word of a task: its sums (8 bytes a number) then take no more than its rows (2 bytes)."""

LEAST_TASK_ROWS = 1 << 16
"""The least rows of a task, where there are few words: fewer would not be worth a task."""

LARGEST_SHARD_ROWS = 100_000
"""How many rows more a task may have: those of the shard that fills it."""


def training_memory(
    words: int, dimensions: int, rows: int, assigner: AssignerKind
) -> Mapping[str, int]:
    """Return the peak bytes of a worker, by what holds them.

    Exact training holds the products of a block; training by cells the neighbours of each word.
    """
    task_rows = min(rows, max(TASK_ROWS * words, LEAST_TASK_ROWS) + LARGEST_SHARD_ROWS)
    chunks = 4 * CHUNK_ROWS * dimensions * 4
    return {
        "process": PROCESS_BYTES,
        "centroids": 2 * words * dimensions * 4,
        "sums": words * dimensions * 8,
        "rows": task_rows * (dimensions * 2 + 48),
        "comparison": chunks
        + (words * FAR.words * 8 if assigner == "cells" else max(64 * words * 4, 16 << 20)),
    }
