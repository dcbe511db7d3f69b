"""Pictures with the spectrum of photographs, drawn by a seed; they need no file of anyone's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION = 274
"""The EXIF tag."""


def drawn(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8 whose amplitudes fall with frequency, as in photographs.

    By frequency to the power -1.4: at quality 90 a JPEG then has 2.5 bits a pixel, photographs of
    Oxford and UKB have 2.4, so it takes about as long to decode.
    """
    generator = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    fall = np.maximum(np.hypot(rows, columns), 1 / max(height, width)) ** -1.4
    phases = generator.uniform(0, 2 * np.pi, (2, *fall.shape))
    # Brightness, and a little colour.
    grey, tint = (np.fft.irfft2(fall * np.exp(1j * each), (height, width)) for each in phases)
    channels = np.stack([grey + 0.3 * tint, grey, grey - 0.3 * tint], axis=2)
    return np.clip(128 + 50 * channels / channels.std(), 0, 255).astype(np.uint8)


def draw_jpegs(folder: Path, count: int, size: tuple[int, int], *, quality: int = 90) -> None:
    """Write pictures of (height, width) as 0000.jpg, 0001.jpg and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = Image.fromarray(drawn(*size, number))
        picture.save(folder / f"{number:04d}.jpg", quality=quality)


def jpeg_of(
    height: int = 90, width: int = 130, mode: str = "RGB", orientation: int = 1, **options: Any
) -> bytes:
    """Return a drawn picture as a JPEG, upright once its EXIF orientation is applied."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    saved = io.BytesIO()
    picture = Image.fromarray(drawn(height, width, 3)).convert(mode)
    picture.save(saved, "JPEG", exif=exif, **options)
    return saved.getvalue()


def without_huffman_tables(data: bytes) -> bytes:
    """Claim 255 codes of one bit: the header stays as it is, and no decoder can go on."""
    at = data.index(b"\xff\xc4") + 5
    return data[:at] + b"\xff" + data[at + 1 :]
