"""Small files that ask for much are refused, or read, for little."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import whole_look
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.schemas.refusals import RefusalReason
from tests.bombs import DECEPTIVE, TOO_LARGE, jpeg_of_many_scans

MOST_MIB = 50.0


class Watched:
    """One child, and how far its memory rises over a picture."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    def rise(self, act: Callable[[], object]) -> float:
        """Return MiB that the child's peak lies above its size before the act."""
        (child,) = self._box._idle
        folder = Path("/proc", str(child._process.pid))
        (folder / "clear_refs").write_text("5")  # forget the peak so far
        before = self._kib(folder, "VmRSS")
        try:
            act()
        finally:
            assert self._box.started == 1, "the child was lost"
        return (self._kib(folder, "VmHWM") - before) / 1024

    def _kib(self, folder: Path, name: str) -> int:
        lines = (folder / "status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(name))
        return int(line.split()[1])


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    box = Sandbox()
    monkeypatch.setattr(sandbox, "_sandbox", box)
    state(b"P1\n1 1\n0\n")
    yield Watched(box)
    box.close()


def state(data: bytes, limits: DecodeLimits | None = None) -> RefusalReason | None:
    """Return why a picture is refused, None where it is read whole."""
    limits = limits or DecodeLimits()
    try:
        found = sandbox.probe(data, limits)
        sandbox.see(data, (found.height, found.width), [whole_look(16, 16)], limits)
    except Refused as refused:
        return refused.reason
    return None


def look_at(name: str, data: bytes, found: dict[str, RefusalReason | None]) -> None:
    found[name] = state(data)


def test_pictures_of_fifty_thousand_squared_are_refused_by_their_header(watched: Watched) -> None:
    found: dict[str, RefusalReason | None] = {}
    rises = {}
    for name, data in TOO_LARGE.items():
        rises[name] = watched.rise(partial(look_at, name, data, found))
    assert found == dict.fromkeys(TOO_LARGE, RefusalReason.TOO_MANY_PIXELS)
    assert {name: rise for name, rise in rises.items() if rise > MOST_MIB} == {}


def test_what_stands_behind_a_small_picture_costs_little(watched: Watched) -> None:
    rises = {name: watched.rise(partial(state, data)) for name, data in DECEPTIVE.items()}
    assert {name: rise for name, rise in rises.items() if rise > MOST_MIB} == {}


def test_endless_scans_of_a_jpeg_are_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Sandbox()
    monkeypatch.setattr(sandbox, "_sandbox", box)
    data = jpeg_of_many_scans(2_000)
    assert len(data) < 25_000_000
    assert state(data, DecodeLimits(max_seconds=1.0)) is RefusalReason.TOO_SLOW
    assert state(jpeg_of_many_scans(1), DecodeLimits(max_seconds=60.0)) is None
    box.close()
