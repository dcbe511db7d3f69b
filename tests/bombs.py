"""Small files that ask for much: pixels by the billion, frames and metadata without end.

Each is made by hand from a real header, so that a decoder takes it for what it says it is.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

EDGE = 50_000
_RNG = np.random.default_rng(5)
_SMALL = Image.fromarray(_RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8))
_PACKED = zlib.compress(bytes(100 * 2**20), 9)
"""100 MiB of zeros in 100 kB."""


def saved(format_name: str, **options: object) -> bytes:
    """Return a real picture of 16 x 16."""
    buffer = io.BytesIO()
    _SMALL.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk with its length and its right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    """Return a real PNG with chunks before its pixels."""
    data = saved("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def _png_frame(number: int) -> bytes:
    return png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 16, 16, 0, 0, 1, 1, 0, 0))


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a RIFF file, padded to an even length."""
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def webp_of(*chunks: bytes) -> bytes:
    """Return a WebP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_of(*tags: tuple[int, int, int, int], tail: bytes = b"") -> bytes:
    """Return a TIFF of (tag, type, count, value) and what follows."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + tail


def _tiff_grey(edge: int, *more: tuple[int, int, int, int]) -> bytes:
    tags = [(256, 4, 1, edge), (257, 4, 1, edge), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, edge), (279, 4, 1, edge * edge % 2**32)]
    replaced = {tag[0] for tag in more}
    return tiff_of(*(tag for tag in tags if tag[0] not in replaced), *more, tail=bytes(4096))


def _jpeg_of(edge: int) -> bytes:
    data = bytearray(saved("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", edge, edge)
    return bytes(data)


def _jpeg_with(marker: int, payload: bytes, times: int) -> bytes:
    data = saved("JPEG")
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload
    return data[:2] + segment * times + data[2:]


def jpeg_of_many_scans(times: int, edge: int = 4000) -> bytes:
    """Return a progressive JPEG whose last scan comes again and again: short, and long to do."""
    buffer = io.BytesIO()
    Image.new("RGB", (edge, edge), (9, 90, 200)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    tables = data.rfind(b"\xff\xc4", 0, last)
    return data[:-2] + data[tables:-2] * times + data[-2:]


def _gif(screen: int, frame: int, frames: int = 1) -> bytes:
    one = b"," + struct.pack("<HHHH", 0, 0, frame, frame) + b"\0\x02\x02\x44\x01\0"
    header = b"GIF89a" + struct.pack("<HH", screen, screen) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return header + one * frames + b";"


def _png_of(edge: int) -> bytes:
    size = struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0)
    rows = png_chunk(b"IDAT", _PACKED)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size) + rows + png_chunk(b"IEND", b"")


def _webp_canvas(edge: int) -> bytes:
    size = (edge - 1).to_bytes(3, "little") * 2
    return webp_of(webp_chunk(b"VP8X", b"\0\0\0\0" + size), saved("WEBP")[12:])


def _bmp(width: int, height: int, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 2, 2)
    return b"BM" + struct.pack("<IHHI", 62, 0, 0, 62) + header + bytes(8) + b"\xff\1" * 4096


TOO_LARGE: dict[str, bytes] = {
    "png": _png_of(EDGE),
    "jpeg": _jpeg_of(EDGE),
    "webp": _webp_canvas(EDGE),
    "gif": _gif(EDGE, 8),
    "gif, small screen and large frame": _gif(8, EDGE),
    "tiff": _tiff_grey(EDGE),
    "bmp": _bmp(EDGE, EDGE),
    "bmp, from the top": _bmp(EDGE, -EDGE),
    "bmp, run lengths": _bmp(EDGE, EDGE, 1),
    "pbm": b"P4\n50000 50000\n" + bytes(4096),
    "pgm": b"P5\n50000 50000\n255\n" + bytes(4096),
    "ppm": b"P6\n50000 50000\n255\n" + bytes(4096),
    "ppm in digits": b"P3\n50000 50000\n255\n" + b"1 " * 4096,
}
"""By name: pictures of 50,000 x 50,000."""

DECEPTIVE: dict[str, bytes] = {
    "png, packed text": png_with(png_chunk(b"zTXt", b"a\0\0" + _PACKED)),
    "png, packed international text": png_with(png_chunk(b"iTXt", b"a\0\1\0\0\0" + _PACKED)),
    "png, packed colour profile": png_with(png_chunk(b"iCCP", b"a\0\0" + _PACKED)),
    "png, texts without end": png_with(*[png_chunk(b"tEXt", b"k%d\0v" % n) for n in range(20_000)]),
    "png, a text too long for the file": png_with(struct.pack(">I", 2**31 - 1) + b"tEXt"),
    "png, frames without end": png_with(
        png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), *[_png_frame(n) for n in range(2_000)]
    ),
    "jpeg, profiles without end": _jpeg_with(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000), 150),
    "jpeg, comments without end": _jpeg_with(0xFE, b"x", 100_000),
    "jpeg, exif of all sizes": _jpeg_with(
        0xE1,
        b"Exif\0\0" + tiff_of(*[(tag, 7, 2**31 - 1, 0) for tag in range(33_000, 38_000)]),
        1,
    ),
    "gif, frames without end": _gif(16, 16, 100_000),
    "gif, growing frames": b"".join([_gif(16, 16)[:-1], *[_gif(16, 9_000)[19:-1]] * 1_000]),
    "webp, frames without end": webp_of(
        webp_chunk(b"VP8X", b"\x02\0\0\0" + b"\x0f\0\0" * 2),
        webp_chunk(b"ANIM", bytes(6)),
        *[webp_chunk(b"ANMF", bytes(6) + b"\x0f\0\0" * 2 + bytes(4) + saved("WEBP")[12:])] * 2_000,
    ),
    "tiff, a tag of gigabytes": _tiff_grey(16, (34675, 7, 2**31 - 1, 8)),
    "tiff, strips of gigabytes": _tiff_grey(16, (279, 4, 1, 2**32 - 1)),
    "tiff, strips without end": _tiff_grey(16, (273, 4, 2**30, 8), (279, 4, 2**30, 8)),
    "tiff, tiles of gigabytes": _tiff_grey(
        16, (259, 3, 1, 5), (322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 9), (325, 4, 1, 9)
    ),
    "tiff, samples without end": _tiff_grey(16, (277, 3, 1, 65_535)),
    "tiff, pages in a ring": _tiff_grey(16)[:-4100] + struct.pack("<I", 8) + bytes(4096),
    "bmp, palette of gigabytes": _bmp(16, 16)[:46] + struct.pack("<I", 2**31 - 1) + bytes(99),
    "bmp, pixels behind the end": b"BM"
    + struct.pack("<IHHI", 62, 0, 0, 2**32 - 1)
    + _bmp(9, 9)[14:],
    "pnm, a number without end": b"P5\n" + b"9" * 1_000_000 + b" 1\n255\n",
    "pnm, a comment without end": b"P5\n#" + b"c" * 1_000_000 + b"\n8 8\n255\n" + bytes(64),
}
"""By name: small pictures with more behind them than the size says."""
