"""What a caller may give as a picture, and what is made of it."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lamella.pipeline.corpus.decode import to_rgb
from lamella.pipeline.corpus.listing import storable
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.errors import InputError, one_line
from lamella.schemas.refusals import RefusalReason

if TYPE_CHECKING:
    from lamella.pipeline.extract.given import Given

Picture: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8] | Image.Image
)
"""A file's path, `file://` or `s3://bucket/key` address; a file's bytes; RGB pixels (H, W, 3)
uint8; or an image of Pillow, whose EXIF orientation is applied, as it is to files."""

MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Of Pillow's modes, those of 8 bits a channel and a fixed meaning as a colour."""

KINDS = (
    "a picture is a path or an s3:// address, the bytes of a file, an image of Pillow, or an array "
    "(H, W, 3) uint8 in RGB"
)


def given_pictures(pictures: Picture | Iterable[Picture]) -> "list[Given]":
    """Return the pictures of a call, which may be one or many.

    Raises:
        InputError: something is no picture; the message names its place and the rule.
    """
    if _is_one(pictures):
        return [_given(pictures, 0)]
    if not isinstance(pictures, Iterable):
        raise InputError(f"{KINDS}; got {_shown(pictures)}: give one, or a list of them")
    return [_given(picture, number) for number, picture in enumerate(pictures)]


def _is_one(value: object) -> bool:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray, Image.Image)
    return isinstance(value, kinds)


def _given(picture: Any, number: int) -> "Given":
    from lamella.pipeline.extract.given import Given

    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        if isinstance(path, str):
            return Given(storable(path)[0], _place(path, number))
    if isinstance(picture, bytes | bytearray | memoryview):
        return Given(f"bytes {number}", bytes(picture))
    if isinstance(picture, np.ndarray):
        return Given(f"array {number}", _checked(picture, number))
    if isinstance(picture, Image.Image):
        return Given(f"image {number}", _pixels_of(picture, number))
    raise InputError(f"{KINDS}; picture {number} is {_shown(picture)}: convert it to one of these")


def _place(path: str, number: int) -> str:
    from lamella.pipeline.extract.given import full_place

    try:
        return full_place(path)
    except ValueError as error:
        raise InputError(f"picture {number} cannot be read from {path!r}: {error}") from None


def _checked(pixels: NDArray[Any], number: int) -> NDArray[np.uint8]:
    """Return pixels if they are (H, W, 3) uint8. Raises InputError otherwise."""
    shape, kind = pixels.shape, pixels.dtype
    if kind != np.uint8:
        cure = "convert it, (x * 255).round().astype('uint8') for values from 0 to 1"
    elif pixels.ndim == 4:
        cure = "give list(array) for many pictures"
    elif pixels.ndim == 3 and shape[2] == 3 and pixels.size:
        return np.ascontiguousarray(pixels)
    elif pixels.ndim == 3 and shape[0] == 3:
        cure = "bring the channels to the end, x.transpose(1, 2, 0)"
    elif pixels.ndim == 2:
        cure = "repeat grey, numpy.stack([x] * 3, axis=-1)"
    else:
        cure = "bring it into that shape"
    raise InputError(
        f"an array is a picture as (H, W, 3) uint8 in RGB; picture {number} is {shape} {kind}: "
        f"{cure}"
    )


def _pixels_of(image: Image.Image, number: int) -> NDArray[np.uint8] | Refused:
    """Return the RGB pixels of an image of Pillow, or why its file gives none."""
    if image.mode not in MODES:
        raise InputError(
            f"an image of Pillow has 8 bits a channel, mode {', '.join(MODES)}; picture {number} "
            f"has mode {image.mode}: convert it, or give the path or the bytes of its file"
        )
    try:  # Pillow reads a file's pixels when they are first wanted
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    except (OSError, SyntaxError, ValueError) as error:
        return Refused(RefusalReason.UNREADABLE, str(error))


def _shown(value: object) -> str:
    return f"{type(value).__name__} {one_line(repr(value), 60)}"
