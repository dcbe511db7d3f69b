"""A decoder that crashes, hangs or eats memory costs one picture and one process."""

import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.corpus import child_process, sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, Probe, decode
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look, look_at, whole_look
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.pipeline.errors import DecoderUnavailable
from lamella.schemas.refusals import RefusalReason
from tests.hostile_child import marked

LIMITS = DecodeLimits(max_seconds=0.5, max_memory=2**26)
PIXELS = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def saved(format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format_name, **options)
    return buffer.getvalue()


PNG = saved("PNG")


def see(data: bytes, limits: DecodeLimits = LIMITS) -> np.ndarray:
    return sandbox.see(data, (24, 32), [whole_look(24, 32)], limits)[0]


@pytest.fixture(scope="module")
def flawed() -> Iterator[Sandbox]:
    """The sandbox with a child that has flaws, and clocks that do not wait for minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_process, "WALL_FACTOR", 2)
        patch.setattr(child_process, "GRACE_SECONDS", 0.5)
        made = Sandbox("tests.hostile_child")
        patch.setattr(sandbox, "_sandbox", made)
        yield made
        made.close()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox of the real child that has not started any."""
    made = Sandbox()
    monkeypatch.setattr(sandbox, "_sandbox", made)
    yield made
    made.close()


def only_child(one: Sandbox) -> int:
    """Return the process id of the child that the sandbox keeps."""
    (kept,) = one._idle
    return kept._process.pid


@pytest.mark.parametrize(
    ("act", "reason", "detail"),
    [
        ("crash", RefusalReason.DECODER_CRASHED, "SIGSEGV"),
        ("abort", RefusalReason.DECODER_CRASHED, "SIGABRT"),
        ("exit", RefusalReason.DECODER_CRASHED, "exit code 3"),
        ("babble", RefusalReason.DECODER_CRASHED, "its answer is no answer"),
        ("lie", RefusalReason.DECODER_CRASHED, "its answer is no answer"),
        ("sleep", RefusalReason.TOO_SLOW, "no end after 1 s"),
        ("ignore the clock", RefusalReason.TOO_SLOW, "no end after 1 s"),
        ("eat memory", RefusalReason.TOO_MUCH_MEMORY, "more than 67,108,864 bytes"),
    ],
)
def test_what_a_flaw_does_to_its_process_is_the_reason_of_the_refusal(
    flawed: Sandbox, act: str, reason: RefusalReason, detail: str
) -> None:
    before = flawed.started
    with pytest.raises(Refused) as caught:
        see(marked(PNG, act))
    assert (caught.value.reason, caught.value.detail) == (reason, detail)
    # The first may have been kept from the test before; the last decodes a sound picture.
    assert flawed.started - before in (2, 3)
    np.testing.assert_array_equal(see(PNG), PIXELS)


def test_limits_on_pictures_are_no_limits_on_the_one_that_tries_the_machine(
    flawed: Sandbox,
) -> None:
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    data = marked(pixel.getvalue(), "crash")
    limits = DecodeLimits(max_pixels=1, max_bytes=len(data), max_seconds=0.05)
    with pytest.raises(Refused) as caught:
        sandbox.see(data, (1, 1), [whole_look(1, 1)], limits)
    assert caught.value.reason in (RefusalReason.DECODER_CRASHED, RefusalReason.TOO_SLOW)


def test_a_decoder_that_computes_without_end_is_ended_by_its_processor_time(
    flawed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "WALL_FACTOR", 1_000)
    with pytest.raises(Refused) as caught:
        see(marked(PNG, "spin"))
    assert caught.value.reason is RefusalReason.TOO_SLOW
    assert caught.value.detail == "more than 0.5 s of processor time"


def test_a_picture_is_not_refused_for_what_its_process_saw_before(flawed: Sandbox) -> None:
    see(PNG)
    before = flawed.started
    np.testing.assert_array_equal(see(marked(PNG, "crash unless first")), PIXELS)
    assert flawed.started == before + 1


def test_the_child_has_no_secrets_no_files_and_no_leave_to_write(
    fresh: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    see(PNG)
    folder = Path("/proc", str(only_child(fresh)))
    environment = (folder / "environ").read_bytes()
    assert b"canary" not in environment
    assert b"AWS" not in environment
    targets = [os.readlink(each) for each in (folder / "fd").iterdir()]
    assert all(each == "/dev/null" or each.startswith("pipe:") for each in targets)
    limits = (folder / "limits").read_text().splitlines()
    for name in ("Max file size", "Max core file size", "Max processes", "Max open files"):
        (line,) = (line for line in limits if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"], line


def test_pixels_and_headers_are_those_of_decoding_in_this_process(fresh: Sandbox) -> None:
    looks = [Look(48, 60, 3, 5, 40, 50), whole_look(7, 9), whole_look(24, 32)]
    for name in ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"):
        data = saved(name)
        picture = decode(data, LIMITS)
        for seen, look in zip(sandbox.see(data, (24, 32), looks, LIMITS), looks, strict=True):
            np.testing.assert_array_equal(seen, look_at(picture, look))
        assert sandbox.probe(data, LIMITS).width == 32
    assert sandbox.probe(PNG, LIMITS) == Probe("png", 32, 24)
    assert sandbox.shrink(PNG, 16, 16, LIMITS).shape == (12, 16, 3)
    (boxed,) = sandbox.see(PNG, (6, 8), [whole_look(6, 8)], LIMITS, (2, 3, 10, 9))
    np.testing.assert_array_equal(boxed, PIXELS[3:9, 2:10])
    assert fresh.started == 1


def test_a_child_that_was_killed_between_two_pictures_is_replaced(fresh: Sandbox) -> None:
    see(PNG)
    os.kill(only_child(fresh), signal.SIGKILL)
    np.testing.assert_array_equal(see(PNG), PIXELS)
    assert fresh.started == 2


def test_a_child_that_was_stopped_is_ended_by_the_clock_on_the_wall(
    flawed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = child_process.ChildProcess.ask

    def stop_first(child: child_process.ChildProcess, request: Any, *others: Any) -> Any:
        if request["do"] != "check":
            os.kill(child._process.pid, signal.SIGSTOP)
        return real(child, request, *others)

    monkeypatch.setattr(child_process.ChildProcess, "ask", stop_first)
    with pytest.raises(Refused, match="too-slow: no end after 1 s"):
        see(PNG)


def test_a_picture_of_another_size_than_its_row_has_changed(fresh: Sandbox) -> None:
    with pytest.raises(Refused, match="32 x 25 in the manifest, 32 x 24 now") as caught:
        sandbox.see(PNG, (25, 32), [whole_look(25, 32)], LIMITS)
    assert caught.value.reason is RefusalReason.CHANGED


def test_too_little_memory_is_a_reason_of_its_own(fresh: Sandbox) -> None:
    large = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(large, "PNG")
    look = [whole_look(4, 4)]
    with pytest.raises(Refused) as caught:
        sandbox.see(large.getvalue(), (4000, 4000), look, DecodeLimits(max_memory=2**25))
    assert caught.value.reason is RefusalReason.TOO_MUCH_MEMORY
    sandbox.see(large.getvalue(), (4000, 4000), look, DecodeLimits(max_memory=2**29))


def test_a_child_starts_where_our_packages_are_not_on_the_path(
    fresh: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {str(Path(__file__).parents[3]), "", "."}
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ours])
    np.testing.assert_array_equal(see(PNG), PIXELS)
    assert fresh.started == 1


def test_a_child_ends_with_the_process_that_started_it() -> None:
    code = (
        "import os, signal; from lamella.pipeline.corpus import sandbox;"
        "from lamella.pipeline.corpus.decode import DecodeLimits;"
        f"sandbox.probe({PNG!r}, DecodeLimits());"
        "print(sandbox._sandbox._idle[0]._process.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    waiting = select.poll()
    waiting.register(child, select.POLLIN)
    assert waiting.poll(60_000), "the child outlived its parent"
    os.close(child)


def test_where_no_child_starts_no_picture_is_refused() -> None:
    absent = Sandbox("tests.there_is_none")
    with pytest.raises(DecoderUnavailable, match="No module named"):
        absent.ask({"do": "probe"}, PNG, LIMITS, 0, lambda header, body: header)
