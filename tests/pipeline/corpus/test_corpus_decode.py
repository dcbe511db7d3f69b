"""Every format gives the pixels of one recipe."""

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.corpus.decode import DecodeLimits, Probe, decode, probe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
LIMITS = DecodeLimits()


def picture(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """Smooth and without symmetry, so that lossy formats stay near and every turn differs."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x // max(1, width - 1), 255 * y // max(1, height - 1)
    return np.stack([red, green, (red + 255 - green) // 2], axis=2).astype(np.uint8)


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    decoded = decode(data, LIMITS)
    assert decoded.region == (0, 0, decoded.width, decoded.height)
    return np.asarray(decoded.image)


RGB = Image.fromarray(picture())


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
def test_lossless_formats_give_back_every_pixel(
    format_name: str, options: dict[str, object]
) -> None:
    pixels = pixels_of(saved(RGB, format_name, **options))
    np.testing.assert_array_equal(pixels, picture())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
def test_jpeg_gives_nearly_every_pixel(options: dict[str, object]) -> None:
    data = saved(RGB, "JPEG", quality=95, **options)
    assert probe(data, LIMITS) == Probe("jpeg", 60, 40)
    assert np.abs(pixels_of(data).astype(int) - picture()).mean() < 6


def test_cmyk_jpeg_is_read_as_adobe_writes_it() -> None:
    data = saved(RGB.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(pixels_of(data).astype(int) - picture()).mean() < 8


def test_transparency_is_laid_over_white() -> None:
    # red at alpha 0, 51 and 255: 255 - 255 * 51 / 255 = 204 in green and blue
    rgba = np.array([[[255, 0, 0, 0], [255, 0, 0, 51], [255, 0, 0, 255]]], np.uint8)
    expected = [[[255, 255, 255], [255, 204, 204], [255, 0, 0]]]
    for format_name, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        pixels = pixels_of(saved(Image.fromarray(rgba), format_name, **options))
        np.testing.assert_array_equal(pixels, expected)


def test_grey_with_alpha_is_laid_over_white() -> None:
    image = Image.fromarray(np.array([[[0, 0], [0, 51], [100, 255]]], np.uint8), "LA")
    pixels = pixels_of(saved(image, "PNG"))
    np.testing.assert_array_equal(pixels[0, :, 0], [255, 204, 100])


def test_a_palette_may_be_transparent_by_entry() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 0, 0, 0, 9, 9, 9])
    pixels = pixels_of(saved(image, "PNG", transparency=bytes([255, 51, 0])))
    np.testing.assert_array_equal(pixels, [[[10, 20, 30], [204, 204, 204], [255, 255, 255]]])
    opaque = pixels_of(saved(image, "PNG"))
    np.testing.assert_array_equal(opaque, [[[10, 20, 30], [0, 0, 0], [9, 9, 9]]])


def test_a_transparent_colour_becomes_white() -> None:
    grey = Image.fromarray(np.array([[7, 8]], np.uint8))
    np.testing.assert_array_equal(pixels_of(saved(grey, "PNG", transparency=7))[0, :, 0], [255, 8])
    colour = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    np.testing.assert_array_equal(
        pixels_of(saved(colour, "PNG", transparency=(1, 2, 3))), [[[255] * 3, [4, 5, 6]]]
    )


GREY16 = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
GREY8 = [0, 0, 1, 1, 128, 255]  # round(128 / 257) = 0, round(129 / 257) = 1, 32768 / 257 = 127.5


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_is_scaled_not_cut(format_name: str) -> None:
    data = saved(Image.fromarray(GREY16), format_name)
    np.testing.assert_array_equal(pixels_of(data)[0, :, 1], GREY8)


def test_grey_of_16_bits_in_a_big_endian_tiff() -> None:
    swapped = Image.frombytes("I;16B", (6, 1), GREY16.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels_of(saved(swapped, "TIFF"))[0, :, 0], GREY8)


def test_a_transparent_grey_of_16_bits_becomes_white() -> None:
    data = saved(Image.fromarray(GREY16), "PNG", transparency=257)
    np.testing.assert_array_equal(pixels_of(data)[0, :, 1], [0, 0, 1, 255, 128, 255])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P1\n3 1\n0 1 0\n", [255, 0, 255]),
        (b"P4\n3 1\n\x40", [255, 0, 255]),
        (b"P2\n# note\n3 1\n10\n0 5 10\n", [0, 128, 255]),
        (b"P5\n3 1\n255\n\0\x80\xff", [0, 128, 255]),
        (b"P5\n3 1\n1000\n" + struct.pack(">3H", 0, 500, 1000), [0, 128, 255]),
        (b"P3\n1 1\n255\n1 2 3\n", [1]),
        (b"P6\n1 1\n255\n\x01\x02\x03", [1]),
    ],
)
def test_portable_anymaps_of_every_kind(data: bytes, expected: list[int]) -> None:
    assert pixels_of(data)[0, :, 0].tolist() == expected


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    assert pixels_of(saved(image, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_counts(format_name: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = saved(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(
        pixels_of(data), np.broadcast_to(np.array([255, 0, 0], np.uint8), (3, 4, 3))
    )


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """EXIF 2.3, tag 274, read plainly: where the stored first row and column belong."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation](pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_exif_orientation_is_applied(
    format_name: str, options: dict[str, object], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(RGB, format_name, exif=exif, **options)
    plain = pixels_of(saved(RGB, format_name, **options))
    expected = turned(plain, orientation)
    np.testing.assert_array_equal(pixels_of(data), expected)
    found = probe(data, LIMITS)
    assert (found.height, found.width) == expected.shape[:2]


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II"])
def test_damaged_exif_costs_the_orientation_not_the_picture(exif: bytes) -> None:
    assert pixels_of(saved(RGB, "JPEG", exif=exif)).shape == (40, 60, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_out_of_range_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert pixels_of(saved(RGB, "JPEG", exif=exif)).shape == (40, 60, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF"])
def test_odd_sizes_are_read(format_name: str, height: int, width: int) -> None:
    image = Image.fromarray(picture(height, width))
    assert pixels_of(saved(image, format_name)).shape == (height, width, 3)
