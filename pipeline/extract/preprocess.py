"""From RGB pixels to the shapes a network sees: one fixed recipe, the same for every picture."""

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.scale import Look, look_at, whole_look
from schemas.extraction import PreprocessSpec, View


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
    if view == "warp":
        return whole_look(spec.crop, spec.crop)
    rows, columns = whole_shape(height, width, spec)
    if view == "whole":
        return whole_look(rows, columns)
    top, left = (rows - spec.crop) // 2, (columns - spec.crop) // 2
    return Look(rows, columns, top, left, spec.crop, spec.crop)


def see(pixels: NDArray[np.uint8], view: View, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return what the network sees of an RGB picture: (h, w, 3) uint8."""
    return look_at(pixels, look_of(pixels.shape[0], pixels.shape[1], view, spec))
