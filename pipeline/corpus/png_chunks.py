"""Leave out what a PNG holds besides its picture: text, colour profiles, times, private chunks.

Metadata may be large, may unpack to any size, and may have a wrong checksum. None of it changes a
pixel here, so it is left out before Pillow sees the file, as browsers do with what they cannot use.
"""

import struct
import zlib

_SIGNATURE_BYTES, _FRAME_BYTES = 8, 12
_EXIF = b"eXIf"
_KEPT = frozenset((b"tRNS", _EXIF))
"""Ancillary chunks that decide pixels: transparency and orientation. A wrong checksum of the first
is damage to the picture; one of the second costs the orientation."""

_ANCILLARY = 0x20
_MOST_EXIF_BYTES = 2**20


def without_metadata(data: bytes) -> bytes:
    """Return a PNG without chunks that decide no pixel; the same object where it has none.

    What is cut short or damaged elsewhere stays as it is, for Pillow to say so.
    """
    parts: list[memoryview] = []
    view, kept_from, at = memoryview(data), 0, _SIGNATURE_BYTES
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + _FRAME_BYTES + length
        if _is_metadata(kind, view[at:end]):
            parts.append(view[kept_from:at])
            kept_from = min(end, len(data))
        at = end
        if kind == b"IEND":
            break
    return b"".join([*parts, view[kept_from:]]) if parts else data


def _is_metadata(kind: bytes, chunk: memoryview) -> bool:
    if not kind.isalpha() or not kind[0] & _ANCILLARY:
        return False
    if kind not in _KEPT:
        return True
    if kind != _EXIF:
        return False
    said = int.from_bytes(chunk[-4:], "big")
    return len(chunk) > _MOST_EXIF_BYTES or zlib.crc32(chunk[4:-4]) != said
