"""JPEGs decoded outside the sandbox: the same pictures, and none that it should not decode."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from lamella.pipeline.corpus.decode import DecodeLimits, decode, plain_jpeg_size
from lamella.pipeline.corpus.resize import Look, look_at, whole_look
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract import jpegs
from lamella.pipeline.extract.jpegs import Box, Jpeg, decode_jpegs, plain_jpeg
from tests.pictures import drawn, jpeg_of, without_huffman_tables
from tests.pipeline.extract.specs import asked

CPU, CARD = torch.device("cpu"), torch.device("cuda")


def of_pillow(jpeg: Jpeg) -> list[NDArray[np.uint8]]:
    picture = decode(jpeg.data, DecodeLimits()).part(*jpeg.box)
    return [look_at(picture, look) for look in jpeg.looks]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "L"},
        {"progressive": True},
        {"progressive": True, "mode": "L"},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"quality": 20, "restart_marker_rows": 1},
        {"height": 1, "width": 1},
        *({"orientation": value} for value in range(1, 9)),
    ],
)
def test_a_plain_jpeg_has_the_pixels_that_the_sandbox_gives(options: dict[str, Any]) -> None:
    jpeg = asked(jpeg_of(**options))
    ((seen,),) = filter(None, decode_jpegs([jpeg], CPU))
    np.testing.assert_array_equal(seen, of_pillow(jpeg)[0])


@pytest.mark.parametrize("box", [None, (3, 5, 1203, 900), (100, 0, 200, 901)])
def test_a_look_is_within_one_level_of_pillows(box: Box | None) -> None:
    data = jpeg_of(901, 1300, orientation=3)
    looks = [whole_look(256, 341), Look(256, 341, 16, 58, 224, 224), whole_look(300, 50)]
    jpeg = asked(data, box=box)._replace(looks=tuple(looks))
    (seen,) = decode_jpegs([jpeg], CPU)
    assert seen is not None
    for mine, look, theirs in zip(seen, looks, of_pillow(jpeg), strict=True):
        assert mine.shape == look.shape
        assert mine.dtype == torch.uint8
        off = np.abs(mine.numpy().astype(int) - theirs)
        assert off.max() <= 1
        assert off.mean() < 0.2


def test_a_bicubic_look_is_close_to_pillows() -> None:
    data = jpeg_of(901, 1300, orientation=3)
    looks = (whole_look(256, 341, "bicubic"), Look(256, 341, 16, 58, 224, 224, "bicubic"))
    jpeg = asked(data)._replace(looks=looks)
    (seen,) = decode_jpegs([jpeg], CPU)
    assert seen is not None
    for mine, theirs in zip(seen, of_pillow(jpeg), strict=True):
        off = np.abs(mine.numpy().astype(int) - theirs)
        assert off.max() <= 2
        assert off.mean() < 0.2


def test_float32_as_a_card_resizes_is_within_one_level_of_bytes() -> None:
    pixels = torch.from_numpy(drawn(700, 900, 3)).permute(2, 0, 1)[None]
    floats = interpolate(pixels.float(), (256, 329), mode="bilinear", antialias=True)
    assert 0 < (floats.round() - jpegs._resized(pixels, (256, 329))).abs().max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        jpeg_of(mode="CMYK"),
        jpeg_of(keep_rgb=True),
        jpeg_of()[:-2],
        jpeg_of()[: len(jpeg_of()) // 2],
        jpeg_of() + bytes(65),
    ],
    ids=["nothing", "magic", "cmyk", "rgb", "end", "half", "padded"],
)
def test_what_is_not_plain_is_left_to_the_sandbox(data: bytes) -> None:
    assert plain_jpeg(data, (90, 130), [whole_look(9, 13)], None) is None


def test_a_few_bytes_behind_the_end_are_no_matter() -> None:
    assert plain_jpeg_size(jpeg_of() + bytes(60)) == (90, 130)


@pytest.mark.parametrize(
    ("size", "look", "box"),
    [
        ((91, 130), whole_look(9, 13), None),  # the header says 90
        ((90, 130), whole_look(2, 130), None),  # 45 times smaller
        ((90, 130), whole_look(90, 4), None),  # 32.5 times
        ((90, 31), whole_look(9, 3), (100, 0, 131, 90)),  # cut off at 130 it is 30 wide
    ],
)
def test_what_the_row_does_not_say_and_what_shrinks_too_far_is_left_to_the_sandbox(
    size: tuple[int, int], look: Look, box: Box | None
) -> None:
    assert plain_jpeg(jpeg_of(), size, [look], box) is None


def test_a_large_one_is_left_to_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg_of()
    monkeypatch.setattr(jpegs, "MOST_PIXELS", 90 * 130)
    assert plain_jpeg(data, (90, 130), [whole_look(9, 13)], None)
    monkeypatch.setattr(jpegs, "MOST_PIXELS", 90 * 130 - 1)
    assert plain_jpeg(data, (90, 130), [whole_look(9, 13)], None) is None


def test_pictures_are_decoded_together_up_to_a_number_of_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = asked(jpeg_of(10, 10)), asked(jpeg_of(20, 20))
    monkeypatch.setattr(jpegs, "MOST_PIXELS_AT_ONCE", 500)
    pictures = [few, many, few, few, many, many, few]
    parts = list(jpegs._parts(pictures))
    assert [len(part) for part in parts] == [2, 2, 1, 2]  # 500, 200, 400, 500 pixels
    assert [each for part in parts for each in part] == pictures
    assert list(jpegs._parts([])) == []


def test_one_that_cannot_be_decoded_costs_no_other_its_pixels() -> None:
    good, bad = asked(jpeg_of()), asked(without_huffman_tables(jpeg_of()))
    found = decode_jpegs([good, bad, good], CPU)
    assert [each is None for each in found] == [False, True, False]
    for seen in filter(None, found):
        np.testing.assert_array_equal(seen[0], of_pillow(good)[0])


def test_one_of_another_size_than_its_header_is_not_taken() -> None:
    jpeg = asked(jpeg_of())
    assert decode_jpegs([jpeg._replace(whole=(90, 131))], CPU) == [None]


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (RuntimeError("Failed to decode batch: 3"), "file"),
        (RuntimeError("nvjpegDecode failed: 4"), "file"),
        (RuntimeError("Unknown chroma subsampling"), "file"),
        (RuntimeError("nvjpegDecode failed: 5"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("Failed to decode batch: 6"), "other"),
        (RuntimeError("CUDA error: unspecified launch failure"), "other"),
    ],
)
def test_what_a_card_says_tells_the_file_from_the_machine(error: RuntimeError, fault: str) -> None:
    assert jpegs._fault(error, CARD) == fault


@pytest.mark.parametrize(
    "call", ["torchcodec.decoders.decode_jpeg", "lamella.pipeline.extract.jpegs.interpolate"]
)
def test_where_memory_is_short_no_picture_is_blamed(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def short(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(call, short)
    with pytest.raises(InputError, match=r"130 x 90 cannot be decoded on cpu.*smaller batch_size"):
        decode_jpegs([asked(jpeg_of(), whole_look(9, 13))] * 2, CPU)


def test_without_torchcodec_the_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchcodec.decoders", None)
    with pytest.raises(InputError, match=r'cannot be loaded here.*rgb_recipe = "rgb-2"'):
        jpegs.check_decoder()
