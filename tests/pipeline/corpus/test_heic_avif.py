"""HEIC and AVIF, as phones and cameras write them, in the sandbox and within its limits."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from lamella.pipeline.corpus.child_process import HEIC_CHILD, ChildProcess
from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.formats import has_picture_name, sniff
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look
from lamella.pipeline.corpus.sandbox import Sandbox, end_idle_processes, see, shrink
from lamella.pipeline.corpus.sandbox import probe as probe_apart
from lamella.schemas.refusals import RefusalReason
from tests.tiny import tiny_index, tiny_pictures

LIMITS = DecodeLimits()
FORMATS = ("heic", "avif")
HEIGHT, WIDTH = 48, 80
UNSUPPORTED = RefusalReason.UNSUPPORTED_FORMAT


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    pillow_heif.register_heif_opener()
    yield
    end_idle_processes()


def corners(mode: str = "RGB") -> Image.Image:
    """Draw four quarters: red, green / blue, white."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2] = (230, 20, 20)
    pixels[: HEIGHT // 2, WIDTH // 2 :] = (20, 230, 20)
    pixels[HEIGHT // 2 :, : WIDTH // 2] = (20, 20, 230)
    pixels[HEIGHT // 2 :, WIDTH // 2 :] = (240, 240, 240)
    return Image.fromarray(pixels).convert(mode)


def written(name: str, image: Image.Image | None = None, **options: object) -> bytes:
    held = io.BytesIO()
    (image or corners()).save(held, {"heic": "HEIF"}.get(name, name), quality=95, **options)
    return held.getvalue()


def refusal(data: bytes, limits: DecodeLimits = LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        shrink(data, 16, 16, limits)
    return caught.value


def far(found: Image.Image, expected: Image.Image) -> float:
    difference = np.asarray(found, np.float64) - np.asarray(expected.convert("RGB"), np.float64)
    return float(np.abs(difference).mean())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_it_is_the_picture_in_the_sandbox_as_out_of_it(name: str, mode: str) -> None:
    drawn = corners(mode)
    data = written(name, drawn)
    assert sniff(data) == name
    found = decode(data, LIMITS).image
    assert far(found, drawn) < 4
    assert probe(data, LIMITS) == probe_apart(data, LIMITS)
    assert probe(data, LIMITS).width == WIDTH
    (seen,) = see(data, (HEIGHT, WIDTH), [Look(HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH)], LIMITS)
    assert (seen == np.asarray(found)).all()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(name: str, orientation: int) -> None:
    """Writers store the turn in boxes beside the pixels; that of EXIF is not applied too."""
    exif = Image.Exif()
    exif[274] = orientation
    data = written(name, exif=exif.tobytes())
    as_jpeg = written("jpeg", exif=exif.tobytes())
    assert b"irot" in data or b"imir" in data or orientation == 1
    expected = decode(as_jpeg, LIMITS)
    found = decode(data, LIMITS)
    assert (found.height, found.width) == (expected.height, expected.width)
    assert probe_apart(data, LIMITS).width == found.width
    assert far(found.image, expected.image) < 5


@pytest.mark.parametrize("name", FORMATS)
def test_transparency_is_white_and_a_profile_changes_no_pixel(name: str) -> None:
    clear = corners("RGBA")
    clear.putalpha(0)
    assert np.asarray(decode(written(name, clear), LIMITS).image).min() > 250
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, profiled = written(name), written(name, icc_profile=profile)
    assert profile[:4] in profiled
    pair = [np.asarray(decode(data, LIMITS).image) for data in (plain, profiled)]
    assert (pair[0] == pair[1]).all()


def test_of_several_pictures_the_first_is_read() -> None:
    other = Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 0))
    moving = written("avif", save_all=True, append_images=[other, other], duration=10)
    assert sniff(moving) == "avif"
    assert far(decode(moving, LIMITS).image, corners()) < 5
    held = pillow_heif.from_pillow(corners())
    held.add_from_pillow(other)
    several = io.BytesIO()
    held.save(several, quality=95)
    assert far(decode(several.getvalue(), LIMITS).image, corners()) < 5


def test_ten_bits_are_read_in_eight() -> None:
    deep = np.linspace(0, 65535, WIDTH * HEIGHT * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint16)
    held = io.BytesIO()
    pillow_heif.encode("RGB;16", (WIDTH, HEIGHT), deep.tobytes(), held, quality=-1)
    found = np.asarray(decode(held.getvalue(), LIMITS).image, np.float64)
    assert np.abs(found - deep / 257).mean() < 4


@pytest.mark.parametrize("name", ["avif", pytest.param("heic", marks=pytest.mark.slow)])
def test_limits_hold(name: str) -> None:
    data = written(name)
    few = DecodeLimits(max_pixels=WIDTH * HEIGHT - 1)
    assert refusal(data, few).reason is RefusalReason.TOO_MANY_PIXELS
    small = DecodeLimits(max_bytes=len(data) - 1)
    assert refusal(data, small).reason is RefusalReason.TOO_LARGE_FILE
    bomb = written(name, Image.new("RGB", (6000, 6000)))
    assert len(bomb) < 100_000
    tight = DecodeLimits(max_memory=40 * 2**20)
    assert refusal(bomb, tight).reason is RefusalReason.TOO_MUCH_MEMORY
    quick = DecodeLimits(max_seconds=0.02)
    assert refusal(bomb, quick).reason in (RefusalReason.TOO_SLOW, RefusalReason.TOO_MUCH_MEMORY)
    assert shrink(data, 16, 16, LIMITS).shape[2] == 3


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_cut_or_damaged_is_refused_or_read_and_crashes_nothing(name: str) -> None:
    data = written(name)
    allowed = {RefusalReason.TRUNCATED, RefusalReason.CORRUPT, UNSUPPORTED}
    allowed |= {RefusalReason.NOT_AN_IMAGE, RefusalReason.TOO_MANY_PIXELS}
    for length in range(12, len(data) - 1, len(data) // 25):
        assert refusal(data[:length]).reason in allowed
    random = np.random.default_rng(7)
    for _ in range(60):
        damaged = bytearray(data)
        for at in random.integers(12, len(data), 3):
            damaged[at] = random.integers(256)
        with contextlib.suppress(Refused):
            shrink(bytes(damaged), 16, 16, LIMITS)


@pytest.mark.parametrize("codec", [b"vvc1", b"j2k1", b"evc1", b"xyz1"])
def test_a_codec_that_is_not_read_is_said_in_words(codec: bytes) -> None:
    found = refusal(written("heic").replace(b"hvc1", codec))
    assert found.reason is UNSUPPORTED
    assert "its decoder does not read" in found.detail or "than HEVC" in found.detail


def test_jpeg_xl_is_refused_in_words() -> None:
    for data in (b"\xff\x0a" + bytes(40), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)):
        found = refusal(data)
        assert (found.reason, found.detail[:8]) == (UNSUPPORTED, "JPEG XL:")


def test_formats_are_told_by_the_brands_inside() -> None:
    def head(major: bytes, *others: bytes) -> bytes:
        brands = major + bytes(4) + b"".join(others)
        return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + b"heicavif"

    assert sniff(head(b"mif1", b"mif1", b"avif", b"miaf")) == "avif"
    assert sniff(head(b"mif1", b"mif1", b"heic")) == "heic"
    assert sniff(head(b"mif1", b"mif1")) == "heic"
    assert sniff(head(b"avis", b"avif")) == "avif"
    assert sniff(head(b"mp42", b"avif")) is None
    assert sniff(head(b"qt  ")) is None
    for name in ("IMG_1.HEIC", "a.heif", "b.HIF", "c.avif"):
        assert has_picture_name(name)


def test_without_its_package_a_heic_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif.as_plugin", None)
    with pytest.raises(Refused, match="pip install pi-heif, then `lamella retry`") as caught:
        decode(written("heic"), LIMITS)
    assert caught.value.reason is UNSUPPORTED


def test_only_heic_is_decoded_where_threads_may_start() -> None:
    box = Sandbox()
    try:
        for name in ("heic", "avif", "jpeg"):
            box.ask({"do": "probe"}, written(name), LIMITS, 0, lambda header, _: header)
        assert box._for_heic is not None
        assert (box.started, box._for_heic.started) == (1, 1)
    finally:
        box.close()
    assert not box._for_heic._idle
    child, other = ChildProcess(HEIC_CHILD), ChildProcess()
    assert child.held == other.held
    for each in (child, other):
        each.end()


FORBIDDEN = """
import os, threading
from lamella.pipeline.corpus.confine import filter_calls
import _thread
assert filter_calls(threads=True) == ["seccomp"]
done = []
thread = threading.Thread(target=lambda: done.append(1))
thread.start()
thread.join()
assert done == [1]
for act in (os.fork, lambda: os.posix_spawn("/bin/true", ["true"], {}), lambda: open("/dev/null")):
    failed = []
    def attempt():
        try:
            act()
        except PermissionError:
            failed.append(1)
    attempt()
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert failed == [1, 1], act
os.write(1, b"held")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no Linux")
def test_threads_may_start_and_processes_may_not() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORBIDDEN],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr[-500:]) == ("held", "")
    assert os.getpid()


def test_a_plain_user_decodes_heic_too() -> None:
    box = Sandbox("tests.plain_heic_child")
    try:
        request = {"do": "shrink", "width": 16, "height": 16}
        size = box.ask(request, written("heic"), LIMITS, 768, lambda header, _: header["width"])
    finally:
        box.close()
    assert size == 16


def test_a_folder_of_a_phone_is_indexed(tmp_path: Path) -> None:
    folder = tiny_pictures(tmp_path / "phone", 4, broken=0)
    for number in range(4):
        image = Image.open(folder / f"{number:02d}.png")
        (folder / f"IMG_{number}.HEIC").write_bytes(written("heic", image))
        (folder / f"IMG_{number}.avif").write_bytes(written("avif", image))
        (folder / f"IMG_{number}.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(50))
        (folder / f"IMG_{number}.AAE").write_bytes(b"<?xml")
    made = tiny_index(tmp_path / "store", folder)
    assert (made.indexed, made.refused, made.ignored) == (12, 0, 8)
    assert tiny_index(tmp_path / "other", folder).root_digest == made.root_digest
