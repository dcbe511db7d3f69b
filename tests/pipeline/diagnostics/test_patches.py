"""Patches: where they lie, worked by hand; what is left out; and those of a real index."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look, whole_look
from lamella.pipeline.diagnostics.nearest import Exciter
from lamella.pipeline.diagnostics.patches import (
    PATCH_EDGE,
    cut_patches,
    patch_look,
    some_files,
    word_patches,
)
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.extraction import PreprocessSpec
from lamella.schemas.files import FileRef
from lamella.schemas.refusals import RefusalReason
from tests.conftest import Indexed

SPEC = PreprocessSpec(short_edge=256, crop=224)


def test_a_patch_is_six_strides_around_its_place() -> None:
    # 6 x 16 = 96 pixels of 256 are shown at 128, so the picture at 341; its middle is at
    # (8 + 1/2) x 16 x 4/3 = 181.3, and the patch begins 64 before that
    look = patch_look((512, 512), (8, 8), 16.0, "whole", SPEC)
    assert look == Look(341, 341, 117, 117, 128, 128)


def test_a_small_picture_is_not_blown_up() -> None:
    # it has no more than the network saw: 96 pixels, from 8.5 x 16 - 48 = 88
    assert patch_look((256, 300), (8, 2), 16.0, "whole", SPEC) == Look(256, 300, 88, 0, 96, 96)


def test_a_patch_at_the_edge_is_moved_inside() -> None:
    for place, begins in ((0, 0), (15, 341 - 128)):
        look = patch_look((512, 512), (place, place), 16.0, "whole", SPEC)
        assert (look.top, look.left) == (begins, begins)
    # and where six strides are more than the picture, all of its shorter edge is shown
    look = patch_look((300, 600), (1, 1), 64.0, "whole", SPEC)
    assert look.cut_height == look.cut_width == look.height


def test_a_crop_is_looked_at_where_it_was_cut() -> None:
    # the crop of 224 begins at (256 - 224) / 2 = 16: 16 + 8.5 x 16 - 48 = 104
    assert patch_look((256, 256), (8, 8), 16.0, "crop", SPEC)[2:4] == (104, 104)


def row(name: str) -> dict[str, Any]:
    return {"name": name, "height": 40, "width": 40}


def test_a_picture_that_cannot_be_read_is_left_out_and_counted() -> None:
    asked: list[str] = []

    def cut(row: Any, looks: Any) -> list[Any]:
        asked.append(row["name"])
        if row["name"] == "gone":
            raise Refused(RefusalReason.MISSING)
        return [np.full(look.shape, 90, np.uint8) for look in looks]

    nearest = {
        3: [Exciter(1, 0, 0, 0.1), Exciter(2, 0, 0, 0.2)],
        5: [Exciter(2, 1, 1, 0.3), Exciter(1, 1, 1, 0.4)],
        8: [],
    }
    seen: list[int] = []
    rows = {1: row("there"), 2: row("gone")}
    three, five, eight = cut_patches(nearest, rows, lambda *_: whole_look(8, 8), cut, seen.append)
    assert asked == ["there", "gone"]  # each once, for both words
    assert seen == [1, 2]
    assert [(p.name, p.squared_distance) for p in three.patches] == [("there", 0.1)]
    assert [(p.name, p.squared_distance) for p in five.patches] == [("there", 0.4)]
    assert (three.unreadable, five.unreadable) == (1, 1)
    assert (eight.word, eight.patches, eight.unreadable) == (8, (), 0)
    with Image.open(io.BytesIO(three.patches[0].jpeg)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (8, 8))


def test_files_are_left_out_evenly_beyond_the_most_rows() -> None:
    files = [
        FileRef(path=str(n), size_bytes=1, sha256="0" * 64, rows=0 if n == 4 else 10)
        for n in range(9)
    ]
    assert [file.path for file in some_files(files, 80)] == list("01235678")
    assert [file.path for file in some_files(files, 30)] == ["0", "5", "8"]
    assert [file.path for file in some_files(files, 1)] == ["0"]
    assert some_files([], 5) == ()


@pytest.fixture(scope="module")
def words(indexed: Indexed) -> range:
    return range(indexed.snapshot.vocabularies["p15"].words)


def test_patches_of_a_real_index(indexed: Indexed, words: range) -> None:
    seen = word_patches(LocalStore(indexed.store), indexed.snapshot, "p15", words[:6], most=3)
    assert seen.looked_at == seen.rows > 0
    assert [word.word for word in seen.words] == list(words[:6])
    assert [word.word for word in seen.of([4, 1])] == [1, 4]
    for word in seen.words:
        assert word.unreadable == 0
        assert len(word.patches) <= 3
        assert len({patch.name for patch in word.patches}) == len(word.patches)
        distances = [patch.squared_distance for patch in word.patches]
        assert distances == sorted(distances)
    patches = [patch for word in seen.words for patch in word.patches]
    assert patches
    for patch in patches:
        with Image.open(io.BytesIO(patch.jpeg)) as picture:
            assert max(picture.size) <= PATCH_EDGE
