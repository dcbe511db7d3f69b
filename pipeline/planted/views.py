"""Draw one view of an object: its print among other prints, from some side, in some light."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from lamella.pipeline.planted.photographs import Patch

Corners = npt.NDArray[np.float64]
"""(4, 2): x and y in pixels, from the upper left corner clockwise."""

_FRAMES = ((320, 240), (240, 320), (288, 288))
"""Few sizes, so that batches are full."""


@dataclass(frozen=True)
class Kind:
    """How hard a view is; a pair is the range of a drawn value."""

    size: tuple[float, float]
    """The object's side over the frame's, if both were square; above 1 it is cut off."""
    turn_degrees: float
    tilt: float
    """How far a corner may move, as a share of the object's size."""
    clutter: int
    """Other prints under the object."""
    hidden: tuple[float, float]
    """How far another print covers the object, as a share of its side."""
    gamma: tuple[float, float]
    tint: float
    """How far the gain of a colour may differ from 1."""
    shade: float
    """How much darker one side of the frame may be than the other."""
    blur_pixels: tuple[float, float]
    quality: tuple[int, int]


KINDS = (
    # Straight on.
    Kind((0.92, 1.05), 4, 0.03, 0, (0, 0), (0.9, 1.1), 0.04, 0.1, (0, 0), (85, 93)),
    # From aside, on a table with other prints.
    Kind((0.8, 0.92), 12, 0.08, 2, (0, 0), (0.85, 1.2), 0.06, 0.2, (0, 0.5), (65, 85)),
    # Close up, in coloured light, a little out of focus.
    Kind((1.08, 1.22), 8, 0.05, 0, (0, 0), (0.85, 1.2), 0.07, 0.2, (0.3, 0.7), (45, 70)),
    # A corner under another print, in the shade.
    Kind((0.84, 0.96), 8, 0.05, 1, (0.2, 0.3), (1.05, 1.25), 0.05, 0.3, (0, 0.6), (55, 80)),
)


def draw_view(
    photographs: Sequence[Image.Image], patch: Patch, view: int, rng: np.random.Generator
) -> bytes:
    """Return the JPEG of one view of an object, decided by the arguments alone.

    The surroundings come from other photographs and show no object: they mislead a network that
    describes the whole picture.

    Args:
        photographs: as `load_photographs` gives them.
        patch: the object.
        view: its number from 0; the kinds of view take turns.
        rng: for all other draws.
    """
    kind = KINDS[view % len(KINDS)]
    frame = _FRAMES[int(rng.integers(len(_FRAMES)))]
    others = [photo for index, photo in enumerate(photographs) if index != patch.photograph]
    picture = _background(others, frame, rng)
    centre = np.array(frame) / 2
    for _ in range(kind.clutter):
        place = centre + rng.uniform(-0.5, 0.5, 2) * frame
        side = rng.uniform(0.3, 0.5) * min(frame)
        _lay(picture, _piece(others, rng), _corners(place, (side, side), 40, 0.1, rng))

    size = _size(patch, frame, rng.uniform(*kind.size))
    room = np.maximum(np.array(frame) - size, 0) / 2
    place = centre + rng.uniform(-0.6, 0.6, 2) * room
    corners = _corners(place, size, kind.turn_degrees, kind.tilt, rng)
    _lay(picture, patch.cut(photographs), corners)
    if kind.hidden[1] > 0:
        _cover(picture, _piece(others, rng), corners, rng.uniform(*kind.hidden), rng)

    lit = _light(picture, kind, rng).filter(
        ImageFilter.GaussianBlur(float(rng.uniform(*kind.blur_pixels)))
    )
    stored = io.BytesIO()
    lit.save(stored, "JPEG", quality=int(rng.integers(*kind.quality)))
    return stored.getvalue()


def _size(patch: Patch, frame: tuple[int, int], size: float) -> npt.NDArray[np.float64]:
    """Return width and height in the frame of an object with this `Kind.size`."""
    area = frame[0] * frame[1] / (patch.width * patch.height)
    return np.array((patch.width, patch.height), dtype=np.float64) * float(np.sqrt(area)) * size


def _piece(others: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    """Return a random square of one of the photographs."""
    photo = others[int(rng.integers(len(others)))]
    side = int(min(photo.size) * rng.uniform(0.35, 0.6))
    left = int(rng.integers(photo.width - side))
    top = int(rng.integers(photo.height - side))
    return photo.crop((left, top, left + side, top + side))


def _background(
    others: Sequence[Image.Image], frame: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Return a background: a part of a photograph that fills the frame, dimmed and blurred."""
    photo = others[int(rng.integers(len(others)))]
    zoom = min(photo.width / frame[0], photo.height / frame[1]) * rng.uniform(0.6, 1.0)
    width, height = frame[0] * zoom, frame[1] * zoom
    left = rng.uniform(0, photo.width - width)
    top = rng.uniform(0, photo.height - height)
    box = (left, top, left + width, top + height)
    ground = photo.resize(frame, Image.Resampling.BILINEAR, box=box).filter(ImageFilter.BoxBlur(4))
    dim = float(rng.uniform(0.6, 0.9))
    return ground.point([round(value * dim) for value in range(256)] * 3)


def _corners(
    place: npt.NDArray[np.float64],
    size: Sequence[float] | npt.NDArray[np.float64],
    turn_degrees: float,
    tilt: float,
    rng: np.random.Generator,
) -> Corners:
    """Return the corners of a print of that size around a place, rotated and in perspective."""
    angle = np.deg2rad(rng.uniform(-turn_degrees, turn_degrees))
    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    square = (square + rng.uniform(-tilt, tilt, (4, 2))) * np.asarray(size)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return np.asarray(square @ turn + place, dtype=np.float64)


def _cover(
    picture: Image.Image,
    piece: Image.Image,
    corners: Corners,
    reach: float,
    rng: np.random.Generator,
) -> None:
    """Lay a print over one corner of the object, covering `reach` of both its sides."""
    corner = int(rng.integers(4))
    centre = corners.mean(axis=0)
    side = float(np.ptp(corners, axis=0).min()) * rng.uniform(0.75, 0.95)
    outwards = np.sign(corners[corner] - centre)
    place = corners[corner] + outwards * (side / 2 - reach * np.ptp(corners, axis=0))
    _lay(picture, piece, _corners(place, (side, side), 12, 0.05, rng))


def _lay(picture: Image.Image, print_: Image.Image, corners: Corners) -> None:
    """Draw a print with these corners into the picture, and its shadow."""
    # Only the part of the frame that the print and its shadow reach is computed.
    left, top = (max(int(low) - 12, 0) for low in corners.min(axis=0))
    right = min(int(corners[:, 0].max()) + 12, picture.width)
    bottom = min(int(corners[:, 1].max()) + 12, picture.height)
    if left >= right or top >= bottom:
        return
    # The transparent rim smooths the edge, which would be jagged.
    sheet = Image.new("RGBA", (print_.width + 4, print_.height + 4))
    sheet.paste(print_, (2, 2))
    coefficients = _perspective(corners - (left, top), print_.size)
    size = (right - left, bottom - top)
    laid = sheet.transform(
        size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
    shadow = laid.getchannel("A").filter(ImageFilter.BoxBlur(5))
    shadow = shadow.point([round(value * 0.6) for value in range(256)])
    picture.paste((0, 0, 0), (left + 3, top + 4), shadow)
    picture.paste(laid, (left, top), laid)


def _perspective(corners: Corners, size: tuple[int, int]) -> tuple[float, ...]:
    """Return Pillow's eight coefficients, from picture to sheet, whose rim is 2 pixels wide."""
    width, height = size
    on_sheet = ((2, 2), (2 + width, 2), (2 + width, 2 + height), (2, 2 + height))
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, on_sheet, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return tuple(float(c) for c in np.linalg.solve(np.array(rows), np.array(values, float)))


def _light(picture: Image.Image, kind: Kind, rng: np.random.Generator) -> Image.Image:
    """Return the picture in other light: gamma, colour gains, a fall-off, and noise."""
    gains = rng.uniform(1 - kind.tint, 1 + kind.tint, 3)
    curve = (np.arange(256) / 255) ** rng.uniform(*kind.gamma) * 255
    slope = rng.uniform(-kind.shade, kind.shade, 2)
    across = np.linspace(-0.5, 0.5, picture.width) * slope[0]
    down = np.linspace(-0.5, 0.5, picture.height) * slope[1]
    fall = (1 + across[None, :] + down[:, None])[:, :, None]
    noise = rng.normal(0, 3, (picture.height, picture.width, 1))
    pixels = curve[np.asarray(picture)] * gains * fall + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
