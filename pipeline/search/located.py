"""Find the words of a picture again, with the place of each: the index keeps no places."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.pipeline.arrays import UInt32s
from lamella.pipeline.corpus.resize import Look
from lamella.pipeline.extract.preprocess import look_of
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.search.encode import Encoder, Row
from lamella.pipeline.search.segment import Features
from lamella.pipeline.signs import signed
from lamella.schemas.extraction import PreprocessSpec, View
from lamella.schemas.refusals import RefusalReason

Box = tuple[float, float, float, float]
"""x and y of its upper left corner, width and height, as shares of the upright picture."""


@dataclass(frozen=True, eq=False)
class WordPlaces:
    """The words of one picture in one layer, with their places.

    Attributes:
        at: by word, the (row, column) in the grid of each descriptor that counts for it.
        grid: rows and columns of the layer's grid.
        look: what the layer saw of the picture.
    """

    at: dict[int, list[tuple[int, int]]]
    grid: tuple[int, int]
    look: Look

    def boxes(self, word: int) -> tuple[Box, ...]:
        """Return the part of the picture that has a word, as boxes that do not overlap.

        A descriptor has one cell of the grid. The network sees more than that for it, a square of
        about six cells (`diagnostics/patches.py`), but most strongly what is in the middle; squares
        of that size would each cover most of a picture.
        """
        cells = rectangles(self.at.get(word, []))
        return tuple(_box(*cell, self.grid, self.look) for cell in cells)


@dataclass(frozen=True, eq=False)
class Again:
    """What one picture gives when it goes through the network again.

    Attributes:
        layers: by name, the features of one picture, as an index stores them.
        places: by local layer; a layer without descriptors has none.
    """

    layers: dict[str, Features]
    places: dict[str, WordPlaces]


Refusal = tuple[RefusalReason, str]
"""Why a picture could not be read, and a line that says more."""


def locate_pictures(
    encoder: Encoder, source: Any, rows: Sequence[Row]
) -> Iterator[tuple[int, Again | Refusal]]:
    """Yield each picture's number in the call and what it gives, or why it gives nothing.

    Words are found as `encode_pictures` finds them, in any order of the pictures; memory holds the
    descriptors of one batch.

    Args:
        source: the `PictureSource` of the rows.
        rows: of an image table; of one with a `box` only that is seen.
    """
    from lamella.pipeline.extract.work import forward_pictures, threads_for

    backbone = encoder.backbone
    for number, row in enumerate(rows):
        if row["refusal"] is not None:
            yield number, (RefusalReason(row["refusal"]), row["detail"])
    numbers = np.arange(len(rows))
    threads = threads_for(encoder.threads, backbone)
    for batch in signed(forward_pictures(backbone, source, rows, numbers, threads=threads)):
        for refusal in batch.refusals:
            yield refusal.image_id, (refusal.reason, refusal.detail)
        for slot, number in enumerate(batch.image_ids.tolist()):
            yield number, _again(encoder, batch, slot, number, rows[number])


def _again(encoder: Encoder, batch: Any, slot: int, number: int, row: Row) -> Again:
    spec = encoder.backbone.spec
    layers: dict[str, Features] = {}
    places: dict[str, WordPlaces] = {}
    for layer in spec.layers:
        if layer.kind == "global":
            layers[layer.name] = batch.vectors[layer.name][slot : slot + 1].copy()
            continue
        found, describer = batch.descriptors[layer.name], encoder.describers[layer.name]
        mine = found.image_ids == number
        words = describer.describe(found.image_ids[mine], found.vectors[mine].astype(np.float32))
        layers[layer.name] = describer.of_images([words], np.array([number]))
        look = _look(row, layer.view, spec.preprocess)
        at = _places(words.words, found.y[mine].tolist(), found.x[mine].tolist())
        places[layer.name] = WordPlaces(at, found.grid, look)
    return Again(layers, places)


def _look(row: Row, view: View, spec: PreprocessSpec) -> Look:
    return look_of(row["height"], row["width"], view, spec)


def _places(words: UInt32s, y: list[int], x: list[int]) -> dict[int, list[tuple[int, int]]]:
    at: dict[int, list[tuple[int, int]]] = {}
    for near, row, column in zip(words.tolist(), y, x, strict=True):
        for word in near:
            at.setdefault(word, []).append((row, column))
    return at


def same_words(left: Features, right: Features) -> bool:
    """Return whether two pictures have the same words, as often, and the same residuals if any."""
    if isinstance(left, Residuals) and isinstance(right, Residuals):
        return same_words(left.bags, right.bags) and np.array_equal(left.payload, right.payload)
    if isinstance(left, BagsOfWords) and isinstance(right, BagsOfWords):
        return np.array_equal(left.words, right.words) and np.array_equal(left.counts, right.counts)
    raise ValueError("bags are compared with bags, and residuals with residuals")


def rectangles(cells: Iterable[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Return rectangles that cover cells (row, column) of a grid: first and last row and column.

    They do not overlap and cover nothing else: from the top left, each as wide, then as high as
    can be.

    >>> rectangles([(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
    [(0, 1, 0, 1), (2, 2, 1, 1)]
    """
    left, found = set(cells), []
    for top, first in sorted(left):
        if (top, first) not in left:
            continue
        last, bottom = first, top
        while (top, last + 1) in left:
            last += 1
        columns = range(first, last + 1)
        while all((bottom + 1, column) in left for column in columns):
            bottom += 1
        left -= {(row, column) for row in range(top, bottom + 1) for column in columns}
        found.append((top, bottom, first, last))
    return found


def _box(top: int, bottom: int, first: int, last: int, grid: tuple[int, int], look: Look) -> Box:
    """Return the box of some cells of the grid, which lies over what the layer saw."""
    high, wide = look.cut_height / grid[0], look.cut_width / grid[1]
    return (
        (look.left + first * wide) / look.width,
        (look.top + top * high) / look.height,
        (last + 1 - first) * wide / look.width,
        (bottom + 1 - top) * high / look.height,
    )
