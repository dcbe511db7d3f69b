"""What is too large, damaged or no picture is refused with its reason, and nothing else happens."""

import contextlib
import functools
import io
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
LIMITS = DecodeLimits()
SMALL = DecodeLimits(max_pixels=100_000, max_bytes=1_000_000)


def picture(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """Smooth and without symmetry, so that lossy formats stay near and every turn differs."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x // max(1, width - 1), 255 * y // max(1, height - 1)
    return np.stack([red, green, (red + 255 - green) // 2], axis=2).astype(np.uint8)


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def refusal(act: Callable[[], object]) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.reason


RGB = Image.fromarray(picture())


def test_too_many_pixels_are_refused_by_the_header_in_every_format() -> None:
    limits = DecodeLimits(max_pixels=40 * 60 - 1)
    for format_name in ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"):
        data = saved(RGB, format_name)
        assert refusal(partial(probe, data, limits)) is RefusalReason.TOO_MANY_PIXELS
        assert refusal(partial(decode, data, limits)) is RefusalReason.TOO_MANY_PIXELS
    assert decode(saved(RGB, "PNG"), DecodeLimits(max_pixels=40 * 60)).height == 40


def test_a_header_with_gigapixels_is_refused_at_once() -> None:
    png = bytearray(saved(RGB, "PNG"))
    png[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;"
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"
    for data in (b"P6\n99999999 99999999\n255\n", gif, webp):
        assert refusal(partial(decode, data, LIMITS)) is RefusalReason.TOO_MANY_PIXELS
    with pytest.raises(Refused):
        decode(bytes(png), LIMITS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RefusalReason.EMPTY_FILE),
        (b"\0", RefusalReason.NOT_AN_IMAGE),
        (b"<!DOCTYPE html>", RefusalReason.NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", RefusalReason.UNSUPPORTED_FORMAT),
        (b"\xff\x0a" + bytes(40), RefusalReason.UNSUPPORTED_FORMAT),
        (saved(RGB.convert("L").convert("F"), "TIFF"), RefusalReason.UNSUPPORTED_FORMAT),
        (saved(RGB.convert("L").convert("I"), "TIFF"), RefusalReason.UNSUPPORTED_FORMAT),
        (saved(RGB, "TIFF", tiffinfo={50706: b"\1\4\0\0"}), RefusalReason.UNSUPPORTED_FORMAT),
        (b"P6\n4 4\n255\nabc", RefusalReason.TRUNCATED),
        (b"P6\n4 4\n0\n", RefusalReason.CORRUPT),
    ],
)
def test_each_fault_has_its_reason(data: bytes, reason: RefusalReason) -> None:
    assert refusal(lambda: decode(data, LIMITS)) is reason


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_half_a_picture_is_truncated(format_name: str) -> None:
    rng = np.random.default_rng(3)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = saved(noise, format_name)
    assert refusal(lambda: decode(data[: len(data) // 2], LIMITS)) is RefusalReason.TRUNCATED


def test_a_file_over_the_limit_is_refused() -> None:
    data = saved(RGB, "BMP")
    limits = DecodeLimits(max_bytes=len(data) - 1)
    assert refusal(lambda: probe(data, limits)) is RefusalReason.TOO_LARGE_FILE
    assert probe(data, DecodeLimits(max_bytes=len(data))).format == "bmp"


def test_limits_check_themselves() -> None:
    for wrong in ({"max_pixels": 0}, {"max_pixels": 10**9}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match="must be"):
            DecodeLimits(**wrong)


def test_threads_decode_what_one_thread_does() -> None:
    all_data = [saved(RGB, name) for name in ("JPEG", "PNG", "GIF", "TIFF", "WEBP")] * 20
    alone = [decode(data, LIMITS) for data in all_data]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, LIMITS), all_data))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_refusals_survive_pickling_and_hold_no_address() -> None:
    first = Refused(RefusalReason.CORRUPT, "bad <BytesIO at 0x7f00aa> \n \udcff" + "x" * 999)
    again = pickle.loads(pickle.dumps(first))
    assert (again.reason, again.detail) == (first.reason, first.detail)
    assert first.detail.startswith("bad <BytesIO> \\udcff")
    assert len(first.detail) == 200
    assert str(Refused(RefusalReason.MISSING)) == "missing: nothing is there under this name"


def test_every_reason_has_a_meaning() -> None:
    assert all(reason.meaning for reason in RefusalReason)


def test_remarks_on_damaged_metadata_are_not_shown() -> None:
    code = (
        "import warnings; warnings.simplefilter('error');"
        "import lamella.pipeline.corpus.decode;"
        "warnings.warn_explicit('Corrupt EXIF data', UserWarning, 'x', 1, 'PIL.TiffImagePlugin')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@functools.cache
def seeds() -> tuple[bytes, ...]:
    image = Image.fromarray(picture(16, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True}),
        (image, "PNG", {"exif": exif}),
        (image.quantize(16), "PNG", {"transparency": b"\0\x80"}),
        (Image.fromarray(picture(16, 24)[..., 0].astype(np.uint16) * 257), "PNG", {}),
        (image, "GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        (image, "BMP", {}),
        (image.quantize(16), "BMP", {}),
        (image, "PPM", {}),
        (image, "TIFF", {"exif": exif}),
        (image, "TIFF", {"compression": "tiff_lzw"}),
        (image, "TIFF", {"compression": "jpeg"}),
        (image, "WEBP", {"exif": exif}),
        (image.convert("RGBA"), "WEBP", {"lossless": True}),
    ]
    plain = (b"P2\n3 2\n9\n1 2 3 4 5 6\n", b"P1\n3 2\n1 0 1 1 0 0\n", b"P5\n2 1\n999\n\0\1\2\3")
    return tuple(saved(image, kind, **options) for image, kind, options in kinds) + plain


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_pictures_give_pixels_of_the_probed_size_or_a_refusal(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(seeds())))
    positions = st.integers(0, len(damaged) - 1) | st.integers(0, min(80, len(damaged) - 1))
    for position, value in data.draw(
        st.lists(st.tuples(positions, st.integers(0, 255)), max_size=8)
    ):
        damaged[position] = value
    cut = data.draw(st.just(len(damaged)) | st.integers(0, len(damaged)))
    try:
        found = probe(bytes(damaged[:cut]), SMALL)
        whole = decode(bytes(damaged[:cut]), SMALL)
    except Refused:
        return
    assert whole.image.size == (found.width, found.height)
    reduced = decode(bytes(damaged[:cut]), SMALL, data.draw(st.sampled_from([2, 4, 8])))
    assert (reduced.width, reduced.height) == (found.width, found.height)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(seeds()), st.binary(max_size=200), st.integers(2, 40))
def test_a_true_start_with_anything_behind_it_is_refused_or_read(
    seed: bytes, tail: bytes, kept: int
) -> None:
    with contextlib.suppress(Refused):
        decode(seed[:kept] + tail, SMALL)
