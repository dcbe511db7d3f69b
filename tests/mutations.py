"""Seeded damage to pictures: the same seed and pictures give the same bytes.

`mutate` does to a file what disks, networks and people do to files: flipped bits, zeroed blocks,
cut ends, one file spliced into another, and numbers in headers set to what no picture has.
"""

import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Random = np.random.Generator
FORMATS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({}, {"progressive": True}, {"quality": 60, "optimize": True}),
    "PNG": ({}, {"compress_level": 1}),
    "WEBP": ({"quality": 60}, {"lossless": True, "method": 0}),
    "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "zlib"}),
    "BMP": ({},),
    "GIF": ({},),
    "PPM": ({},),
}
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def in_every_format(picture: Image.Image) -> list[bytes]:
    """Return a photograph saved in every format that is read, in several ways each."""
    saved: list[bytes] = []
    for name, ways in FORMATS.items():
        for options in ways:
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, name, **options)
            saved.append(buffer.getvalue())
    for mode, name in (("P", "PNG"), ("L", "PPM"), ("1", "PPM"), ("CMYK", "JPEG"), ("LA", "PNG")):
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, name)
        saved.append(buffer.getvalue())
    return saved


def small_photographs(folder: Path, count: int, edge: int) -> list[Image.Image]:
    """Return some pictures of a folder and all below it, no larger than an edge."""
    paths = sorted(path for path in folder.rglob("*.jpg") if "not-an-image" not in path.name)
    step = max(1, len(paths) // count)
    found = []
    for path in paths[::step][:count]:
        try:
            with Image.open(path) as image:
                image.thumbnail((edge, edge))
                found.append(image.convert("RGB"))
        except OSError:
            continue  # one of the damaged ones
    return found


def mutate(data: bytes, others: Sequence[bytes], random: Random) -> tuple[str, bytes]:
    """Return (the kind of damage, the damaged file)."""
    kind = list(_KINDS)[random.integers(len(_KINDS))]
    return kind, _KINDS[kind](data, others, random)


def _flip_bits(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    damaged = np.frombuffer(data, np.uint8).copy()
    places = random.integers(0, len(damaged), random.integers(1, 20))
    np.bitwise_xor.at(damaged, places, (1 << random.integers(0, 8, len(places))).astype(np.uint8))
    return damaged.tobytes()


def _zero_block(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    start, length = int(random.integers(len(data))), int(random.integers(1, 4096))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def _cut_end(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    return data[: int(random.integers(1, len(data)))]


def _drop_block(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    start, length = int(random.integers(len(data))), int(random.integers(1, 512))
    return data[:start] + data[start + length :]


def _splice(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = others[int(random.integers(len(others)))]
    return data[: int(random.integers(2, len(data)))] + other[int(random.integers(len(other))) :]


def _header_field(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Set a number of 1, 2 or 4 bytes near the start to one that breaks sums and products."""
    return _set_number(data, int(random.integers(2, min(256, len(data)))), random)


def _any_field(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Set a number anywhere: lengths of chunks, tables, strips, frames."""
    return _set_number(data, int(random.integers(2, len(data))), random)


def _set_number(data: bytes, place: int, random: Random) -> bytes:
    size = int(random.choice([1, 2, 4]))
    value = _EXTREMES[random.integers(len(_EXTREMES))] & (256**size - 1)
    order: Any = "big" if random.integers(2) else "little"
    return data[:place] + value.to_bytes(size, order) + data[place + size :]


def _repeat_block(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    start, length = int(random.integers(len(data))), int(random.integers(1, 1024))
    return data[:start] + data[start : start + length] * 3 + data[start + length :]


def _checked_field(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Set a number anywhere, and mend the checksums of a PNG, so that it is believed."""
    damaged = _set_number(data, int(random.integers(8, len(data))), random)
    if not data.startswith(b"\x89PNG"):
        return damaged
    mended, place = bytearray(damaged[:8]), 8
    while place + 12 <= len(damaged):
        length = int.from_bytes(damaged[place : place + 4], "big")
        body = damaged[place + 4 : place + 8 + length]
        mended += damaged[place : place + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        place += length + 12
    return bytes(mended + damaged[place:])


_KINDS: dict[str, Callable[[bytes, Sequence[bytes], Random], bytes]] = {
    "bits": _flip_bits,
    "zeros": _zero_block,
    "cut": _cut_end,
    "dropped": _drop_block,
    "spliced": _splice,
    "header": _header_field,
    "field": _any_field,
    "repeated": _repeat_block,
    "checked": _checked_field,
}
