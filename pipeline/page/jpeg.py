"""Pictures for pages, as JPEGs."""

import io

import numpy as np
from numpy.typing import NDArray


def jpeg_of(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture (h, w, 3) as a JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()
