"""Find the descriptors nearest to a word, among those assigned to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.assign import Assigner
from lamella.pipeline.vocabulary.sample import Sample

BLOCK = 16_384
"""Descriptors compared with the words at a time."""


@dataclass(frozen=True)
class Exciter:
    """A descriptor of a word: its picture, its position y, x in the grid, and its distance."""

    image_id: int
    y: int
    x: int
    squared_distance: float


def nearest_in_each_picture(
    samples: Iterable[Sample], assigner: Assigner, words: Sequence[int], most: int
) -> tuple[dict[int, list[Exciter]], int]:
    """Return for each word its nearest descriptors, at most one a picture, and the last grid line.

    Only descriptors assigned to the word count; ordered by distance, then image id, then position.
    The last line is the highest y or x along the shorter edge of any picture's grid.

    Args:
        samples: of the layer's descriptors.
        words: to look for.
        most: how many descriptors to keep for each word.
    """
    wanted = np.asarray(sorted(words), np.uint32)
    parts: list[tuple[NDArray[Any], ...]] = []
    last: dict[int, tuple[int, int]] = {}
    for sample in samples:
        for start in range(0, len(sample.image_ids), BLOCK):
            block = slice(start, start + BLOCK)
            ids, positions = sample.image_ids[block], sample.positions[block]
            found = assigner.assign(sample.descriptors(block))
            kept = np.flatnonzero(np.isin(found.words, wanted))
            columns = (found.words, found.squared_distances, ids, positions)
            parts.append(tuple(column[kept] for column in columns))
            _note_last(last, ids, positions)
    shorter = max((min(edges) for edges in last.values()), default=0)
    if not parts:
        return {word: [] for word in words}, shorter
    of, distances, ids, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((positions, ids, distances))
    nearest: dict[int, list[Exciter]] = {}
    for word in words:
        rows = order[of[order] == word]
        _, first = np.unique(ids[rows], return_index=True)
        nearest[word] = [
            Exciter(
                int(ids[row]),
                int(positions[row]) >> 16,
                int(positions[row]) & 0xFFFF,
                float(distances[row]),
            )
            for row in rows[np.sort(first)[:most]]
        ]
    return nearest, shorter


def _note_last(
    last: dict[int, tuple[int, int]], ids: NDArray[np.int64], positions: NDArray[np.int64]
) -> None:
    """Keep the highest y and x at which each picture has a descriptor."""
    for image_id in np.unique(ids).tolist():
        mine = positions[ids == image_id]
        y, x = last.get(image_id, (0, 0))
        last[image_id] = max(y, int(mine.max() >> 16)), max(x, int((mine & 0xFFFF).max()))
