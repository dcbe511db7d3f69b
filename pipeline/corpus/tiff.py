"""TIFFs: read the variants that Pillow reads correctly, refuse the others by name.

Pillow has a table of the kinds of samples that it knows; others are refused here by name. It
silently misreads some kinds of its table; these are refused or mended here.
"""

from collections.abc import Mapping
from typing import Any

from PIL import ImagePalette, TiffImagePlugin

from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_SAMPLES, _STRIP_BYTES, _PLANAR, _COLOURS, _TILE_BYTES, _INK_SET = 277, 279, 284, 320, 325, 332
_EXTRA, _FORMAT, _SUBSAMPLING, _RANGE = 338, 339, 530, 532

_RGB, _CMYK, _YCBCR = 2, 5, 6
_NOT_COMPRESSED, _OLD_JPEG, _JPEG, _DEFLATE = 1, 6, 7, 8
_FULL_RANGE = (0, 255, 128, 255, 128, 255)

_PHOTOMETRICS = {
    0: "grey, white is zero",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "a transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "a colour filter array",
    32844: "CIE LogL",
    32845: "CIE LogLuv",
    34892: "linear raw",
    51177: "a depth map",
}
_COMPRESSIONS = {
    1: "not compressed",
    2: "CCITT RLE",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    6: "old JPEG",
    7: "JPEG",
    8: "deflate",
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "NeXT",
    32771: "CCITT RLE with word alignment",
    32773: "PackBits",
    32809: "ThunderScan",
    32946: "deflate",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI log",
    34677: "SGI log 24",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_READ = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000})
_FORMATS = {
    1: "",
    2: "signed ",
    3: "floating-point ",
    4: "undefined ",
    5: "complex ",
    6: "complex ",
}
_EXTRAS = {0: "an unspecified sample", 1: "associated alpha", 2: "unassociated alpha"}
_NO_COLOURS = ("F", "I", "LAB")
"""Modes in which Pillow gives numbers without a fixed meaning as a colour."""

Tags = TiffImagePlugin.ImageFileDirectory_v2


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF as Pillow opens it, if Pillow reads its kind correctly.

    Raises:
        Refused: it does not; the message describes the kind.
    """

    def _open(self) -> None:
        assert self.fp is not None
        start = self.fp.read(4)
        self.fp.seek(0)
        if start == b"MM\0+":  # Pillow mistakes it for a classic TIFF
            raise Refused(RefusalReason.UNSUPPORTED_FORMAT, "a big-endian BigTIFF")
        super()._open()

    def _setup(self) -> None:
        wrong = _read_wrong(self.tag_v2)
        if wrong is not None:
            raise _unread(self.tag_v2, wrong)
        plain = self.tag_v2.get(_COMPRESSION, _NOT_COMPRESSED) == _NOT_COMPRESSED
        if plain and (_is_planar(self.tag_v2) or self.tag_v2.get(_FILL_ORDER, 1) != 1):
            # Pillow reads 16-bit planes as 8-bit ones, and does not reverse the bits of every kind;
            # libtiff does. Declaring the data compressed leaves them to libtiff, which goes by the
            # file's tags.
            self.tag_v2[_COMPRESSION] = _DEFLATE
        try:
            super()._setup()
        except SyntaxError as error:
            if "unknown pixel mode" in str(error):  # sound, but not in Pillow's table
                raise _unread(self.tag_v2) from error
            raise
        if self.mode in _NO_COLOURS:
            raise _unread(self.tag_v2)
        colours = self.tag_v2.get(_COLOURS, ())
        if self.mode in ("P", "PA") and max(colours, default=0) < 256:
            # Of 8 bits, though 16 are the rule; libtiff takes it so as well.
            self.palette = ImagePalette.raw("RGB;L", bytes(colours))


def _read_wrong(tags: Tags) -> str | None:
    """Return None where Pillow reads what these tags describe, or raises.

    Where it would misread it: what is unusual, or "" where the usual names say enough.
    """
    photometric, compression = tags.get(_PHOTOMETRIC, 0), tags.get(_COMPRESSION, _NOT_COMPRESSED)
    if compression not in _READ or set(tags.get(_FORMAT, (1,))) != {1}:
        return ""
    if compression == _OLD_JPEG:
        return None
    if photometric == _YCBCR and (wrong := _ycbcr_read_wrong(tags, compression)) is not None:
        return wrong
    if photometric == _CMYK and tags.get(_INK_SET, 1) != 1:
        return "inks of its own"
    samples, extra = tags.get(_SAMPLES, 1), tags.get(_EXTRA, ())
    if not _is_planar(tags) or samples == 1:
        return None
    # Of more planes than it expects, Pillow leaves some out and fills them with nothing.
    alpha = photometric == _RGB and extra in ((1,), (2,))
    colours = {_RGB: 3, _CMYK: 4}.get(photometric)
    return None if samples - len(extra) == colours and (alpha or not any(extra)) else ""


def _ycbcr_read_wrong(tags: Tags, compression: int) -> str | None:
    """As `_read_wrong`, for YCbCr: read if it is JPEG, or uncompressed without subsampling."""
    if _is_planar(tags):
        return ""
    if compression == _JPEG:
        return None
    if compression != _NOT_COMPRESSED:
        return ""  # the library reads it by a way of libtiff's that says nothing of damage
    if tuple(tags.get(_RANGE, _FULL_RANGE)) != _FULL_RANGE:
        return "a range of its own"
    stored = sum(tags.get(_STRIP_BYTES, ()) or tags.get(_TILE_BYTES, ()))
    # Without a tag, by the standard, four pixels share a colour; not all writers know that.
    whole = stored >= 3 * tags.get(_WIDTH, 0) * tags.get(_HEIGHT, 0)
    shared = tags[_SUBSAMPLING] != (1, 1) if _SUBSAMPLING in tags else not whole
    return "one colour for several pixels" if shared else None


def _is_planar(tags: Tags) -> bool:
    return bool(tags.get(_PLANAR, 1) == 2)


def _unread(tags: Tags, unusual: str = "") -> Refused:
    """Return the refusal of a TIFF whose kind is not read, which it names."""
    bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES, 1)
    formats, extra = tags.get(_FORMAT, (1,)), tags.get(_EXTRA, ())
    kinds = "/".join(dict.fromkeys(f"{each}" for each in bits))
    of = _FORMATS.get(formats[0], "strange ") if len(set(formats)) == 1 else "various "
    words = [
        f"a TIFF of {samples} x {kinds}-bit {of}samples",
        _named(_PHOTOMETRICS, tags.get(_PHOTOMETRIC, 0), "photometric"),
        *(_named(_EXTRAS, each, "extra sample") for each in extra[:1]),
        _named(_COMPRESSIONS, tags.get(_COMPRESSION, _NOT_COMPRESSED), "compression"),
    ]
    if _is_planar(tags):
        words.append("plane by plane")
    if unusual:
        words.append(unusual)
    return Refused(RefusalReason.UNSUPPORTED_FORMAT, ", ".join(words))


def _named(names: Mapping[int, str], value: Any, kind: str) -> str:
    return names.get(value, f"{kind} {value}")
