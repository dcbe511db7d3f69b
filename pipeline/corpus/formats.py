"""Recognise a picture format by the first bytes alone; names are never trusted."""

import re

HEAD_BYTES = 1024
"""How many bytes from the start `sniff` wants; more are not looked at."""

SUPPORTED = frozenset({"jpeg", "png", "webp", "tiff", "bmp", "gif", "pnm", "heic", "avif"})
"""Formats that `decode` reads; `sniff` names others too, so that they are refused by name."""

PICTURE_SUFFIXES = re.compile(
    r"\.(jpe?g|jpe|jfif|a?png|webp|tiff?|bmp|dib|gif|p[nbgpaf]m|hei[cf]s?|hif|avifs?|svgz?|jp2|j2k|jpx|jxl"
    r"|psd|ico|exr|hdr|qoi|tga|dds|cr[23]|nef|dng|arw|orf|rw2|raf)$",
    re.IGNORECASE,
)

_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"8BPS", "psd"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jpegxl"),
    (b"\xff\x0a", "jpegxl"),
    (b"\x76\x2f\x31\x01", "openexr"),
    (b"#?RADIANCE", "radiance"),
    (b"qoif", "qoi"),
    (b"DDS ", "dds"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"P7\n", "pam"),
    (b"Pf\n", "pfm"),
    (b"PF\n", "pfm"),
)
# Texts may begin with "P1" or "BM", so the bytes after these magics are checked too.
_PNM = re.compile(rb"P[1-6][ \t\r\n]\s*[#0-9]")
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "heic"),
    **dict.fromkeys((b"hevm", b"hevs"), "heic"),
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    b"crx ": "raw",
}
_GENERAL_BRANDS = frozenset(
    (b"mif1", b"mif2", b"msf1", b"miaf", b"1pic", b"MiHE", b"MiHB", b"MA1B")
)
"""Brands of pictures of any codec; those behind them say which."""

# Possessive, so that it never backtracks: a file of nothing but comments would take years.
_SVG = re.compile(rb"(?>\s+|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE\s+svg[^>]*>)*+<(svg:)?svg[\s>]", re.S)


def sniff(head: bytes) -> str | None:
    """Return the format that these first bytes announce, or None for no known picture.

    Args:
        head: the start of the data; `HEAD_BYTES` are enough, fewer may be too few.

    Returns:
        One of `SUPPORTED`, or the name of a format that is known and not read here.
    """
    head = head[:HEAD_BYTES]
    for magic, name in _MAGICS:
        if head.startswith(magic):
            # Canon's raw files are TIFFs whose first page is not the picture.
            return "raw" if name == "tiff" and head[8:10] == b"CR" else name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if _PNM.match(head):
        return "pnm"
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if _SVG.match(head.removeprefix(b"\xef\xbb\xbf")):
        return "svg"
    return None


def _of_brands(head: bytes) -> str | None:
    """Return the format that the brands of an ISO media file announce."""
    major, end = head[8:12], int.from_bytes(head[:4], "big")
    if major not in _GENERAL_BRANDS:
        return _BRANDS.get(major)
    others = (_BRANDS.get(head[at : at + 4]) for at in range(16, min(end, len(head)), 4))
    return next((name for name in others if name is not None), "heic")


def has_picture_name(name: str) -> bool:
    """Tell whether the name has a picture's ending, in upper or lower case."""
    return PICTURE_SUFFIXES.search(name) is not None


def is_ignored(name: str, head: bytes) -> bool:
    """Tell whether a file of a folder or tar is no picture, by name and by content.

    A page saved as `photo.jpg` is an image of the corpus (and refused); `labels.json` is not.
    """
    return not has_picture_name(name) and sniff(head) is None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return a WebP's (width, height) from its header, or None where it is damaged.

    A WebP decoder allocates the whole picture when it is created, so its size is checked first.
    """
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        width = int.from_bytes(data[24:27], "little") + 1
        return width, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        return width, int.from_bytes(data[28:30], "little") & 0x3FFF
    if chunk == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
