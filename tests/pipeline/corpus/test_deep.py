"""Samples of 16 bits that use fewer are as bright as the picture; others keep their pixels."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.corpus.deep import white_of
from tests import tiffs
from tests.rasters import GREY as GREYS
from tests.rasters import GREY_ALPHA, TRUECOLOUR, TRUECOLOUR_ALPHA, png, pnm
from tests.tiffs import CMYK, DEFLATE, LZW, NONE, RGB, Variant, tiff
from tests.variants import ALPHA, COLOUR, GREY, NEAR, UNSUPPORTED, outcome, over_white, shown, whole

SEEN, SEEN_GREY = COLOUR * 255, np.repeat(GREY[..., None] * 255, 3, axis=2)
INKS = np.concatenate([1 - COLOUR, np.zeros_like(GREY)[..., None]], axis=2)


@pytest.mark.parametrize(
    ("most", "said", "white"),
    [
        *((0, None, 255), (255, None, 255), (256, None, 1023), (1023, None, 1023)),
        *((1024, None, 4095), (4095, None, 4095), (4096, None, 65535), (65535, None, 65535)),
        *((4000, 16383, 16383), (16383, 16383, 16383), (16384, 16383, 65535)),
        *((50_000, 50_000, 65535), (900, 900, 1023), (900, 65535, 1023)),
    ],
)
def test_white_is_what_a_tag_says_or_what_the_values_fit_in(
    most: int, said: int | None, white: int
) -> None:
    assert white_of(most, said) == white


def with_alpha(colour: NDArray[Any], bits: int, alpha_bits: int) -> NDArray[np.int64]:
    return np.concatenate([whole(colour, bits), whole(ALPHA, alpha_bits)[..., None]], axis=2)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("interlaced", [False, True])
def test_few_bits_in_a_png_of_16(bits: int, interlaced: bool) -> None:
    grey = whole(GREY, bits)[..., None]
    few = (b"sBIT", bytes([bits]))
    cases = [
        (grey, GREYS, (), SEEN_GREY),
        (grey, GREYS, (few,), SEEN_GREY),
        (grey << 16 - bits, GREYS, (few,), SEEN_GREY),  # as the standard has it
        (whole(COLOUR, bits), TRUECOLOUR, (), SEEN),
        (with_alpha(COLOUR, bits, bits), TRUECOLOUR_ALPHA, (), over_white(COLOUR)),
        (with_alpha(COLOUR, bits, 16), TRUECOLOUR_ALPHA, (), over_white(COLOUR)),
        (with_alpha(GREY[..., None], bits, bits), GREY_ALPHA, (), over_white(GREY)),
        (with_alpha(GREY[..., None], bits, 16), GREY_ALPHA, (), over_white(GREY)),
    ]
    for samples, kind, chunks, expected in cases:
        data = png(samples, kind, 16, interlaced=interlaced, chunks=chunks)
        assert outcome(data, expected, 1.0) == NEAR


@pytest.mark.parametrize(
    ("bits", "tagged"),
    # Nothing but a tag tells 14 bits from a dark picture of 16.
    [(8, False), (10, False), (12, False), (8, True), (10, True), (12, True), (14, True)],
)
def test_few_bits_in_a_tiff_of_16(bits: int, tagged: bool) -> None:
    premultiplied = COLOUR * ALPHA[..., None]
    cases: list[tuple[int, NDArray[Any], tuple[int, ...], NDArray[Any]]] = [
        (1, whole(GREY, bits)[..., None], (), SEEN_GREY),
        (0, whole(1 - GREY, bits)[..., None], (), SEEN_GREY),
        (RGB, whole(COLOUR, bits), (), SEEN),
        (CMYK, whole(INKS, bits), (), SEEN),
        (RGB, with_alpha(COLOUR, bits, bits), (2,), over_white(COLOUR)),
        (RGB, with_alpha(COLOUR, bits, bits), (0,), SEEN),
        (RGB, with_alpha(premultiplied, bits, bits), (1,), over_white(COLOUR)),
    ]
    for (photometric, samples, extra, expected), order, compression in itertools.product(
        cases, "<>", (NONE, LZW, DEFLATE)
    ):
        number = samples.shape[2]
        more = {281: (tiffs.SHORT, [(1 << bits) - 1] * number)} if tagged else {}
        how = Variant(photometric, 16, False, compression, order, extra=extra, more=more, strip=10)
        found = outcome(tiff(samples, how), expected, 1.5)
        big_endian_white_is_zero = photometric == 0 and order == ">"
        assert found == (UNSUPPORTED if big_endian_white_is_zero else NEAR), how


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_few_bits_plane_by_plane_are_refused_in_words(bits: int, compression: int) -> None:
    for photometric, picture, extra in ((RGB, COLOUR, ()), (CMYK, INKS, ()), (RGB, COLOUR, (1,))):
        samples = with_alpha(picture, bits, bits) if extra else whole(picture, bits)
        how = Variant(photometric, 16, True, compression, extra=extra)
        assert outcome(tiff(samples, how), SEEN) == UNSUPPORTED


def test_an_anymap_says_itself_what_is_white() -> None:
    dark = whole(GREY, 12)
    seen = np.repeat(dark[..., None] / 65535 * 255, 3, axis=2)
    assert outcome(pnm(dark[..., None], 65535), seen, 0.6) == NEAR
    assert outcome(pnm(dark[..., None], 4095), SEEN_GREY, 0.6) == NEAR


def test_values_beyond_twelve_bits_keep_the_pixels_they_had() -> None:
    # the highest is 4096: grey is scaled by 255 / 65535 and rounded, colour cut to its high byte
    grey, colour = whole(GREY, 12), whole(COLOUR, 12)
    grey[0, 0] = colour[0, 0, 0] = 4096
    rounded = np.repeat(((grey * 255 + 32767) // 65535)[..., None], 3, axis=2)
    assert outcome(png(grey[..., None], GREYS, 16), rounded, 0) == NEAR
    assert outcome(png(colour, TRUECOLOUR, 16), colour >> 8, 0) == NEAR
    for planar in (False, True):
        how = Variant(RGB, 16, planar)
        assert outcome(tiff(colour, how), colour >> 8, 0) == NEAR
    assert outcome(png(np.zeros_like(colour), TRUECOLOUR, 16), shown(0 * colour, 8), 0) == NEAR
