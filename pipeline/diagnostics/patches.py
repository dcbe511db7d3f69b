"""Show what excites a word: patches around the descriptors nearest to it.

Figure 1 of Yu et al. 2017 shows neurons in this way. The patch estimates what a descriptor sees: a
square of `PATCH_STRIDES` strides of the layer's grid around the centre of its position, cut from
the network's input. The stride is the shorter edge of that input over the grid's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import see_row
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look
from lamella.pipeline.diagnostics.inspect import kept_of
from lamella.pipeline.diagnostics.nearest import Exciter, nearest_in_each_picture
from lamella.pipeline.errors import SourceGone
from lamella.pipeline.extract.preprocess import look_of
from lamella.pipeline.index.encode import open_assigner
from lamella.pipeline.page.jpeg import jpeg_of
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.sample import Sample, read_sample
from lamella.schemas.extraction import PreprocessSpec, View
from lamella.schemas.files import FileRef
from lamella.schemas.snapshot import IndexSnapshot

PATCH_STRIDES = 6
"""Edge of a patch in strides of the layer's grid."""

PATCH_EDGE = 128
"""Edge in pixels of a patch on the page, where the picture has so many pixels."""

PATCHES_A_WORD = 8

MOST_ROWS = 400_000
"""The most descriptors searched; further files of the sample are left out."""


@dataclass(frozen=True)
class Patch:
    """A patch as a JPEG, and the name of its picture."""

    name: str
    squared_distance: float
    jpeg: bytes


@dataclass(frozen=True)
class WordPatches:
    """The patches of a word, nearest first, and how many pictures could not be read for them."""

    word: int
    patches: tuple[Patch, ...]
    unreadable: int


@dataclass(frozen=True)
class Seen:
    """The patches of some words, the number of descriptors searched, and the number there are."""

    words: tuple[WordPatches, ...]
    looked_at: int
    rows: int

    def of(self, words: Sequence[int]) -> tuple[WordPatches, ...]:
        """Return the patches of some of the words."""
        return tuple(each for each in self.words if each.word in words)


Row = Mapping[str, Any]
Cut = Callable[[Row, Sequence[Look]], Sequence[NDArray[np.uint8]]]
"""Gives the pixels of each look at the picture of a row; raises Refused where it cannot be read."""


def patch_look(
    size: tuple[int, int], at: tuple[int, int], stride: float, view: View, spec: PreprocessSpec
) -> Look:
    """Return the look at the patch around a position of a picture.

    The picture is resized as for the network, but finer where it has the pixels for a patch edge of
    `PATCH_EDGE`. A patch that would cross the picture's edge is moved inside.

    Args:
        size: (height, width) of the picture.
        at: (y, x) in the grid.
        stride: of the grid, in pixels of the network's input.
    """
    seen = look_of(*size, view, spec)
    larger = max(1.0, min(size) / min(seen.height, seen.width))
    scale = min(PATCH_EDGE / (PATCH_STRIDES * stride), larger)
    height, width = max(1, round(seen.height * scale)), max(1, round(seen.width * scale))
    edge = max(1, min(round(PATCH_STRIDES * stride * scale), height, width))

    def begin(offset: int, place: int, whole: int) -> int:
        middle = (offset + (place + 0.5) * stride) * scale
        return int(np.clip(round(middle - edge / 2), 0, whole - edge))

    top, left = begin(seen.top, at[0], height), begin(seen.left, at[1], width)
    return Look(height, width, top, left, edge, edge)


def cut_patches(
    nearest: Mapping[int, Sequence[Exciter]],
    rows: Mapping[int, Row],
    look: Callable[[Row, Exciter], Look],
    cut: Cut,
    on_picture: Callable[[int], None] = lambda done: None,
) -> tuple[WordPatches, ...]:
    """Return the patches of words; each picture is read once.

    A picture that cannot be read any more is left out and counted.

    Args:
        nearest: descriptors by word.
        rows: of the image table, by image id.
        look: where the patch of a descriptor lies.
        cut: reads a picture.
        on_picture: called with the number of pictures read so far.
    """
    of_picture: dict[int, list[tuple[int, int, Exciter]]] = defaultdict(list)
    for word, exciters in nearest.items():
        for place, exciter in enumerate(exciters):
            of_picture[exciter.image_id].append((word, place, exciter))
    cut_out: dict[tuple[int, int], Patch] = {}
    for done, (image_id, wanted) in enumerate(sorted(of_picture.items())):
        row = rows[image_id]
        try:
            shown = cut(row, [look(row, exciter) for _, _, exciter in wanted])
        except (Refused, SourceGone):
            shown = []
        for (word, place, exciter), pixels in zip(wanted, shown, strict=False):
            patch = Patch(str(row["name"]), exciter.squared_distance, jpeg_of(pixels))
            cut_out[word, place] = patch
        on_picture(done + 1)
    return tuple(
        WordPatches(
            word=word,
            patches=(found := tuple(_there(cut_out, word, len(exciters)))),
            unreadable=len(exciters) - len(found),
        )
        for word, exciters in nearest.items()
    )


def _there(patches: Mapping[tuple[int, int], Patch], word: int, places: int) -> Iterator[Patch]:
    return (patches[word, place] for place in range(places) if (word, place) in patches)


def word_patches(
    store: Store,
    snapshot: IndexSnapshot,
    layer: str,
    words: Sequence[int],
    *,
    most: int = PATCHES_A_WORD,
    pictures: str | None = None,
    on_progress: OnProgress = quiet,
) -> Seen:
    """Return the patches that excite these words of a layer most, from the training sample.

    At most about `MOST_ROWS` descriptors are looked at.

    Args:
        pictures: the source as the user names it now.

    Raises:
        InputError: the pictures may not be read, as `picture_root`.
    """
    vocabulary, spec = snapshot.vocabularies[layer], snapshot.extraction
    files = kept_of(store, vocabulary).sample
    chosen = some_files(files, MOST_ROWS)
    if not chosen:
        return Seen(tuple(WordPatches(word, (), 0) for word in words), 0, 0)
    name = f"nearest {layer}"

    def samples() -> Iterator[Sample]:
        for done, file in enumerate(chosen):
            yield read_committed(store, file, read_sample)
            on_progress(Progress(name, done + 1, len(chosen), done + 1, len(chosen)))

    nearest, last = nearest_in_each_picture(
        samples(), open_assigner(store, vocabulary), words, most
    )
    view = spec.layer(layer).view
    images = ImageTable(store, snapshot, pictures=pictures)
    ids = {exciter.image_id for exciters in nearest.values() for exciter in exciters}
    rows = {image_id: images.row(image_id) for image_id in sorted(ids)}
    edge = spec.preprocess.short_edge if view == "whole" else spec.preprocess.crop
    limits = DecodeLimits()

    def look(row: Row, exciter: Exciter) -> Look:
        size = (row["height"], row["width"])
        return patch_look(size, (exciter.y, exciter.x), edge / (last + 1), view, spec.preprocess)

    def show(done: int) -> None:
        on_progress(Progress(f"patches {layer}", done, len(rows), done, len(rows)))

    with EntryReader(images.root, limits, images.kind) as reader:
        cut = cut_patches(
            nearest, rows, look, lambda row, looks: see_row(reader, row, looks, limits), show
        )
    return Seen(cut, sum(file.rows for file in chosen), sum(file.rows for file in files))


def some_files(files: Sequence[FileRef], most_rows: int) -> tuple[FileRef, ...]:
    """Return files of about `most_rows` rows, evenly spaced among all of them; at least one.

    A file without rows is left out.
    """
    files = [file for file in files if file.rows]
    rows = sum(file.rows for file in files)
    if rows <= most_rows:
        return tuple(files)
    number = max(1, len(files) * most_rows // rows)
    places = np.linspace(0, len(files) - 1, number).round().astype(int)
    return tuple(files[place] for place in np.unique(places))
