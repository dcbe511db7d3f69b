"""One picture, to be written in every variant of a format; and how near what is read comes to it.

A variant must be read near the picture, by the mean absolute difference of all channels, or be
refused as unsupported in words. What is far without a word is the fault that is looked for.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits, decode
from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason

Floats = NDArray[np.float64]

HEIGHT, WIDTH = 37, 53
"""Odd, so that no row, byte or tile is filled by chance."""

NEAR, UNSUPPORTED = "near", "unsupported"


def _picture() -> Floats:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green = x / (WIDTH - 1), y / (HEIGHT - 1)
    smooth = np.stack([red, green, (red + 1 - green) / 2], axis=2)
    checks = ((x // 5 + y // 7) % 2 - 0.5) * 0.16
    return np.clip(smooth + checks[..., None], 0, 1)


COLOUR = _picture()
"""(H, W, 3) from 0 to 1, without symmetry, with edges."""

GREY: Floats = COLOUR @ [0.299, 0.587, 0.114]
ALPHA = np.where(np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 3 == 0, 0.4, 1.0)


def whole(values: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """Return 0 to 1 as whole numbers of so many bits."""
    return np.rint(values * ((1 << bits) - 1)).astype(np.int64)


def shown(values: NDArray[Any], bits: int) -> Floats:
    """Return whole numbers of so many bits as what should be seen of them, (H, W, 3)."""
    levels = values / ((1 << bits) - 1) * 255
    return np.repeat(levels[..., None], 3, axis=2) if levels.ndim == 2 else levels


def over_white(colour: Floats, alpha: Floats = ALPHA) -> Floats:
    """Return what should be seen of colours or greys, 0 to 1, under an alpha channel."""
    colour = np.repeat(colour[..., None], 3, axis=2) if colour.ndim == 2 else colour
    return 255 * (colour * alpha[..., None] + 1 - alpha[..., None])


def outcome(data: bytes, expected: NDArray[Any], tolerance: float = 1.5) -> str:
    """Return `NEAR`, `UNSUPPORTED`, or in words what else became of a variant.

    Args:
        expected: (H, W, 3), from 0 to 255.
        tolerance: the mean absolute difference allowed; 255 levels are cut to whole ones, and
            JPEG loses some.
    """
    try:
        pixels = np.asarray(decode(data, DecodeLimits()).image).astype(float)
    except Refused as refused:
        named = refused.reason is RefusalReason.UNSUPPORTED_FORMAT and " " in refused.detail
        return UNSUPPORTED if named else str(refused)
    if pixels.shape != expected.shape:
        return f"{pixels.shape} instead of {expected.shape}"
    far = float(np.abs(pixels - expected).mean())
    return NEAR if far <= tolerance else f"{far:.1f} levels away"
