"""A JPEG that lacks only its end marker is a picture; one that lacks pixels is truncated."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.jpeg_end import END, NO_END, lacks_end
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.store.storage import open_store
from lamella.schemas.refusals import RefusalReason
from tests.command_line import lamella
from tests.tiny import tiny_index, tiny_pictures

LIMITS = DecodeLimits()
OPTIONS: dict[str, dict[str, object]] = {
    "baseline": {},
    "full colour": {"subsampling": 0},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 95},
    "restarts": {"restart_marker_blocks": 2},
    "a restart a row": {"restart_marker_rows": 1, "progressive": True},
}


def written(mode: str, options: dict[str, object]) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)
    held = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(held, "jpeg", **options)
    return held.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", OPTIONS)
def test_without_its_end_marker_it_is_the_same_picture(name: str, mode: str) -> None:
    whole = written(mode, OPTIONS[name])
    assert whole.endswith(END)
    cut = whole.removesuffix(END)
    assert lacks_end(cut)
    assert not lacks_end(whole)
    for data in (cut, cut + b"\xff", cut + bytes(100)):
        assert probe(data, LIMITS).detail == NO_END
        assert decode(data, LIMITS).image.tobytes() == decode(whole, LIMITS).image.tobytes()
    reduced = decode(cut, LIMITS, 2).image
    assert reduced.tobytes() == decode(whole, LIMITS, 2).image.tobytes()
    assert probe(whole, LIMITS).detail == ""


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", OPTIONS)
def test_cut_anywhere_it_is_the_same_picture_or_truncated(name: str, mode: str) -> None:
    whole = written(mode, OPTIONS[name])
    pixels, refused = decode(whole, LIMITS).image.tobytes(), 0
    start, reasons = whole.index(b"\xff\xda"), set[RefusalReason]()
    for length in [*range(start, len(whole), 7), *range(len(whole) - 24, len(whole))]:
        try:
            found = decode(whole[:length], LIMITS)
        except Refused as refusal:
            reasons.add(refusal.reason)
            refused += 1
        else:
            assert found.image.tobytes() == pixels, f"{length} of {len(whole)}"
    assert refused > 10
    assert reasons <= {RefusalReason.TRUNCATED, RefusalReason.CORRUPT}


@pytest.mark.parametrize("name", ["restarts", "a restart a row", "progressive"])
def test_cut_where_a_part_ends_it_is_truncated(name: str) -> None:
    """Between restarts, and between the scans of a progressive one, nothing is left half read."""
    whole = written("RGB", OPTIONS[name])
    marks = [b"\xff\xda", *(bytes((0xFF, 0xD0 + number)) for number in range(8))]
    start = whole.index(b"\xff\xda")
    ends = [at for at in range(start + 2, len(whole) - 2) if whole[at : at + 2] in marks]
    assert len(ends) >= 5
    for end in ends:
        with pytest.raises(Refused):
            decode(whole[:end], LIMITS)
        assert probe(whole[:end], LIMITS).detail == ""


def test_the_sandbox_reads_it_and_says_so() -> None:
    whole = written("RGB", {})
    cut = whole.removesuffix(END)
    assert sandbox.probe(cut, LIMITS).detail == NO_END
    look = Look(40, 56, 0, 0, 40, 56)
    (seen,), (expected,) = (sandbox.see(data, (40, 56), [look], LIMITS) for data in (cut, whole))
    assert (seen == expected).all()


def test_such_a_picture_is_indexed_and_the_status_says_so(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 3, broken=0)
    (pictures / "open.jpg").write_bytes(written("RGB", {}).removesuffix(END))
    made = tiny_index(tmp_path / "store", pictures)
    assert (made.indexed, made.refused) == (4, 0)
    (corpus,) = store_status(open_store(str(tmp_path / "store")))["corpora"]
    assert corpus["remarks"] == {NO_END: {"count": 1, "first": "open.jpg"}}
    assert corpus["refused"] == []
    said = lamella("status", tmp_path / "store").stdout
    assert f"1 read all the same: {NO_END}, such as open.jpg" in said
