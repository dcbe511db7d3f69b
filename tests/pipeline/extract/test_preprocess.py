import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, decode
from lamella.pipeline.corpus.resize import look_at, picture_of, whole_look
from lamella.pipeline.extract.batches import plan_batches
from lamella.pipeline.extract.jpegs import Jpeg
from lamella.pipeline.extract.preprocess import look_of, reduction_of, see, view_shape, whole_shape
from lamella.pipeline.extract.work import PictureSource
from lamella.pipeline.networks.weights import LITE0
from lamella.schemas.extraction import PreprocessSpec, View
from tests.pipeline.extract.specs import spec_of

MULTIPLE = PreprocessSpec(long_edge_multiple=32)
PLAIN = PreprocessSpec(long_edge_multiple=1)


@pytest.mark.parametrize(
    ("height", "width", "by_32", "by_1"),
    [
        # 256 * 640 / 480 = 341.3; 341.3 / 32 = 10.67, so 11 * 32 = 352
        (480, 640, (256, 352), (256, 341)),
        (640, 480, (352, 256), (341, 256)),
        (1, 1, (256, 256), (256, 256)),
        # at most 4 times as long as short
        (1, 20_000, (256, 1024), (256, 1024)),
        (20_000, 1, (1024, 256), (1024, 256)),
        (255, 256, (256, 256), (256, 257)),
    ],
)
def test_shapes_worked_by_hand(
    height: int, width: int, by_32: tuple[int, int], by_1: tuple[int, int]
) -> None:
    assert whole_shape(height, width, MULTIPLE) == by_32
    assert whole_shape(height, width, PLAIN) == by_1
    views: tuple[View, ...] = ("crop", "warp")
    for view in views:
        assert view_shape(height, width, view, MULTIPLE) == (224, 224)


@given(st.integers(1, 9_000), st.integers(1, 9_000))
def test_shapes_turn_with_the_picture_and_keep_their_bounds(height: int, width: int) -> None:
    shape = whole_shape(height, width, MULTIPLE)
    assert whole_shape(width, height, MULTIPLE) == shape[::-1] or height == width
    assert min(shape) == 256
    assert max(shape) <= 1024
    assert max(shape) % 32 == 0


@pytest.mark.parametrize("size", [(60, 80), (1, 1), (1, 2_000), (2_000, 1)])
@pytest.mark.parametrize("view", ["whole", "crop", "warp"])
def test_every_picture_can_be_seen_in_every_view(size: tuple[int, int], view: View) -> None:
    pixels = np.full((*size, 3), (10, 20, 30), np.uint8)
    seen = see(pixels, view, MULTIPLE)
    assert seen.shape == (*view_shape(*size, view, MULTIPLE), 3)
    assert np.unique(seen.reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]


def test_the_crop_is_the_centre_of_the_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    whole, crop = (see(pixels, view, MULTIPLE) for view in ("whole", "crop"))
    # 256 x 352: (256 - 224) / 2 = 16 and (352 - 224) / 2 = 64
    assert whole.shape == (256, 352, 3)
    np.testing.assert_array_equal(crop, whole[16 : 16 + 224, 64 : 64 + 224])


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 352, 3)).astype(np.uint8)
    np.testing.assert_array_equal(look_at(picture_of(pixels), whole_look(256, 352)), pixels)


def test_batches_are_of_one_shape_and_leave_refused_pictures_out() -> None:
    spec, _ = spec_of(LITE0, "head", batch_size=2, preprocess=MULTIPLE)
    wide, high = (480, 640), (640, 480)
    batches = plan_batches([wide, high, None, wide, high, wide], spec)
    assert [(batch.shape, batch.rows) for batch in batches] == [
        ((256, 352), (0, 3)),
        ((256, 352), (5,)),
        ((352, 256), (1, 4)),
    ]
    assert plan_batches([None], spec) == []


EVERY_PIXEL, REDUCED = (PreprocessSpec(rgb_recipe=name) for name in ("rgb-1", "rgb-2"))


@pytest.mark.parametrize(
    ("height", "width", "views", "reduction"),
    [
        # three times 256 is left at 1/2 from 1,536 pixels
        (1535, 2000, ("whole",), 1),
        (1536, 2000, ("whole",), 2),
        (2000, 1536, ("whole",), 2),
        (3071, 3071, ("whole",), 2),
        (3072, 3072, ("crop",), 4),
        (6144, 9000, ("whole",), 8),
        (90_000, 90_000, ("whole",), 8),
        # three times 224 is left at 1/4 from 2,688 pixels; the view that wants more decides
        (2688, 4000, ("warp",), 4),
        (2688, 4000, ("warp", "whole"), 2),
        # squeezed to 256 x 1,024, the short edge decides
        (1535, 20_000, ("whole",), 1),
        (1536, 20_000, ("whole",), 2),
    ],
)
def test_reductions_worked_by_hand(
    height: int, width: int, views: tuple[View, ...], reduction: int
) -> None:
    looks = [look_of(height, width, view, REDUCED) for view in views]
    assert reduction_of(height, width, looks, REDUCED) == reduction
    assert reduction_of(height, width, looks, EVERY_PIXEL) == 1


@pytest.mark.parametrize("box", [None, (100, 10, 1650, 1560), (100, 200, 1100, 1200)])
def test_the_recipe_decides_how_much_of_a_jpeg_is_decoded(
    tmp_path: Path, box: tuple[int, int, int, int] | None
) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (325, 350, 3), dtype=np.uint8)
    saved = io.BytesIO()
    Image.fromarray(noise).resize((1800, 1600)).save(saved, "JPEG")
    data = saved.getvalue()
    (tmp_path / "a.jpg").write_bytes(data)
    left, top, right, bottom = box or (0, 0, 1800, 1600)
    row: dict[str, Any] = {
        "name": "a.jpg",
        "container": "",
        "offset": 0,
        "size_bytes": len(data),
        "refusal": None,
    }
    row |= {"sha256": hashlib.sha256(data).digest(), "box": box}
    row |= {"height": bottom - top, "width": right - left}
    source = PictureSource(str(tmp_path), DecodeLimits())
    look = look_of(row["height"], row["width"], "whole", EVERY_PIXEL)
    for spec, reduction in ((EVERY_PIXEL, 1), (REDUCED, 1 if right - left == 1000 else 2)):
        picture = decode(data, DecodeLimits(), reduction).part(left, top, right, bottom)
        found = source.see(row, ["whole"], spec)
        assert not isinstance(found, Jpeg)
        (seen,) = found
        np.testing.assert_array_equal(seen, look_at(picture, look))


@pytest.mark.parametrize("view", ["whole", "crop", "warp"])
def test_the_bicubic_recipe_is_pillows_filter(view: View) -> None:
    spec = PreprocessSpec(recipe="pillow-bicubic-1", short_edge=60, crop=48)
    data = np.random.default_rng(1).integers(0, 256, (100, 150, 3)).astype(np.uint8)
    size = (48, 48) if view == "warp" else (90, 60)
    whole = np.asarray(Image.fromarray(data).resize(size, Image.Resampling.BICUBIC))
    expected = whole[6:54, 21:69] if view == "crop" else whole
    np.testing.assert_array_equal(see(data, view, spec), expected)
    png = io.BytesIO()
    Image.fromarray(data).save(png, "png")
    look = look_of(100, 150, view, spec)
    (shown,) = sandbox.see(png.getvalue(), (100, 150), [look], DecodeLimits())
    np.testing.assert_array_equal(shown, expected)
    bilinear = PreprocessSpec(short_edge=60, crop=48)
    assert (see(data, view, bilinear) != expected).any()
