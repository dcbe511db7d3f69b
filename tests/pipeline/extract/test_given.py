"""Rows of pictures that a caller hands over, and what the network sees of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.extract.given import Given, GivenPictures, rows_of_given
from lamella.schemas.extraction import PreprocessSpec
from lamella.schemas.refusals import RefusalReason
from tests.pictures import drawn, jpeg_of

LIMITS = DecodeLimits()
SPEC = PreprocessSpec(short_edge=32, crop=16)


def test_rows_keep_the_order_of_the_call_and_name_what_cannot_be_read(tmp_path: Path) -> None:
    data, pixels = jpeg_of(90, 130), drawn(40, 60, 1)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    strange = tmp_path / "b\udcff.jpg"
    strange.write_bytes(data)
    given = [
        Given("pixels", pixels),
        Given("missing", str(tmp_path / "none.jpg")),
        Given("file", str(path)),
        Given("bytes", data),
        Given("text", b"text"),
        Given("why", Refused(RefusalReason.UNREADABLE, "as told")),
        Given("strange", str(strange)),
    ]
    rows = rows_of_given(given, LIMITS)
    assert [row["refusal"] for row in rows] == [
        *(None, "missing", None, None, "not-an-image", "unreadable", "bad-name")
    ]
    sizes = [(row["height"], row["width"]) for row in rows if row["refusal"] is None]
    assert sizes == [(40, 60), (90, 130), (90, 130)]
    assert rows[5]["detail"] == "as told"


def test_a_file_its_bytes_and_pixels_are_seen_alike(tmp_path: Path) -> None:
    data, pixels = jpeg_of(90, 130), drawn(40, 60, 1)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    rows = rows_of_given([Given("", str(path)), Given("", data), Given("", pixels)], LIMITS)
    source = GivenPictures(LIMITS)
    with source.expecting(rows):
        seen: list[Any] = [source.see(row, ("whole", "crop"), SPEC) for row in rows]
    file, held, array = seen
    assert all((one == other).all() for one, other in zip(file, held, strict=True))
    assert [view.shape for view in file] == [(32, 46, 3), (16, 16, 3)]
    assert [np.asarray(view).shape for view in array] == [(32, 48, 3), (16, 16, 3)]


def test_a_file_that_changed_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_of(90, 130))
    rows = rows_of_given([Given("", str(path))], LIMITS)
    path.write_bytes(jpeg_of(90, 120))
    with pytest.raises(Refused, match="changed"):
        GivenPictures(LIMITS).see(rows[0], ("whole",), SPEC)
