"""Decode foreign pictures in child processes, so that a bad one harms nothing but itself.

The rest of the project decodes pictures by `probe`, `see` and `shrink`. A decoder that crashes,
hangs or eats memory ends its process; the picture is tried once more in a fresh one, and only a
second failure is a refusal. So the verdict on a picture does not depend on pictures that its
process decoded before. Before the verdict a sound picture is decoded in one more process: where
that fails, the machine is at fault, and the task fails instead. Safe in threads: each call has a
process to itself.
"""

import atexit
import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline import events
from lamella.pipeline.corpus.child_process import CHILD, HEIC_CHILD, ChildProcess, Lost
from lamella.pipeline.corpus.decode import MAX_PIXELS, DecodeLimits, Probe, check_format
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look
from lamella.pipeline.errors import DecoderUnavailable
from lamella.schemas.refusals import RefusalReason

T = TypeVar("T")
TRIES = 2
SOUND = b"P5\n2 2\n255\n\x00\x40\x80\xff"
"""A picture that every child can decode."""

SOUND_SECONDS = 10.0

_AGAIN = "No picture was refused for it; give the same command again"


class Sandbox:
    """A pool of decoding children: as many as calls at once, kept for later calls."""

    def __init__(self, module: str = CHILD) -> None:
        """Start nothing yet. `module` is what a child runs; another one is for tests."""
        self._module = module
        self._idle: list[ChildProcess] = []
        self._lock = threading.Lock()
        self._for_heic = Sandbox(HEIC_CHILD) if module == CHILD else None
        self.started = 0

    def ask(
        self,
        request: Mapping[str, Any],
        data: bytes,
        limits: DecodeLimits,
        most_bytes: int,
        read: Callable[[dict[str, Any], bytearray], T],
    ) -> T:
        """Ask a child about one picture; return `read` of its answer.

        Args:
            most_bytes: a longer answer is not read.
            read: given the answer's header and bytes. A KeyError, TypeError or ValueError that it
                raises is the child's fault.

        Raises:
            Refused: by the child; or the picture ended two of them.
            DecoderUnavailable: no child starts, or the machine ends them, or lets them have less
                memory than the limits.
        """
        name = check_format(data, limits)  # here, so that only pictures are sent to a child
        if name == "heic" and self._for_heic is not None:
            return self._for_heic.ask(request, data, limits, most_bytes, read)
        lost = Lost(RefusalReason.DECODER_CRASHED, "")
        for number in range(TRIES):
            child = self._take(fresh=number > 0)
            try:
                answer = _read(*child.ask(request, data, limits, most_bytes), read)
            except Lost as error:
                child.end()
                lost = error
                continue
            except Refused:
                self._give(child)
                raise
            except BaseException:
                child.end()
                raise
            self._give(child)
            return answer
        self._check_machine(lost, limits)
        assert lost.reason is not None
        raise Refused(lost.reason, lost.detail)

    def _check_machine(self, lost: Lost, limits: DecodeLimits) -> None:
        """Return if a fresh child decodes a sound picture, so that the picture is at fault.

        Raises:
            DecoderUnavailable: the machine is at fault.
        """
        if lost.reason is None:
            raise DecoderUnavailable(f"the process that decodes pictures: {lost.detail}. {_AGAIN}")
        child = self._take(fresh=True)
        try:
            header, _ = child.ask({"do": "check"}, SOUND, _for_sound(limits), 0)
        except (Lost, Refused) as error:
            child.end()
            raise DecoderUnavailable(
                f"the process that decodes pictures ends over a sound picture too ({lost.detail}): "
                f"mend the installation, or free memory. {_AGAIN}"
            ) from error
        except BaseException:
            child.end()
            raise
        self._give(child)
        if lost.reason is RefusalReason.TOO_MUCH_MEMORY and not header.get("room"):
            raise DecoderUnavailable(
                f"a picture may take {limits.max_memory:,} bytes of memory, this machine gives its "
                "process less: lower corpus.max_memory, or raise the machine's limit (ulimit -v, "
                f"ulimit -d, vm.overcommit_memory) or its memory. {_AGAIN}"
            )

    def _take(self, fresh: bool) -> ChildProcess:
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
            self.started += 1
            first = self.started == 1
        child = ChildProcess(self._module)
        if first and not child.held:
            events.warning(
                "decoder-not-confined",
                "this kernel has neither Landlock nor seccomp for the processes that decode "
                "pictures: deploy/RUNBOOK.md says what code in a picture could then do",
            )
        return child

    def _give(self, child: ChildProcess) -> None:
        with self._lock:
            self._idle.append(child)

    def close(self) -> None:
        """End the children that are idle; the next call starts others."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()
        if self._for_heic is not None:
            self._for_heic.close()

    def forget(self) -> None:
        """After a fork, leave the children to the parent process."""
        self._lock = threading.Lock()
        self._idle = []
        if self._for_heic is not None:
            self._for_heic.forget()


def _for_sound(limits: DecodeLimits) -> DecodeLimits:
    """Return limits that the sound picture passes, with the memory a picture may take."""
    most_bytes, seconds = max(limits.max_bytes, len(SOUND)), max(limits.max_seconds, SOUND_SECONDS)
    return replace(limits, max_pixels=MAX_PIXELS, max_bytes=most_bytes, max_seconds=seconds)


def _read(
    header: dict[str, Any], body: bytearray, read: Callable[[dict[str, Any], bytearray], T]
) -> T:
    try:
        if "refused" in header:
            raise Refused(RefusalReason(header["refused"]), str(header["detail"]))
        return read(header, body)
    except (KeyError, TypeError, ValueError) as error:
        raise Lost(RefusalReason.DECODER_CRASHED, "its answer is no answer") from error


_sandbox = Sandbox()
atexit.register(lambda: _sandbox.close())
os.register_at_fork(after_in_child=lambda: _sandbox.forget())


def end_idle_processes() -> None:
    """End the processes that decode for nobody at present; the next picture starts others."""
    _sandbox.close()


def probe(data: bytes, limits: DecodeLimits) -> Probe:
    """Return format and size of a picture from its header, as `decode.probe`.

    Raises:
        Refused: as `decode.probe`, or it crashes, takes too long or too much memory.
    """

    def read(header: dict[str, Any], _: bytearray) -> Probe:
        size = int(header["width"]), int(header["height"])
        return Probe(str(header["format"]), *size, str(header["detail"]))

    return _sandbox.ask({"do": "probe"}, data, limits, 0, read)


def see(
    data: bytes,
    size: tuple[int, int],
    looks: Sequence[Look],
    limits: DecodeLimits,
    box: tuple[int, int, int, int] | None = None,
    reduction: int = 1,
) -> list[NDArray[np.uint8]]:
    """Return the pixels of each look at a picture, (h, w, 3) uint8 RGB.

    Args:
        size: expected (height, width) of the picture, or of its box.
        box: left, top, right, bottom: the part that the looks are at; None for all.
        reduction: as of `decode.decode`.

    Raises:
        Refused: as `decode.decode`, or it crashes, takes too long or too much memory, or has
            another size (changed).
    """
    ends = list(itertools.accumulate((look.size_bytes for look in looks), initial=0))

    def read(header: dict[str, Any], body: bytearray) -> list[NDArray[np.uint8]]:
        found = (header["height"], header["width"])
        if found != size:
            raise Refused(
                RefusalReason.CHANGED,
                f"{size[1]} x {size[0]} in the manifest, {found[1]} x {found[0]} now",
            )
        return [
            np.frombuffer(body, np.uint8, look.size_bytes, start).reshape(look.shape)
            for look, start in zip(looks, ends, strict=False)
        ]

    request = {"do": "see", "looks": list(looks), "box": box, "reduction": reduction}
    return _sandbox.ask(request, data, limits, ends[-1], read)


def shrink(data: bytes, width: int, height: int, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Return a picture at most width x height, in its own proportions, (h, w, 3) uint8 RGB.

    Raises:
        Refused: as `decode.decode`, or it crashes, takes too long or too much memory.
    """

    def read(header: dict[str, Any], body: bytearray) -> NDArray[np.uint8]:
        found = int(header["height"]), int(header["width"]), 3
        return np.frombuffer(body, np.uint8).reshape(found)

    request = {"do": "shrink", "width": width, "height": height}
    return _sandbox.ask(request, data, limits, width * height * 3, read)
