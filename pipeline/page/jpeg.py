"""Pictures for pages, as JPEGs."""

import io

import numpy as np
from numpy.typing import NDArray

JPEG_START = b"\xff\xd8\xff"
"""How a JPEG begins; nothing else may be put into a page as one."""


def jpeg_of(pixels: NDArray[np.uint8], quality: int = 85, *, optimize: bool = False) -> bytes:
    """Return an RGB picture (h, w, 3) as a JPEG.

    Args:
        optimize: take a second pass over it for fewer bytes.
    """
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, optimize=optimize)
    return out.getvalue()
