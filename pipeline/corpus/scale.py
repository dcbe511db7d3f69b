"""From RGB pixels to the size and the part of a picture that is wanted."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Look(NamedTuple):
    """A picture resized to height x width, then cut to a box of that, all in whole pixels."""

    height: int
    width: int
    top: int
    left: int
    cut_height: int
    cut_width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of what is seen."""
        return self.cut_height, self.cut_width, 3

    @property
    def size_bytes(self) -> int:
        """Return how many bytes that is."""
        return self.cut_height * self.cut_width * 3


def whole_look(height: int, width: int) -> Look:
    """Return the look at all of a picture of that size, resized to it if it has another."""
    return Look(height, width, 0, 0, height, width)


def resize(pixels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an RGB picture (H, W, 3) at another (height, width); bilinear, antialiased."""
    if pixels.shape[:2] == shape:
        return pixels
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def look_at(pixels: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """Return what a look shows of an RGB picture (H, W, 3), in `look.shape`."""
    resized = resize(pixels, (look.height, look.width))
    bottom, right = look.top + look.cut_height, look.left + look.cut_width
    return resized[look.top : bottom, look.left : right]


def shrink(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return a picture in its own proportions that is at most width x height."""
    image = Image.fromarray(pixels)
    image.thumbnail((width, height))
    return np.asarray(image)
