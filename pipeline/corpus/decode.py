"""Decode a picture's bytes to RGB pixels by one fixed recipe, or refuse it with a reason.

EXIF orientation is applied; the first frame or page is used; transparency is blended with white;
palettes are resolved; CMYK is read as Adobe writes it; 16-bit grey is scaled by 255 / 65535 and
rounded; 16-bit colour is cut to its high byte; where 16 bits hold 12 or fewer, `deep.py` decides
what is white; colour profiles are not applied. "rgb-1" and "rgb-2" in a `PreprocessSpec` both mean
this; "rgb-2" decodes large JPEGs to fewer pixels, and "torch-1" leaves plain ones to
`pipeline/extract/jpegs.py`.

Decode foreign pictures through `pipeline/corpus/sandbox.py`, in another process. Safe in threads:
it changes no state of Pillow and shares nothing.
"""

import hashlib
import io
import math
import struct
import warnings
from dataclasses import dataclass

from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from lamella.pipeline.corpus.deep import deepened, grey_of, layout_of
from lamella.pipeline.corpus.formats import SUPPORTED, sniff, webp_size
from lamella.pipeline.corpus.jpeg_end import END, NO_END, is_whole, lacks_end
from lamella.pipeline.corpus.openers import OPENERS, unread_variant
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Picture
from lamella.schemas.refusals import RefusalReason

MAX_PIXELS = 178_956_970
"""The most pixels a limit may allow: Pillow's own guard starts here."""

MAX_SECONDS = 3600.0
"""The most time a limit may allow."""

# Warnings about damaged metadata come by the thousand in a large corpus. They are turned off once,
# and only for Pillow's modules: `warnings.catch_warnings` around a decode is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class DecodeLimits:
    """What one picture may cost: pixels, bytes of its file, seconds of processor time, memory.

    Memory is in bytes and covers the file, its pixels, and all steps in between.

    Raises:
        ValueError: a limit that is not above 0, or max_pixels above `MAX_PIXELS`.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = 512 * 2**20
    max_seconds: float = 60.0
    max_memory: int = 4 * 2**30

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise ValueError(f"max_pixels must be 1 to {MAX_PIXELS}; got {self.max_pixels}")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1; got {self.max_bytes}")
        if not 0 < self.max_seconds <= MAX_SECONDS:
            raise ValueError(
                f"max_seconds must be 0 to {MAX_SECONDS}, not 0; got {self.max_seconds}"
            )
        if self.max_memory < 1:
            raise ValueError(f"max_memory must be at least 1; got {self.max_memory}")


@dataclass(frozen=True)
class Probe:
    """What a header says: the format, and the size in pixels after EXIF orientation.

    `detail` says what is wrong with a picture that is read all the same, or is "".
    """

    format: str
    width: int
    height: int
    detail: str = ""


_IN_WORDS = {"jpegxl": "JPEG XL: convert it, such as to PNG with djxl"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[value] for value in (5, 6, 7, 8)}
_RIGHT_TO_LEFT = {_TURNS[value] for value in (2, 3, 6, 7)}
_BOTTOM_TO_TOP = {_TURNS[value] for value in (3, 4, 7, 8)}
_JPEG_END, _JPEG_TAIL = b"\xff\xd9", 64
_RGB = list(b"RGB")
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION, _SUBFILE, _DNG_VERSION = 274, 254, 50706


def probe(data: bytes, limits: DecodeLimits) -> Probe:
    """Return format and size from the header alone; no pixel is decoded.

    Only a JPEG without an end marker is decoded, to say in the detail whether all of it is there.

    Raises:
        Refused: empty, too large, in no format read here, too many pixels, or a damaged header.
    """
    name = check_format(data, limits)
    try:
        image, turn = _open(data, name, limits)
        width, height = _oriented_size(image, turn)
    except MemoryError:
        raise
    except Exception as error:
        raise _refusal(error, data) from error
    detail = NO_END if name == "jpeg" and lacks_end(data) and _is_whole(data, limits) else ""
    return Probe(name, width, height, detail)


def _is_whole(data: bytes, limits: DecodeLimits) -> bool:
    def pixels(ended: bytes) -> bytes:
        image, _ = _open(ended, "jpeg", limits)
        return hashlib.sha256(image.tobytes()).digest()  # to hold one picture and not two

    return is_whole(data, pixels)


def decode(data: bytes, limits: DecodeLimits, reduction: int = 1) -> Picture:
    """Return the picture that these bytes hold, of the height and width that `probe` gives.

    Args:
        reduction: 1, 2, 4 or 8. A JPEG of at least that height and width is decoded to one pixel in
            that many along each axis, by a smaller cosine transform; other formats are decoded in
            full.

    Raises:
        MemoryError: there is too little memory; the picture may be sound.
        Refused: what `probe` refuses, and pixel data that is damaged, cut short, or of a kind
            with no fixed meaning as a colour (floating point, 32-bit, Lab).
    """
    name = check_format(data, limits)
    try:
        image, turn = _open(data, name, limits)
        width, height = _oriented_size(image, turn)
        reduction = _reduce(image, reduction)
        layout = layout_of(image)
        image.load()
        whole: Image.Image = image
        if layout is not None:
            whole = deepened(image, layout, lambda: _open(data, name, limits)[0])
        rgb = grey_of(image) if image.mode in _DEEP_GREY else to_rgb(whole)
        if turn is not None:
            rgb = rgb.transpose(turn)
    except MemoryError:
        raise
    except Exception as error:
        if name == "jpeg" and lacks_end(data) and _is_whole(data, limits):
            return decode(data + END, limits, reduction)
        raise _refusal(error, data) from error
    if rgb.size != (math.ceil(width / reduction), math.ceil(height / reduction)):
        shape = f"{rgb.width} x {rgb.height}" + (f" at 1/{reduction}" if reduction > 1 else "")
        raise Refused(RefusalReason.CORRUPT, f"the header says {width} x {height}, it has {shape}")
    # The last column and row of a reduced image may be partial pixels; turning puts them first.
    left = rgb.width - width / reduction if turn in _RIGHT_TO_LEFT else 0.0
    top = rgb.height - height / reduction if turn in _BOTTOM_TO_TOP else 0.0
    return Picture(rgb, height, width, reduction, left, top)


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the upright (height, width) of a whole JPEG in grey or YCbCr; None for all else.

    Checked by its header and its last bytes: other decoders silently fill in what is cut off.
    """
    if sniff(data) != "jpeg" or _JPEG_END not in data[-_JPEG_TAIL:]:
        return None
    try:
        image, turn = _open(data, "jpeg", DecodeLimits())
    except Exception:  # `decode` will say why
        return None
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    # Three components of other names, or with an Adobe marker that says so, may be plain RGB.
    as_rgb = image.info.get("adobe_transform", 1) != 1 or [each[0] for each in image.layer] == _RGB
    if image.mode not in ("L", "RGB") or (image.mode == "RGB" and as_rgb):
        return None
    width, height = _oriented_size(image, turn)
    return height, width


def check_format(data: bytes, limits: DecodeLimits) -> str:
    """Return the format that the first bytes announce; no decoder is asked.

    Raises:
        Refused: empty, too large, or in no format read here.
    """
    if not data:
        raise Refused(RefusalReason.EMPTY_FILE)
    if len(data) > limits.max_bytes:
        raise too_large(len(data), limits.max_bytes)
    name = sniff(data)
    if name is None:
        raise Refused(RefusalReason.NOT_AN_IMAGE, f"it starts with {data[:12]!r}")
    if name not in SUPPORTED:
        raise Refused(RefusalReason.UNSUPPORTED_FORMAT, _IN_WORDS.get(name, name))
    return name


def too_large(size_bytes: int, max_bytes: int) -> Refused:
    """Return the refusal of a file over the limit, worded the same wherever it is noticed."""
    return Refused(
        RefusalReason.TOO_LARGE_FILE, f"{size_bytes:,} bytes, the limit is {max_bytes:,}"
    )


def _check_pixels(size: tuple[int, int], limits: DecodeLimits) -> None:
    if size[0] * size[1] > limits.max_pixels:
        raise Refused(
            RefusalReason.TOO_MANY_PIXELS,
            f"{size[0]:,} x {size[1]:,}, the limit is {limits.max_pixels:,} pixels",
        )


def _open(
    data: bytes, name: str, limits: DecodeLimits
) -> tuple[ImageFile.ImageFile, Image.Transpose | None]:
    """Read the header; return the image and the turn to apply after its pixels are loaded."""
    if name == "webp" and (size := webp_size(data)):
        _check_pixels(size, limits)
    image = OPENERS[name](io.BytesIO(data))
    _check_pixels(image.size, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if _DNG_VERSION in image.tag_v2 or image.tag_v2.get(_SUBFILE) == 1:
            # The first page of a camera's raw file is a thumbnail, not the picture.
            raise Refused(RefusalReason.UNSUPPORTED_FORMAT, "raw: the first page is a preview")
        # Pillow turns a TIFF as it loads it, and its size is already the turned one; it applies an
        # orientation in XMP to the pixels but not to the size.
        image.info.pop("xmp", None)
        return image, None
    return image, _TURNS.get(_orientation(image))


def _orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF orientation, 1 where there is none or it cannot be read.

    Only metadata before the pixels count: reading further would decode a PNG.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to lose the picture
        return 1
    return value if isinstance(value, int) else 1


def _oriented_size(image: ImageFile.ImageFile, turn: Image.Transpose | None) -> tuple[int, int]:
    return (image.size[1], image.size[0]) if turn in _SIDEWAYS else image.size


def _reduce(image: ImageFile.ImageFile, by: int) -> int:
    """Have a JPEG decoded to one pixel in `by` along each axis; return the real reduction."""
    if by == 1 or not isinstance(image, JpegImagePlugin.JpegImageFile) or min(image.size) < by:
        return 1
    image.draft(None, (image.width // by, image.height // by))
    return by


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits in RGB: palettes resolved, transparency laid over white."""
    if image.mode == "La":  # Pillow converts from here to RGB
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, colours).convert("RGB")


def _refusal(error: Exception, data: bytes) -> Refused:
    """Map any exception of Pillow to a refusal; it raises all kinds."""
    if isinstance(error, Refused):
        return error
    message = str(error) or type(error).__name__
    if "out of memory" in message:
        raise MemoryError(message) from error
    if (variant := unread_variant(message, data)) is not None:
        return Refused(RefusalReason.UNSUPPORTED_FORMAT, variant)
    if isinstance(error, Image.DecompressionBombError):
        return Refused(RefusalReason.TOO_MANY_PIXELS, message)
    ends = (EOFError, IndexError, struct.error)
    lowered = message.lower()
    short = any(word in lowered for word in ("truncated", "not enough", "end of file", "eof"))
    if data[:4] == b"RIFF":
        short = len(data) < int.from_bytes(data[4:8], "little") + 8
    if short or isinstance(error, ends) or isinstance(error.__cause__, ends):
        return Refused(RefusalReason.TRUNCATED, message)
    return Refused(RefusalReason.CORRUPT, message)
