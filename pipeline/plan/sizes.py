"""Sizes of the files that a run stores, computed from the columns in FORMAT.md.

Files with compression (activations, tables of images) are measured instead.
"""

import math
from collections.abc import Iterator

from lamella.pipeline.index.draw import DRAWN_IMAGES
from lamella.pipeline.index.sketch import LEADING
from lamella.pipeline.plan.vocabulary_cost import WordsProbe
from lamella.pipeline.vocabulary.ivf import NEAR, count_cells
from lamella.pipeline.vocabulary.plan import LEAST_TASK_ROWS, TASK_ROWS
from lamella.pipeline.vocabulary.rounds import HELD_ROWS
from lamella.pipeline.vocabulary.sample import HELD_PART, HELD_PER_IMAGE

ARROW = 1_000
"""About the bytes of schema, footer and padding of an Arrow file."""

RECORD = 1_500
"""About the bytes of a done record."""

ID, OFFSET, WORD, COUNT, POSTING = 8, 8, 4, 4, 5
"""Bytes of an image id, of the end of a list, of a word, of its count, and of a posting: the row
of an image and a count of one byte."""


def bags_bytes(images: float, entries: float) -> float:
    """Return the bytes of forward files; `entries` is the number of words in all bags together."""
    return images * (ID + 2 * OFFSET) + entries * (WORD + COUNT)


def global_bytes(images: float, dimensions: int, segments: int) -> dict[str, float]:
    """Return the bytes of a global layer in all segments, by kind of file."""
    axes = min(LEADING, dimensions, max(math.ceil(images / segments) - 1, 1))
    return {
        "dense": images * (ID + 4 * dimensions + 8) + ARROW * segments,
        "sketch": images * (axes + 4 + 4 + dimensions + 4) + ARROW * segments,
        "axes": segments * (dimensions * (8 + 4 * axes) + 8 * axes + ARROW),
        "drawn": drawn(images, segments) * (ID + 4 * dimensions + 8) + ARROW * segments,
    }


def drawn(images: float, segments: int) -> float:
    """Return how many images segments keep to be compared with each other."""
    return segments * min(DRAWN_IMAGES, images / segments)


def local_bytes(images: float, words: int, segments: int) -> dict[str, tuple[float, float]]:
    """Return the bytes of a local layer in all segments, by kind of file.

    Returns:
        For each kind, the bytes that do not depend on the bags, and the bytes of an entry of a bag.
    """
    few = drawn(images, segments)
    return {
        "bags": (bags_bytes(images, 0) + ARROW * segments, WORD + COUNT),
        "postings": (segments * (2 * OFFSET * (words + 1) + ARROW), POSTING),
        "document frequencies": (8 * words + ARROW, 0),
        "drawn": (bags_bytes(few, 0) + ARROW * segments, (WORD + COUNT) * few / max(images, 1)),
    }


def checkpoint_bytes(found: WordsProbe) -> float:
    """Return the bytes of a checkpoint of k-means, without the word of each row."""
    if found.assigner == "exact":
        return found.words * found.dimensions * 4
    cells = count_cells(found.words)
    return (found.words + cells) * found.dimensions * 4 + found.words * WORD + cells * OFFSET


def training_bytes(found: WordsProbe, pictures: float) -> Iterator[tuple[str, float, bool]]:
    """Yield the files of a training: kind, bytes, and whether they stay when it has ended."""
    if found.rounds == 0:  # the vocabulary is imported
        near = found.words * NEAR.words * WORD if found.assigner == "cells" else 0
        yield "words", checkpoint_bytes(found) + near + ARROW, True
        return
    rows = found.rows.mean * pictures
    held = min(HELD_PER_IMAGE, max(found.rows.mean / (HELD_PART - 1), 0.0)) * pictures
    row = 16 + 2 * found.descriptor_dimensions
    yield "sample", (rows + held) * row, True
    if found.projected:
        yield "projected sample", (rows + held) * (16 + 2 * found.dimensions), True
        yield "projection", 8.0 * found.descriptor_dimensions * (found.dimensions + 1), True
    rounds = (found.rounds + 1) * checkpoint_bytes(found) + found.rounds * 8 * found.words
    rounds += min(held, HELD_ROWS) * (16 + 2 * found.dimensions)
    if found.assigner == "cells":
        rounds += found.rounds * rows * WORD + found.words * NEAR.words * WORD
    yield "rounds", rounds + (found.rounds + 1) * (4 * ARROW + RECORD), True
    touched = min(found.words, rows / sum_tasks(found.words, rows))
    sums = sum_tasks(found.words, rows) * touched * (8 * found.dimensions + 12)
    yield "sums of a round", sums, False


def sum_tasks(words: int, rows: float) -> int:
    """Return how many summing tasks a round has."""
    return max(1, round(rows / max(TASK_ROWS * words, LEAST_TASK_ROWS)))
