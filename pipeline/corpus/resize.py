"""Resize a decoded picture and cut out a part of it."""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Filter = Literal["bilinear", "bicubic"]
"""A filter of Pillow; both are antialiased."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Look(NamedTuple):
    """A resize to height x width by a filter, then a box of the result, all in whole pixels."""

    height: int
    width: int
    top: int
    left: int
    cut_height: int
    cut_width: int
    filter: Filter = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the result."""
        return self.cut_height, self.cut_width, 3

    @property
    def size_bytes(self) -> int:
        """Return its size in bytes."""
        return self.cut_height * self.cut_width * 3


class Picture(NamedTuple):
    """An upright RGB picture, whose image may be smaller than it.

    height and width are the picture's own. A pixel of the image stands for `reduction` of the
    picture's along each axis. left and top, below 1, are where in the image the picture begins.
    """

    image: Image.Image
    height: int
    width: int
    reduction: int = 1
    left: float = 0.0
    top: float = 0.0

    @property
    def region(self) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of the picture in the image."""
        right = self.left + self.width / self.reduction
        return self.left, self.top, right, self.top + self.height / self.reduction

    def part(self, left: int, top: int, right: int, bottom: int) -> "Picture":
        """Return a box of the picture, in pixels of the picture."""
        right, bottom = min(right, self.width), min(bottom, self.height)
        x, y = self.left + left / self.reduction, self.top + top / self.reduction
        far_x, far_y = self.left + right / self.reduction, self.top + bottom / self.reduction
        first_x, first_y = math.floor(x), math.floor(y)
        image = self.image.crop((first_x, first_y, math.ceil(far_x), math.ceil(far_y)))
        return Picture(image, bottom - top, right - left, self.reduction, x - first_x, y - first_y)


def picture_of(pixels: NDArray[np.uint8]) -> Picture:
    """Return RGB pixels (H, W, 3) as a picture."""
    return Picture(Image.fromarray(pixels), pixels.shape[0], pixels.shape[1])


def whole_look(height: int, width: int, by: Filter = "bilinear") -> Look:
    """Return the look at a whole picture, resized to this size if it has another."""
    return Look(height, width, 0, 0, height, width, by)


def look_at(picture: Picture, look: Look) -> NDArray[np.uint8]:
    """Return the pixels of a look at a picture, in `look.shape`."""
    size = (look.width, look.height)
    resized = picture.image.resize(size, _FILTERS[look.filter], picture.region)
    bottom, right = look.top + look.cut_height, look.left + look.cut_width
    return np.asarray(resized)[look.top : bottom, look.left : right]


def reduction_to(height: int, width: int, most_height: int, most_width: int) -> int:
    """Return with which reduction a JPEG is decoded that is then shrunk to at most this size.

    What is decoded has at least twice the height and width that is left: of that many pixels it
    looks like the whole picture.
    """
    over = max(height / most_height, width / most_width)
    return max(by for by in (1, 2, 4, 8) if by == 1 or 2 * by <= over)


def shrink(picture: Picture, width: int, height: int) -> NDArray[np.uint8]:
    """Return a whole picture in its own proportions that is at most width x height."""
    image = picture.image.copy()
    image.thumbnail((width, height))
    return np.asarray(image)
