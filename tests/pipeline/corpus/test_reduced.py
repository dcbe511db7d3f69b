"""A JPEG that is decoded to fewer pixels shows the same picture in the same place."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look, look_at, reduction_to, shrink, whole_look
from lamella.schemas.refusals import RefusalReason

LIMITS = DecodeLimits()
HEIGHT, WIDTH = 201, 273  # at 1/8 the last column is 1/8 of a pixel, and so is the last row
REDUCTIONS = (2, 4, 8)
TURNED = range(1, 9)


def slope() -> NDArray[np.uint8]:
    """Rising by 240 levels along x in red and along y in green: a place can be read off it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green = 240 * x / (WIDTH - 1), 240 * y / (HEIGHT - 1)
    return np.stack([red, green, np.full_like(red, 128)], axis=2).round().astype(np.uint8)


def jpeg(image: Image.Image, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif, **options)
    return buffer.getvalue()


SLOPE = Image.fromarray(slope())


def differences(
    data: bytes, reduction: int, box: tuple[int, int, int, int] | None = None
) -> NDArray[np.int_]:
    """Return by how many levels a reduced look differs from the full one, (h, w, 3)."""
    seen = []
    for by in (1, reduction):
        picture = decode(data, LIMITS, by)
        assert picture.reduction == by
        if box is not None:
            picture = picture.part(*box)
        height, width = picture.height // 16, picture.width // 16
        seen.append(look_at(picture, whole_look(height, width)).astype(int))
    return seen[1] - seen[0]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_what_is_seen_stays_in_its_place_however_the_picture_is_turned(
    reduction: int, orientation: int
) -> None:
    data = jpeg(SLOPE, orientation)
    picture, found = decode(data, LIMITS, reduction), probe(data, LIMITS)
    assert (picture.height, picture.width) == (found.height, found.width)
    size = (-(-found.width // reduction), -(-found.height // reduction))
    assert picture.image.size == size
    # 7 pixels to the side would be 6 levels in red and 8 in green.
    assert np.abs(differences(data, reduction)).max() <= 2


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_box_lies_where_it_did(reduction: int, orientation: int) -> None:
    # Odd corners: no pixel of a reduced image begins or ends at them.
    assert np.abs(differences(jpeg(SLOPE, orientation), reduction, (37, 51, 181, 190))).max() <= 3


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing_outside_a_box_is_seen(reduction: int) -> None:
    pixels = np.zeros((192, 256, 3), np.uint8)
    pixels[64:128, 64:160] = 200  # whole blocks of the cosine transform
    picture = decode(jpeg(Image.fromarray(pixels)), LIMITS, reduction).part(64, 64, 160, 128)
    assert (picture.height, picture.width) == (64, 96)
    assert np.unique(look_at(picture, whole_look(4, 6))).tolist() == [200]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_grey_and_cmyk_keep_their_colours(mode: str, reduction: int) -> None:
    assert np.abs(differences(jpeg(SLOPE.convert(mode)), reduction)).max() <= 3


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_progressive_scans_are_read_to_the_end(reduction: int) -> None:
    assert np.abs(differences(jpeg(SLOPE, progressive=True), reduction)).max() <= 2


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_other_formats_are_decoded_whole(format_name: str) -> None:
    buffer = io.BytesIO()
    SLOPE.save(buffer, format_name)
    whole, asked = decode(buffer.getvalue(), LIMITS), decode(buffer.getvalue(), LIMITS, 8)
    assert asked.reduction == 1
    look = Look(40, 60, 5, 6, 20, 30)
    np.testing.assert_array_equal(look_at(asked, look), look_at(whole, look))


def test_a_picture_smaller_than_one_pixel_of_it_is_decoded_whole() -> None:
    small = decode(jpeg(SLOPE.crop((0, 0, 7, 90))), LIMITS, 8)
    assert (small.reduction, small.image.size) == (1, (7, 90))


@pytest.mark.parametrize("reduction", [1, *REDUCTIONS])
def test_a_picture_cut_short_is_truncated_at_any_size(reduction: int) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    data = jpeg(Image.fromarray(noise))
    for kept in (0.1, 0.5, 0.95):
        with pytest.raises(Refused) as caught:
            decode(data[: int(kept * len(data))], LIMITS, reduction)
        assert caught.value.reason is RefusalReason.TRUNCATED


def test_limits_are_of_the_whole_picture() -> None:
    data = jpeg(SLOPE)
    with pytest.raises(Refused) as caught:
        decode(data, DecodeLimits(max_pixels=HEIGHT * WIDTH - 1), 8)
    assert caught.value.reason is RefusalReason.TOO_MANY_PIXELS


@pytest.mark.parametrize(
    ("size", "reduction"),
    [
        ((160, 320), 1),
        ((639, 1279), 1),  # 1 / 2 would leave 319 of 320: less than twice
        ((640, 640), 2),  # 640 / 160 = 4, of which twice is left
        ((100, 1_280), 2),
        ((2_000, 3_000), 4),  # 12.5 times over
        ((40_000, 40_000), 8),
        ((10, 10), 1),
    ],
)
def test_what_is_shrunk_is_decoded_to_twice_what_is_left(
    size: tuple[int, int], reduction: int
) -> None:
    assert reduction_to(*size, 160, 320) == reduction


@pytest.mark.parametrize("orientation", TURNED)
def test_a_small_picture_is_that_of_all_pixels(orientation: int) -> None:
    data = jpeg(Image.fromarray(slope()).resize((546, 402)), orientation)
    small, whole = sandbox.shrink(data, 60, 48, LIMITS), shrink(decode(data, LIMITS), 60, 48)
    assert small.shape == whole.shape
    assert np.abs(small.astype(int) - whole).max() <= 4
