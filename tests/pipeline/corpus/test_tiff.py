"""Every kind of TIFF is read as the picture that was written, or refused in words."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason
from tests import tiffs
from tests.tiffs import (
    CMYK,
    DEFLATE,
    FLOAT,
    JPEG,
    LAB,
    LZMA,
    LZW,
    MASK,
    NONE,
    PACKBITS,
    PALETTE,
    RGB,
    SIGNED,
    UNSIGNED,
    WHITE_IS_ZERO,
    YCBCR,
    Variant,
    tiff,
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
INKS = np.concatenate([1 - COLOUR, np.zeros_like(GREY)[..., None]], axis=2)
Written = tuple[NDArray[Any], NDArray[Any]]
"""Samples to write, and what should be seen of them."""


def written(how: Variant) -> Written:
    """Return the picture in the samples of a photometric, and what its bits leave of it."""
    bits = how.bits - (how.sample_format == SIGNED)
    if how.photometric == PALETTE:
        return of_palette(how.bits)
    if how.photometric == YCBCR:
        return np.asarray(Image.fromarray(BYTES).convert("YCbCr")).astype(int), BYTES
    picture = {RGB: COLOUR, CMYK: INKS, LAB: COLOUR}.get(how.photometric, GREY)
    expected = COLOUR if how.photometric in (CMYK, LAB) else picture
    if how.photometric == WHITE_IS_ZERO:
        picture = 1 - picture
    if how.sample_format == FLOAT:
        return picture, shown(whole(expected, 8), 8)
    seen = whole(expected, min(bits, 8))
    return whole(picture, bits), shown(seen, min(bits, 8))


def of_palette(bits: int) -> Written:
    steps = np.arange(1 << bits) / max(1, (1 << bits) - 1)
    colours = np.stack([steps, 1 - steps, steps**2], axis=1)
    indices = np.minimum(GREY * (1 << bits), (1 << bits) - 1).astype(int)
    return indices, colours[indices] * 255


def colour_map(bits: int, most: int = 65535) -> NDArray[np.uint16]:
    steps = np.arange(1 << bits) / max(1, (1 << bits) - 1)
    return np.rint(np.stack([steps, 1 - steps, steps**2], axis=1) * most).astype(np.uint16)


def variants() -> Iterator[Variant]:
    """Yield every combination that can be written of what a picture without alpha may be."""
    for photometric, bits, planar, compression, order, kind in itertools.product(
        (0, 1, RGB, PALETTE, CMYK, YCBCR, LAB),
        (1, 2, 4, 8, 10, 12, 16, 32, 64),
        (False, True),
        (NONE, LZW, DEFLATE, PACKBITS, LZMA),
        ("<", ">"),
        (UNSIGNED, SIGNED, FLOAT),
    ):
        if planar and photometric in (0, 1, PALETTE):
            continue
        if (photometric == PALETTE and bits > 8) or (photometric == YCBCR and bits != 8):
            continue
        if (kind == FLOAT and bits < 16) or (kind == SIGNED and bits not in (8, 16, 32)):
            continue
        if bits == 64 and kind != FLOAT:
            continue
        # What differs in no more than one of these is enough of the slower ones.
        if compression not in (NONE, DEFLATE) and (order == ">" or bits > 16 or kind != UNSIGNED):
            continue
        plain = Variant(photometric, bits, planar, compression, order, sample_format=kind, strip=10)
        if photometric == PALETTE:
            plain = replace(plain, colours=colour_map(bits))
        if photometric == YCBCR:
            plain = replace(plain, more={530: (tiffs.SHORT, [1, 1])})
        yield plain
        yield replace(plain, tile=(16, 32), strip=None)
        if compression in (NONE, LZW):
            yield replace(plain, fill_order=2)
        if compression in (LZW, DEFLATE) and bits in (8, 16, 32):
            yield replace(plain, predictor=3 if kind == FLOAT else 2)


def always_read(how: Variant) -> bool:
    """Say of what combination more than a refusal is expected."""
    bits = {0: (1, 2, 4, 8), 1: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
    colour = {RGB: (8, 16), CMYK: (8, 16), YCBCR: (8,)}
    known = how.bits in (bits | colour).get(how.photometric, ())
    if how.photometric == YCBCR and (how.planar or how.compression != NONE):
        return False
    if how.fill_order == 2 and (how.bits == 16 or how.photometric in (CMYK, YCBCR)):
        return False
    return known and how.sample_format == UNSIGNED


def test_every_variant_is_near_the_picture_or_refused_in_words() -> None:
    every = list(variants())
    assert len(every) > 900
    found = [
        outcome(tiff(samples, how), expected)
        for how in every
        for samples, expected in [written(how)]
    ]
    wrong = [
        (how, what)
        for how, what in zip(every, found, strict=True)
        if what not in (NEAR, UNSUPPORTED)
    ]
    assert wrong == []
    lost = [
        how for how, what in zip(every, found, strict=True) if always_read(how) and what != NEAR
    ]
    assert lost == []


CASES: dict[str, tuple[Variant, NDArray[Any], NDArray[Any]]] = {}
for _bits in (8, 16):
    _alpha, _grey, _colour = (
        whole(each, _bits) for each in (ALPHA[..., None], GREY[..., None], COLOUR)
    )
    _faded = whole(COLOUR * ALPHA[..., None], _bits)
    CASES |= {
        f"RGB {_bits}, alpha": (
            Variant(bits=_bits, extra=(2,)),
            np.concatenate([_colour, _alpha], 2),
            over_white(COLOUR),
        ),
        f"RGB {_bits}, alpha in the colours": (
            Variant(bits=_bits, extra=(1,)),
            np.concatenate([_faded, _alpha], 2),
            over_white(COLOUR),
        ),
        f"RGB {_bits}, a sample of no meaning": (
            Variant(bits=_bits, extra=(0,)),
            np.concatenate([_colour, _alpha], 2),
            shown(whole(COLOUR, 8), 8),
        ),
        f"RGB {_bits}, a sample not spoken of": (
            Variant(bits=_bits),
            np.concatenate([_colour, _alpha], 2),
            over_white(COLOUR),
        ),
        f"RGB {_bits}, alpha and another": (
            Variant(bits=_bits, extra=(2, 0)),
            np.concatenate([_colour, _alpha, _alpha], 2),
            over_white(COLOUR),
        ),
        f"RGB {_bits}, another and alpha": (
            Variant(bits=_bits, extra=(0, 2)),
            np.concatenate([_colour, 0 * _alpha, _alpha], 2),
            over_white(COLOUR),
        ),
        f"grey {_bits}, alpha": (
            Variant(1, _bits, extra=(2,)),
            np.concatenate([_grey, _alpha], 2),
            over_white(GREY),
        ),
        f"grey {_bits}, alpha in the grey": (
            Variant(1, _bits, extra=(1,)),
            np.concatenate([whole(GREY * ALPHA, _bits)[..., None], _alpha], 2),
            over_white(GREY),
        ),
        f"white is zero {_bits}, alpha": (
            Variant(0, _bits, extra=(2,)),
            np.concatenate([whole(1 - GREY[..., None], _bits), _alpha], 2),
            over_white(GREY),
        ),
        f"CMYK {_bits}, alpha": (
            Variant(CMYK, _bits, extra=(2,)),
            np.concatenate([whole(INKS, _bits), _alpha], 2),
            over_white(COLOUR),
        ),
        f"CMYK {_bits}, a sample of no meaning": (
            Variant(CMYK, _bits, extra=(0,)),
            np.concatenate([whole(INKS, _bits), _alpha], 2),
            BYTES,
        ),
        f"four inks of their own, {_bits}": (
            Variant(CMYK, _bits, more={332: (tiffs.SHORT, [2])}),
            whole(INKS, _bits),
            BYTES,
        ),
        f"five bands, {_bits}": (
            Variant(1, _bits),
            np.concatenate([_colour, _colour[..., :2]], 2),
            shown(whole(GREY, 8), 8),
        ),
    }
CASES |= {
    "a palette with alpha": (
        Variant(PALETTE, extra=(2,), colours=colour_map(8)),
        np.stack([of_palette(8)[0], whole(ALPHA, 8)], 2),
        over_white(of_palette(8)[1] / 255),
    ),
    "a palette of numbers up to 255": (
        Variant(PALETTE, colours=colour_map(8, 255)),
        *of_palette(8),
    ),
    "a mask": (Variant(MASK, 1), whole(GREY, 1), shown(whole(GREY, 1), 1)),
    "a colour filter array": (Variant(32803), whole(GREY, 8), shown(whole(GREY, 8), 8)),
    "YCbCr of another range": (
        Variant(
            YCBCR,
            more={
                530: (tiffs.SHORT, [1, 1]),
                532: (tiffs.RATIONAL, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]),
            },
        ),
        (written(Variant(YCBCR))[0] - 128) * 220 // 255 + 126,
        BYTES,
    ),
}  # fmt: skip
READ = {
    *(f"RGB {bits}, {what}" for bits in (8, 16) for what in ("alpha", "alpha in the colours")),
    *(f"RGB {bits}, a sample of no meaning" for bits in (8, 16)),
    *("grey 8, alpha", "grey 8, alpha in the grey"),
    *("a palette with alpha", "a palette of numbers up to 255"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_extra_sample_is_near_the_picture_or_refused(name: str) -> None:
    how, samples, expected = CASES[name]
    for planar, compression, order, tile in itertools.product(
        (False, True), (NONE, DEFLATE), ("<", ">"), (None, (16, 32))
    ):
        if planar and samples.ndim == 2:
            continue
        one = replace(how, planar=planar, compression=compression, order=order, tile=tile)
        found = outcome(tiff(samples, one), expected)
        assert found in (NEAR, UNSUPPORTED), one
        if name in READ and not planar:
            assert found == NEAR, one


def as_jpeg(mode: str, **options: object) -> Any:
    def encode(cut: NDArray[Any]) -> bytes:
        saved = io.BytesIO()
        pixels = np.ascontiguousarray(cut.astype(np.uint8).squeeze())
        Image.fromarray(pixels, mode).save(saved, "JPEG", quality=95, **options)
        return saved.getvalue()

    return encode


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize(
    ("photometric", "samples", "encode", "more"),
    [
        (1, whole(GREY, 8), as_jpeg("L"), {}),
        (RGB, BYTES, as_jpeg("RGB", keep_rgb=True), {}),
        (YCBCR, BYTES, as_jpeg("RGB", subsampling=0), {530: (tiffs.SHORT, [1, 1])}),
        (YCBCR, BYTES, as_jpeg("RGB", subsampling=2), {530: (tiffs.SHORT, [2, 2])}),
        (YCBCR, BYTES, as_jpeg("RGB", subsampling=2), {}),
    ],
)
def test_jpegs_inside_are_near_the_picture(
    photometric: int, samples: NDArray[Any], encode: Any, more: Any, tile: Any
) -> None:
    how = Variant(photometric, compression=JPEG, encode=encode, more=more, tile=tile)
    expected = shown(samples, 8)
    assert outcome(tiff(samples, how), expected, 6) == NEAR
    if photometric == RGB:
        planes = replace(how, planar=True, encode=as_jpeg("L"))
        assert outcome(tiff(samples, planes), expected, 6) == NEAR


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_faxes_are_the_picture(compression: str, photometric: int) -> None:
    saved = io.BytesIO()
    lines = Image.fromarray(whole(GREY, 1).astype(bool))
    lines.save(saved, "TIFF", compression=compression, tiffinfo={262: photometric})
    assert outcome(saved.getvalue(), shown(whole(GREY, 1), 1), 0) == NEAR


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("says_so", [False, True])
def test_shared_colours_that_are_no_jpeg_are_refused(across: int, says_so: bool) -> None:
    samples = written(Variant(YCBCR))[0][:, :52]

    def encode(cut: NDArray[Any]) -> bytes:
        units = cut.reshape(len(cut), -1, across, 3)
        shared = np.concatenate([units[..., 0], units[..., 1:].mean(axis=2)], axis=2)
        return shared.astype(np.uint8).tobytes()

    more = {530: (tiffs.SHORT, [across, 1])} if says_so else {}
    found = outcome(tiff(samples, Variant(YCBCR, encode=encode, more=more)), BYTES[:, :52], 3)
    assert found == (NEAR if across == 1 else UNSUPPORTED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_planes_are_turned_as_all_else(orientation: int) -> None:
    more = {274: (tiffs.SHORT, [orientation])}
    for bits in (8, 16):
        plain, planes = (
            tiff(whole(COLOUR, bits), Variant(bits=bits, planar=planar, more=more))
            for planar in (False, True)
        )
        mine, theirs = (np.asarray(decode(each, DecodeLimits()).image) for each in (plain, planes))
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (Variant(bits=32, sample_format=FLOAT), "3 x 32-bit floating-point samples, RGB"),
        (Variant(bits=16, sample_format=SIGNED), "3 x 16-bit signed samples, RGB"),
        (Variant(LAB), "3 x 8-bit samples, CIE L*a*b*, not compressed"),
        (Variant(bits=4), "3 x 4-bit samples, RGB"),
        (Variant(YCBCR, compression=LZW), "YCbCr, LZW"),
        *(
            (Variant(compression=code, encode=lambda cut: b"\xff\x4f" + bytes(200)), f"RGB, {name}")
            for code, name in ((34712, "JPEG 2000"), (50001, "WebP"), (50002, "JPEG XL"))
        ),
        (Variant(compression=64999, encode=lambda cut: bytes(9)), "RGB, compression 64999"),
    ],
)
def test_what_is_not_read_is_said_by_the_header_in_words(how: Variant, says: str) -> None:
    picture = COLOUR if how.sample_format == FLOAT else whole(COLOUR, min(how.bits, 15))
    data = tiff(picture, how)
    for act in (probe, decode):
        with pytest.raises(Refused) as caught:
            act(data, DecodeLimits())
        assert caught.value.reason is RefusalReason.UNSUPPORTED_FORMAT
        assert says in caught.value.detail


def test_a_raw_file_is_refused_and_a_large_one_is_read() -> None:
    data = tiff(BYTES, Variant(more={50706: (tiffs.BYTE, [1, 4, 0, 0])}))
    assert outcome(data, BYTES) == UNSUPPORTED
    for compression in (NONE, DEFLATE):
        big = Variant(big=True, compression=compression)
        assert outcome(tiff(BYTES, big), BYTES, 0) == NEAR
        assert outcome(tiff(BYTES, replace(big, order=">")), BYTES, 0) == UNSUPPORTED
