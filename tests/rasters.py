"""PNG, BMP and portable anymap files of every kind, written plainly from their standards."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY, TRUECOLOUR, INDEXED, GREY_ALPHA, TRUECOLOUR_ALPHA = 0, 2, 3, 4, 6
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
RGB24, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3


def png(
    samples: NDArray[Any],
    colour_type: int,
    bits: int,
    *,
    interlaced: bool = False,
    filtering: int = 0,
    chunks: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return samples (H, W, S) as a PNG.

    Args:
        filtering: the filter of every row, 0 to 4.
        chunks: before the data, such as PLTE, tRNS, sBIT.
    """
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    passes = [samples]
    if interlaced:
        passes = [samples[y::down, x::right] for y, x, down, right in _ADAM7]
    data = b"".join(_filtered(each, bits, filtering) for each in passes if each.size)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, body)
        for kind, body in (
            (b"IHDR", header),
            *chunks,
            (b"IDAT", zlib.compress(data)),
            (b"IEND", b""),
        )
    )


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _filtered(samples: NDArray[Any], bits: int, filtering: int) -> bytes:
    """Return rows, each behind the number of its filter."""
    step = max(1, samples.shape[2] * bits // 8)
    above = np.zeros(len(_bits(samples[0], bits)), np.int64)
    out = bytearray()
    for row in samples:
        data = np.frombuffer(_bits(row, bits), np.uint8).astype(np.int64)
        left = np.concatenate([np.zeros(step, np.int64), data])[: len(data)]
        corner = np.concatenate([np.zeros(step, np.int64), above])[: len(data)]
        guess = left + above - corner
        by_paeth = np.where(
            (abs(guess - left) <= abs(guess - above)) & (abs(guess - left) <= abs(guess - corner)),
            left,
            np.where(abs(guess - above) <= abs(guess - corner), above, corner),
        )
        foretold = (np.zeros_like(data), left, above, (left + above) // 2, by_paeth)[filtering]
        out += bytes([filtering]) + ((data - foretold) % 256).astype(np.uint8).tobytes()
        above = data
    return bytes(out)


def _bits(row: NDArray[Any], bits: int) -> bytes:
    values = row.ravel().astype(np.int64)
    if bits == 16:
        return values.astype(">u2").tobytes()
    packed = values[:, None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(packed.astype(np.uint8).ravel()).tobytes()


def pnm(samples: NDArray[Any], most: int, *, plain: bool = False) -> bytes:
    """Return samples (H, W, 1 or 3), 0 to `most`, as PGM or PPM; a `most` of 1 gives a PBM."""
    height, width, count = samples.shape
    number = {1: 2, 3: 3}[count] if most > 1 else 1
    head = f"P{number + (0 if plain else 3)}\n# a note\n{width} {height}\n"
    if most > 1:
        head += f"{most}\n"
    if plain:
        rows = "\n".join(" ".join(str(v) for v in row.ravel()) for row in samples.astype(int))
        return (head + rows + "\n").encode()
    if most == 1:
        return head.encode() + np.packbits(samples[..., 0].astype(np.uint8), axis=1).tobytes()
    return head.encode() + samples.astype("u1" if most < 256 else ">u2").tobytes()


def bmp(
    samples: NDArray[Any],
    bits: int,
    *,
    colours: NDArray[Any] | None = None,
    masks: Sequence[int] = (),
    top_down: bool = False,
    header: int = 40,
    compression: int | None = None,
) -> bytes:
    """Return rows of pixel values (H, W) as a BMP: indices, or pixels as whole numbers of `bits`.

    Args:
        colours: the palette (n, 3) in RGB.
        masks: of red, green, blue, and perhaps alpha, where the pixels are bit fields.
    """
    height, width = samples.shape
    compression = compression if compression is not None else BITFIELDS if masks else RGB24
    rows = samples if top_down else samples[::-1]
    if compression in (RLE8, RLE4):
        data = b"".join(_runs(row, compression == RLE4) for row in rows) + b"\0\1"
    else:
        data = b"".join(_padded(row, bits) for row in rows)
    table = b""
    if colours is not None:
        blank = [] if header == 12 else [0]
        table = bytes(
            v for red, green, blue in colours.tolist() for v in (blue, green, red, *blank)
        )
    fields = struct.pack(f"<{len(masks)}I", *masks)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        known = 0 if colours is None else len(colours)
        signed = -height if top_down else height
        info = struct.pack(
            "<IiiHHIIiiII",
            header,
            width,
            signed,
            1,
            bits,
            compression,
            len(data),
            2835,
            2835,
            known,
            0,
        )
        info = (info + (fields if header > 40 else b"")).ljust(header, b"\0")
        table += fields if header == 40 else b""
    offset = 14 + len(info) + len(table)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + info + table + data


def _padded(row: NDArray[Any], bits: int) -> bytes:
    values = row.astype(np.int64)
    if bits >= 8:
        data = b"".join(int(v).to_bytes(bits // 8, "little") for v in values)
    else:
        data = _bits(values, bits)
    return data + bytes(-len(data) % 4)


def _runs(row: NDArray[Any], in_nibbles: bool) -> bytes:
    """Return a row in runs, with one stretch of pixels as they are where it is long enough."""
    values = row.astype(int).tolist()
    out = bytearray()
    as_is = values[:6] if len(values) > 12 else []
    if as_is:
        body = bytes(as_is)
        if in_nibbles:
            body = bytes(as_is[n] << 4 | as_is[n + 1] for n in range(0, 6, 2))
        out += bytes([0, 6]) + body + bytes(len(body) % 2)
    for value in values[len(as_is) :]:
        out += bytes([1, value << 4 | value if in_nibbles else value])
    return bytes(out) + b"\0\0"


def words(samples: NDArray[Any], shifts: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return (H, W, n), 0 to 1, as whole numbers: each channel has (bits, place from the right)."""
    found: Iterator[NDArray[np.int64]] = (
        np.rint(samples[..., n] * ((1 << bits) - 1)).astype(np.int64) << place
        for n, (bits, place) in enumerate(shifts)
    )
    return sum(found, np.zeros(samples.shape[:2], np.int64))
