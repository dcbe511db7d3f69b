"""Pillow's class for each format, with its errors mended.

Classes and not Image.open, which warns or raises by a global pixel limit, and opens a JPEG followed
by a second picture as another format.
"""

import io
import re
from collections.abc import Callable

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    ImagePalette,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
    features,
)

from lamella.pipeline.corpus.formats import SUPPORTED
from lamella.pipeline.corpus.png_chunks import without_metadata
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.tiff import TiffFile
from lamella.schemas.refusals import RefusalReason

_GREYS = {"1": (1, (0, 255)), "L": (8, range(256))}
"""Modes that Pillow chooses for a palette of greys: the bits of a pixel, and its greys."""

_UNREAD = (
    (re.compile(r"cannot handle (\d+)-bit layers"), r"a JPEG of \1 bits a sample"),
    (re.compile(r"cannot handle (\d+)-layer images"), r"a JPEG of \1 components"),
    (re.compile(r"Unsupported BMP (.*)"), r"a BMP with an unsupported \1"),
)
"""Pillow's messages about sound files that it cannot read, and plainer words for them."""


_BEYOND = re.compile(
    "unsupported|not supported|not implemented|no codec|no decod|no (top.?level|primary) im"
    "|security limit|no content",
    re.IGNORECASE,
)
"""What libheif and libavif say of sound files of kinds that they do not read."""

_JPEG_LS = 0xF7
_HIERARCHICAL = dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "a hierarchical JPEG")
_FRAMES = {*range(0xC0, 0xD0), 0xDE, _JPEG_LS} - {0xC4, 0xC8, 0xCC}


class BmpFile(BmpImagePlugin.BmpImageFile):
    """A BMP. Pillow forgets how many bits a pixel has where its colours are greys."""

    def _open(self) -> None:
        super()._open()
        if self.mode not in _GREYS:
            return
        assert self.fp is not None
        at = self.fp.tell()
        self.fp.seek(14)
        small = self.fp.read(4) == b"\x0c\0\0\0"
        self.fp.seek(24 if small else 28)
        bits = int.from_bytes(self.fp.read(2), "little")
        self.fp.seek(at)
        usual, greys = _GREYS[self.mode]
        if bits == usual:
            return
        self._mode = "P"
        self.palette = ImagePalette.raw("RGB", bytes(grey for grey in greys for _ in "RGB"))
        raw_mode = "P" if bits == 8 else f"P;{bits}"
        (tile,) = self.tile
        assert isinstance(tile.args, tuple)
        self.tile = [tile._replace(args=(raw_mode, *tile.args[1:]))]


class PngFile(PngImagePlugin.PngImageFile):
    """A PNG. Pillow scales 2- and 4-bit grey, but not the value of the transparent grey."""

    def _open(self) -> None:
        super()._open()
        transparent = self.info.get("transparency")
        raw_mode = self.tile[0].args if self.tile else ""
        if isinstance(transparent, int) and raw_mode in ("L;2", "L;4"):
            most = 3 if raw_mode == "L;2" else 15
            self.info["transparency"] = (transparent & most) * 255 // most


def _open_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    """Open the picture of a HEIC; libheif turns and mirrors it as its own boxes say."""
    try:
        from pi_heif import options  # 4 MB, and only its own process needs it
        from pi_heif.as_plugin import HeifImageFile
    except ImportError:
        raise Refused(RefusalReason.UNSUPPORTED_FORMAT, _NO_HEIC) from None
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 0
    image: ImageFile.ImageFile = HeifImageFile(file)
    return image


def _open_avif(file: io.BytesIO) -> ImageFile.ImageFile:
    """Open the picture of an AVIF; Pillow gives the turns of its boxes as an EXIF orientation."""
    if not features.check("avif"):
        raise Refused(RefusalReason.UNSUPPORTED_FORMAT, _NO_AVIF)
    return AvifImagePlugin.AvifImageFile(file)


_NO_HEIC = "HEIC needs pi-heif: pip install pi-heif, then `lamella retry`"
_NO_AVIF = "this Pillow lacks AVIF: pip install --force-reinstall pillow, then `lamella retry`"

OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "avif": _open_avif,
    "bmp": BmpFile,
    "gif": GifImagePlugin.GifImageFile,
    "heic": _open_heic,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": lambda file: PngFile(io.BytesIO(without_metadata(file.getvalue()))),
    "pnm": PpmImagePlugin.PpmImageFile,
    "tiff": TiffFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
assert set(OPENERS) == SUPPORTED


def unread_variant(message: str, data: bytes) -> str | None:
    """Return a description of the picture's variant, if it is one that Pillow cannot read.

    Args:
        message: Pillow's error message.
        data: the picture.
    """
    for pattern, words in _UNREAD:
        if match := pattern.search(message):
            return match.expand(words)
    if data[4:8] == b"ftyp" and "not identified" in message and b"hvc1" not in data:
        return "a HEIF whose picture is coded in another way than HEVC"
    if data[4:8] == b"ftyp" and _BEYOND.search(message):
        return f"a picture of a kind that its decoder does not read: {message}"
    if data[12:16] == b"CgBI":
        return "a PNG of Xcode's own kind"
    if not data.startswith(b"\xff\xd8"):
        return None
    marker, height = _jpeg_frame(data)
    if height == 0:
        return "a JPEG that tells its height behind its pixels"
    return "JPEG-LS" if marker == _JPEG_LS else _HIERARCHICAL.get(marker)


def _jpeg_frame(data: bytes) -> tuple[int, int]:
    """Return the marker of a JPEG's frame and the height in it; -1 where there is none."""
    at = 2
    while at + 7 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            return marker, int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1, -1
