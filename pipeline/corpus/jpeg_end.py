"""Tell a JPEG that lacks nothing but its end marker from one that is cut short.

Decoders fill in what is missing without a word. So a file without an end is decoded with several
endings: if all its pixels are there, whatever follows them changes none.
"""

from collections.abc import Callable, Iterator

END = b"\xff\xd9"
NO_END = "a JPEG without its end marker; all of its pixels are there"
_SCAN = b"\xff\xda"
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COEFFICIENTS = 64
_LENGTH = 96
"""Bytes of an ending: enough to change the next block, whatever is missing before it."""

_RESTARTS = [bytes((0xFF, 0xD0 + number)) for number in range(8)]


def lacks_end(data: bytes) -> bool:
    """Say whether no end marker follows the start of the last scan of a JPEG."""
    scan = data.rfind(_SCAN)
    return scan >= 0 and data.rfind(END) < scan


def is_whole(data: bytes, decode: Callable[[bytes], bytes]) -> bool:
    """Say whether a JPEG without an end marker has all its pixels.

    Args:
        decode: gives the pixels of a JPEG that has an end; it may raise anything.
    """
    try:
        if not _has_all_scans(data):
            return False
        data = data.removesuffix(b"\xff")  # half of the end marker, and half of any other
        pixels = decode(data + END)
        return all(decode(data + ending) == pixels for ending in _endings())
    except MemoryError:
        raise
    except Exception:  # an ending may make a decoder give up
        return False


def _endings() -> Iterator[bytes]:
    """Yield bytes that a decoder takes for pixels, if some are missing.

    All restart markers follow, for a decoder skips what comes before the one it waits for.
    """
    for byte in (b"\x00", b"\xfe", b"\x5a"):
        run = byte * _LENGTH
        yield run + b"".join(marker + run for marker in _RESTARTS) + END


def _has_all_scans(data: bytes) -> bool:
    """Say whether the scans of a JPEG bring every bit of every coefficient of all components."""
    waiting: set[tuple[int, int]] = set()
    progressive = False
    for marker, body in _segments(data):
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            components = [body[6 + 3 * number] for number in range(body[5])]
            waiting = {(each, number) for each in components for number in range(_COEFFICIENTS)}
        elif marker == 0xDA:
            components = [body[1 + 2 * number] for number in range(body[0])]
            first, last, bits = body[1 + 2 * body[0] :][:3]
            if not progressive:
                first, last, bits = 0, _COEFFICIENTS - 1, 0
            if not bits & 0x0F:  # the last bit of these coefficients
                waiting -= {(each, n) for each in components for n in range(first, last + 1)}
    return not waiting


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body) of a JPEG's segments; the pixels between them are skipped."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length
