"""Resize pictures to the shapes a network sees, by one fixed recipe."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.resize import Filter, Look, look_at, picture_of, whole_look
from lamella.schemas.extraction import PreprocessSpec, Resampling, View

FILTERS: dict[Resampling, Filter] = {
    "pillow-bilinear-1": "bilinear",
    "pillow-bicubic-1": "bicubic",
}

MARGIN = 3
"""Recipe "rgb-2" keeps at least this many pixels along each axis for each one that is needed.

Part of the recipe: another number is another recipe. With fewer, what the network sees is
blurred and accuracy is lost; see cluster/decisions/extraction.md.
"""


def whole_shape(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int]:
    """Return (height, width) of a picture whose shorter edge becomes `spec.short_edge`.

    The longer edge keeps its proportion, capped at `max_aspect`, rounded to the nearest
    multiple; a 640 x 480 picture at 256 becomes 341 x 256, with multiples of 32 it is 352 x 256.
    """
    short, long = sorted((height, width))
    aspect = min(long / short, spec.max_aspect)
    step = spec.long_edge_multiple
    scaled = max(round(spec.short_edge * aspect / step) * step, spec.short_edge)
    return (spec.short_edge, scaled) if height <= width else (scaled, spec.short_edge)


def view_shape(height: int, width: int, view: View, spec: PreprocessSpec) -> tuple[int, int]:
    """Return (height, width) of what the network sees of a picture in a view."""
    return whole_shape(height, width, spec) if view == "whole" else (spec.crop, spec.crop)


def look_of(height: int, width: int, view: View, spec: PreprocessSpec) -> Look:
    """Return how a picture of that size is resized and cut for a view.

    `whole` is the picture at its short edge, `crop` the centre of that, `warp` the picture
    squeezed into the crop's square.
    """
    by = FILTERS[spec.recipe]
    if view == "warp":
        return whole_look(spec.crop, spec.crop, by)
    rows, columns = whole_shape(height, width, spec)
    if view == "whole":
        return whole_look(rows, columns, by)
    top, left = (rows - spec.crop) // 2, (columns - spec.crop) // 2
    return Look(rows, columns, top, left, spec.crop, spec.crop, by)


def reduction_of(height: int, width: int, looks: Sequence[Look], spec: PreprocessSpec) -> int:
    """Return the reduction along each axis with which a JPEG is decoded for these looks.

    "rgb-1" does not reduce; "rgb-2" takes the largest of 2, 4 and 8 that leaves `MARGIN` times the
    looks' height and width: for looks of 256 that is 2 from 1,536 pixels, 4 from 3,072, 8 from
    6,144.

    Args:
        height, width: of the part that the looks cover, in pixels.
    """
    if spec.rgb_recipe == "rgb-1":
        return 1
    room = min(min(height / look.height, width / look.width) for look in looks)
    return next((by for by in (8, 4, 2) if room >= MARGIN * by), 1)


def see(pixels: NDArray[np.uint8], view: View, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return what the network sees of an RGB picture: (h, w, 3) uint8."""
    return look_at(picture_of(pixels), look_of(pixels.shape[0], pixels.shape[1], view, spec))
