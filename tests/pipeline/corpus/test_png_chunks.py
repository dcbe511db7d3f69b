"""Whatever a PNG holds besides its picture, the picture is read, and its pixels are the same."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, decode
from lamella.pipeline.corpus.png_chunks import without_metadata
from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason

LIMITS = DecodeLimits()
BIG = b"x" * (3 << 20)
PIXELS = np.random.default_rng(5).integers(0, 256, (9, 14, 3), np.uint8)
TURNED = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def png(image: Image.Image | None = None, **options: object) -> bytes:
    held = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(held, "png", **options)
    return held.getvalue()


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    said = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", said)


CHUNKS = {
    "text": chunk(b"tEXt", b"a\0" + BIG),
    "packed text": chunk(b"zTXt", b"prompt\0\0" + zlib.compress(BIG)),
    "text that does not unpack": chunk(b"zTXt", b"prompt\0\0" + b"no zlib"),
    "packed text of an unknown kind": chunk(b"zTXt", b"prompt\0\x07" + BIG),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(BIG)),
    "text that is cut": chunk(b"iTXt", b"a\0\1"),
    "profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(BIG)),
    "profile of a wrong checksum": chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"zz" * 40), 1),
    "text of a wrong checksum": chunk(b"tEXt", b"a\0b", 1),
    "gamma of a wrong checksum": chunk(b"gAMA", b"\0\0\xb1\x8f", 1),
    "gamma that is short": chunk(b"gAMA", b"\0"),
    "time and resolution of no length": chunk(b"tIME", b"") + chunk(b"pHYs", b""),
    "a private chunk": chunk(b"prVt", BIG, 3),
    "orientation of a wrong checksum": chunk(b"eXIf", TURNED, 1),
    "endless orientation": chunk(b"eXIf", TURNED + BIG),
    "animation of no frames": chunk(b"acTL", b"\0" * 8),
    "a hundred texts": b"".join(chunk(b"tEXt", b"a\0" + b"x" * 2**20) for _ in range(100)),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_png_keeps_its_picture_whatever_stands_beside_it(name: str) -> None:
    whole, extra = png(), CHUNKS[name]
    before = whole[:33] + extra + whole[33:]
    behind = whole[:-12] + extra + whole[-12:]
    for data in (before, behind, whole + extra):
        assert (np.asarray(decode(data, LIMITS).image) == PIXELS).all()
    assert sandbox.probe(before, LIMITS).width == 14


def test_a_chunk_behind_the_pixels_that_is_cut_short_costs_nothing() -> None:
    whole = png()
    cut = whole[:-12] + chunk(b"tEXt", b"a\0" + b"x" * 1000)[:300]
    assert (np.asarray(decode(cut, LIMITS).image) == PIXELS).all()


def test_orientation_and_transparency_are_kept() -> None:
    whole = png()
    turned = whole[:33] + CHUNKS["text"] + chunk(b"eXIf", TURNED) + whole[33:]
    assert (np.asarray(decode(turned, LIMITS).image) == np.rot90(PIXELS, -1)).all()
    grey = Image.fromarray(np.full((4, 4), 7, np.uint8))
    see_through = png(grey, transparency=7)
    assert (np.asarray(decode(see_through, LIMITS).image) == 255).all()


def test_a_png_without_metadata_is_not_copied() -> None:
    whole = png()
    assert without_metadata(whole) is whole
    assert without_metadata(without_metadata(CHUNKS["text"] * 0 + whole)) is whole


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"tRNS"])
def test_damage_of_what_decides_pixels_is_still_said(kind: bytes) -> None:
    whole = png(Image.fromarray(PIXELS[..., 0]), transparency=7)
    at = whole.index(kind)
    damaged = whole[: at + 5] + bytes([whole[at + 5] ^ 0xFF]) + whole[at + 6 :]
    with pytest.raises(Refused) as caught:
        decode(damaged, LIMITS)
    reasons = (RefusalReason.CORRUPT, RefusalReason.TRUNCATED, RefusalReason.TOO_MANY_PIXELS)
    assert caught.value.reason in (*reasons, RefusalReason.UNSUPPORTED_FORMAT)
