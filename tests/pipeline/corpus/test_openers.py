"""Every kind of PNG, BMP, anymap, JPEG, GIF and WebP is read as the picture that was written, or
refused in words."""

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason
from tests.jpegs import JPEGS, PICTURE
from tests.rasters import GREY as GREYS
from tests.rasters import (
    GREY_ALPHA,
    INDEXED,
    RLE4,
    RLE8,
    TRUECOLOUR,
    TRUECOLOUR_ALPHA,
    bmp,
    chunk,
    png,
    pnm,
    words,
)
from tests.variants import (
    ALPHA,
    COLOUR,
    GREY,
    NEAR,
    UNSUPPORTED,
    outcome,
    over_white,
    shown,
    whole,
)

BYTES = whole(COLOUR, 8).astype(np.uint8)


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def colours_of(number: int, kind: str = "colour") -> NDArray[np.int64]:
    """Return a palette (n, 3) in which every index has a grey or a colour of its own."""
    steps = np.arange(number) / max(1, number - 1)
    channels = {
        "colour": (steps, 1 - steps, steps**2),
        "grey": (steps,) * 3,
        "inverse": (1 - steps,) * 3,
        "index": (np.arange(number) / 255,) * 3,
    }[kind]
    return np.rint(np.stack(channels, axis=1) * 255).astype(np.int64)


def indices(number: int) -> NDArray[np.int64]:
    return np.minimum(GREY * number, number - 1).astype(np.int64)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("filtering", range(5))
def test_every_png_is_the_picture(interlaced: bool, filtering: int) -> None:
    def found(samples: NDArray[Any], kind: int, bits: int, expected: Any, *chunks: Any) -> str:
        data = png(samples, kind, bits, interlaced=interlaced, filtering=filtering, chunks=chunks)
        return outcome(data, expected, 0.6)

    for bits in (1, 2, 4, 8, 16):
        grey = whole(GREY, bits)
        assert found(grey[..., None], GREYS, bits, shown(grey, bits)) == NEAR
        if bits <= 8:
            palette, index = colours_of(1 << bits), indices(1 << bits)
            entries = (b"PLTE", palette.astype(np.uint8).tobytes())
            assert found(index[..., None], INDEXED, bits, palette[index], entries) == NEAR
            alphas = np.resize([255, 51], 1 << bits)
            seen = over_white(palette[index] / 255, alphas[index] / 255)
            clear = (b"tRNS", alphas.astype(np.uint8).tobytes())
            assert found(index[..., None], INDEXED, bits, seen, entries, clear) == NEAR
    for bits in (8, 16):
        alpha = whole(ALPHA, bits)[..., None]
        colour = whole(COLOUR, bits)
        assert found(colour, TRUECOLOUR, bits, shown(colour, bits)) == NEAR
        both = np.concatenate([colour, alpha], 2)
        assert found(both, TRUECOLOUR_ALPHA, bits, over_white(COLOUR)) == NEAR
        both = np.concatenate([whole(GREY, bits)[..., None], alpha], 2)
        assert found(both, GREY_ALPHA, bits, over_white(GREY)) == NEAR


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_grey_of_a_png_that_is_transparent_is_white_and_no_other(bits: int) -> None:
    grey = whole(GREY, bits)
    for value in {int(grey.min()), int(grey.max()), int(np.median(grey))}:
        seen = np.where((grey == value)[..., None], 255, shown(grey, bits))
        clear = (b"tRNS", struct.pack(">H", value))
        assert outcome(png(grey[..., None], GREYS, bits, chunks=[clear]), seen, 0.6) == NEAR


@pytest.mark.parametrize("bits", [8, 16])
def test_the_colour_of_a_png_that_is_transparent_is_found_by_all_its_bits(bits: int) -> None:
    colour = whole(COLOUR, bits)
    colour[5:30, 5:40] = chosen = np.array([7, 300, 1000]) % (1 << bits)
    colour[5:30, 30:40, 2] -= 1  # a neighbour that differs in its last bit
    seen = shown(colour, bits)
    seen[5:30, 5:30] = 255
    clear = (b"tRNS", struct.pack(">3H", *chosen))
    assert outcome(png(colour, TRUECOLOUR, bits, chunks=[clear]), seen, 0.6) == NEAR


@pytest.mark.parametrize("most", [1, 2, 3, 7, 15, 100, 254, 255, 256, 1000, 1023, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_every_portable_anymap_is_the_picture(most: int, plain: bool) -> None:
    grey, colour = np.rint(GREY * most), np.rint(COLOUR * most)
    written = 1 - grey if most == 1 else grey  # a bitmap's 1 is black
    seen = np.repeat(grey[..., None] / most * 255, 3, axis=2)
    assert outcome(pnm(written[..., None], most, plain=plain), seen, 0.6) == NEAR
    if most > 1:
        assert outcome(pnm(colour, most, plain=plain), colour / most * 255, 0.6) == NEAR


@pytest.mark.parametrize(
    ("header", "top_down"),
    # The first header has no sign for it.
    [(12, False), *itertools.product((40, 52, 56, 64, 108, 124), (False, True))],
)
def test_every_bmp_of_a_palette_is_the_picture(header: int, top_down: bool) -> None:
    for bits, kind in itertools.product((1, 4, 8), ("colour", "grey", "inverse", "index")):
        for number in {1, 2, 3, 1 << bits} - ({3} if bits == 1 else set()):
            if header == 12 and number < 1 << bits:
                continue  # it has no count of colours
            palette, index = colours_of(number, kind), indices(number)
            data = bmp(index, bits, colours=palette, top_down=top_down, header=header)
            assert outcome(data, palette[index], 0) == NEAR, (bits, kind, number)


@pytest.mark.parametrize("kind", ["colour", "grey", "index"])
@pytest.mark.parametrize(("bits", "runs"), [(4, RLE4), (8, RLE8)])
def test_every_bmp_in_runs_is_the_picture(bits: int, runs: int, kind: str) -> None:
    for number in (2, 3, 1 << bits):
        palette, index = colours_of(number, kind), indices(number)
        data = bmp(index, bits, colours=palette, compression=runs)
        assert outcome(data, palette[index], 0) == NEAR, number


FIELDS = {
    "16": (16, (), [(5, 10), (5, 5), (5, 0)]),
    "24": (24, (), [(8, 16), (8, 8), (8, 0)]),
    "32": (32, (), [(8, 16), (8, 8), (8, 0)]),
    "565": (16, (0xF800, 0x7E0, 0x1F), [(5, 11), (6, 5), (5, 0)]),
    "555": (16, (0x7C00, 0x3E0, 0x1F), [(5, 10), (5, 5), (5, 0)]),
    "444": (16, (0xF00, 0xF0, 0xF), [(4, 8), (4, 4), (4, 0)]),
    "XRGB": (32, (0xFF0000, 0xFF00, 0xFF), [(8, 16), (8, 8), (8, 0)]),
    "RGBX": (32, (0xFF000000, 0xFF0000, 0xFF00), [(8, 24), (8, 16), (8, 8)]),
    "XBGR": (32, (0xFF, 0xFF00, 0xFF0000), [(8, 0), (8, 8), (8, 16)]),
    "10": (32, (0x3FF00000, 0xFFC00, 0x3FF), [(10, 20), (10, 10), (10, 0)]),
    "ARGB": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), [(8, 16), (8, 8), (8, 0), (8, 24)]),
    "RGBA": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF), [(8, 24), (8, 16), (8, 8), (8, 0)]),
    "ABGR": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), [(8, 0), (8, 8), (8, 16), (8, 24)]),
}
UNREAD_FIELDS = {"444", "XBGR", "10"}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("top_down", [False, True])
def test_every_bmp_of_fields_is_near_the_picture_or_refused(name: str, top_down: bool) -> None:
    bits, masks, shifts = FIELDS[name]
    picture = np.concatenate([COLOUR, ALPHA[..., None]], 2) if len(masks) == 4 else COLOUR
    expected = over_white(COLOUR) if len(masks) == 4 else COLOUR * 255
    for header in (40, 52, 56, 108, 124):
        if len(masks) == 4 and header < 56:
            continue  # no room for a mask of alpha
        data = bmp(words(picture, shifts), bits, masks=masks, top_down=top_down, header=header)
        found = outcome(data, expected, 4 if bits == 16 else 0.6)
        assert found == (UNSUPPORTED if name in UNREAD_FIELDS else NEAR), header


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:30] + b"\4" + data[31:], "compression (4)"),
        (lambda data: data[:28] + b"\2" + data[29:], "pixel depth (2)"),
    ],
)
def test_a_bmp_that_is_not_read_is_said_in_words(change: Any, says: str) -> None:
    data = change(bmp(indices(2), 8, colours=colours_of(2)))
    with pytest.raises(Refused) as caught:
        probe(data, DecodeLimits())
    assert caught.value.detail == f"a BMP with an unsupported {says}"


LOSSY = 5.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 0},
        {"subsampling": 1},
        {"keep_rgb": True},
        {"restart_marker_rows": 1},
        {"optimize": True},
    ],
)
def test_every_jpeg_is_near_the_picture(options: dict[str, object]) -> None:
    image = Image.fromarray(BYTES)
    assert outcome(saved(image, "JPEG", quality=95, **options), BYTES, LOSSY) == NEAR
    if not options.get("keep_rgb"):
        grey = image.convert("L")
        data = saved(grey, "JPEG", quality=95, **options)
        assert outcome(data, shown(np.asarray(grey), 8), LOSSY) == NEAR
        inks = np.concatenate([1 - COLOUR, np.zeros_like(GREY)[..., None]], 2)
        data = saved(Image.fromarray(whole(inks, 8).astype(np.uint8), "CMYK"), "JPEG", **options)
        assert outcome(data, BYTES, 2 * LOSSY) == NEAR


@pytest.mark.parametrize("name", JPEGS)
def test_every_rare_jpeg_is_near_the_picture_or_refused_in_words(name: str) -> None:
    expected = UNSUPPORTED if "bits" in name else NEAR
    assert outcome(JPEGS[name], PICTURE, 0.6 if name == "lossless" else LOSSY) == expected


FRAME = b"\xff\xc0"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda jpeg, at: jpeg[: at + 4] + b"\x0c" + jpeg[at + 5 :], "12 bits a sample"),
        (lambda jpeg, at: jpeg[: at + 9] + b"\x02" + jpeg[at + 10 :], "2 components"),
        (lambda jpeg, at: jpeg[: at + 1] + b"\xc5" + jpeg[at + 2 :], "hierarchical"),
        (lambda jpeg, at: jpeg[: at + 1] + b"\xf7" + jpeg[at + 2 :], "JPEG-LS"),
        (lambda jpeg, at: jpeg[: at + 5] + b"\0\0" + jpeg[at + 7 :], "height behind"),
    ],
)
def test_a_jpeg_that_is_not_read_is_said_in_words(change: Any, says: str) -> None:
    jpeg = saved(Image.fromarray(BYTES), "JPEG")
    with pytest.raises(Refused) as caught:
        decode(change(jpeg, jpeg.index(FRAME)), DecodeLimits())
    assert caught.value.reason is RefusalReason.UNSUPPORTED_FORMAT
    assert says in caught.value.detail


def test_a_png_of_xcode_is_refused_in_words() -> None:
    plain = png(whole(COLOUR, 8), TRUECOLOUR, 8)
    at = plain.index(b"IDAT")
    packer = zlib.compressobj(wbits=-15)  # without zlib's header and checksum
    data = packer.compress(zlib.decompress(plain[at + 4 : -16])) + packer.flush()
    marked = plain[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + plain[8:33] + chunk(b"IDAT", data)
    assert outcome(marked + chunk(b"IEND", b""), BYTES) == UNSUPPORTED


@pytest.mark.parametrize(
    "options",
    [
        {"lossless": True},
        {"quality": 95},
        {"quality": 95, "method": 0},
        {"lossless": True, "exact": True},
    ],
)
def test_every_webp_is_near_the_picture(options: dict[str, object]) -> None:
    image = Image.fromarray(BYTES)
    clear = Image.fromarray(np.concatenate([BYTES, whole(ALPHA, 8)[..., None].astype(np.uint8)], 2))
    frames = {"save_all": True, "append_images": [image.rotate(180)]}
    assert outcome(saved(image, "WEBP", **options), BYTES, LOSSY) == NEAR
    assert outcome(saved(image, "WEBP", **options, **frames), BYTES, LOSSY) == NEAR
    assert outcome(saved(clear, "WEBP", **options), over_white(COLOUR), 2 * LOSSY) == NEAR


@pytest.mark.parametrize("interlace", [0, 1])
def test_every_gif_is_the_picture(interlace: int) -> None:
    image = Image.fromarray(BYTES).quantize(64)
    seen = np.asarray(image.convert("RGB")).astype(int)
    assert outcome(saved(image, "GIF", interlace=interlace), seen, 0) == NEAR
    data = saved(image, "GIF", interlace=interlace, transparency=5)
    assert outcome(data, np.where(np.asarray(image)[..., None] == 5, 255, seen), 0) == NEAR
    bilevel = Image.fromarray(whole(GREY, 1).astype(bool))
    assert outcome(saved(bilevel, "GIF", interlace=interlace), shown(whole(GREY, 1), 1), 0) == NEAR
