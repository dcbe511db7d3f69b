"""Each format is decoded where pictures are decoded, and what is wrong is told of each."""

import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.formats import SUPPORTED, sniff
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.pipeline.doctor import pictures
from lamella.pipeline.doctor.findings import caught
from lamella.pipeline.doctor.samples import SAMPLES

LIMITS = DecodeLimits()


def test_there_is_a_sample_of_every_format() -> None:
    assert set(SAMPLES) == set(pictures.NAMES) == SUPPORTED
    assert {name: sniff(data) for name, data in SAMPLES.items()} == {each: each for each in SAMPLES}


def test_every_format_is_decoded_here() -> None:
    (found,) = pictures.formats()
    assert (found.state, found.needed) == ("ok", True)
    assert set(found.says.split(", ")) == set(pictures.NAMES.values())


def test_a_format_that_is_not_decoded_is_told_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SAMPLES, "png", SAMPLES["png"][:-30])
    monkeypatch.setitem(SAMPLES, "jpeg", b"")
    monkeypatch.setitem(SAMPLES, "bmp", SAMPLES["gif"].replace(b"\xd0\x30\x30", b"\x00\xff\x00"))
    good, *broken = pictures.formats()
    assert "PNG" not in good.says
    assert "HEIC" in good.says
    assert [each.what for each in broken] == ["JPEG", "PNG", "BMP"]
    assert all(each.state == "broken" and each.needed for each in broken)
    assert broken[2].says.startswith("decoded to other colours than it has")


def test_a_sandbox_that_does_not_start_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Sandbox("lamella.no_such_module")

    def shrink(data: bytes, *_: object) -> object:
        return broken.ask({}, data, LIMITS, 0, lambda header, body: header)

    monkeypatch.setattr(pictures, "shrink", shrink)
    (found,) = caught("formats", pictures.formats, needed=True)
    assert (found.state, found.needed) == ("broken", True)
    assert found.says.startswith("the process that decodes pictures must start")


def test_the_sandbox_says_what_holds_it() -> None:
    found = pictures.sandbox()
    assert [each.what for each in found if each.state == "broken"] == []
    assert "held by limits" in found[0].says or found[0].state == "missing"


def test_a_kernel_that_holds_nothing_is_told() -> None:
    found = pictures._confined(())
    assert (found.state, found.cure) == ("missing", "deploy/RUNBOOK.md says what that means")
