"""A decoding child with flaws: a picture whose bytes name an act makes it do that act.

Everything else in it is the real one. The bytes are those of `marked`.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamella.pipeline.corpus import child, wire
from tests.reaching import reached

_served = 0
_answers = -1


def marked(picture: bytes, act: str, *, at: str = "pixels") -> bytes:
    """Return a JPEG, PNG or WebP with an act behind its end, where no decoder looks.

    Args:
        at: "pixels" or "header": when the act is done.
    """
    return picture + f"<{at} act {act}>".encode()


def perform(act: str) -> None:
    """Do what a flaw in a decoder, or whoever uses one, could do."""
    match act:
        case "crash":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case _ if act.startswith("spin"):  # with a number, which makes it another picture
            while True:
                pass
        case "sleep":
            time.sleep(10_000)
        case "ignore the clock":
            for number in (signal.SIGPROF, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(10_000)
        case "eat memory":
            hoard = []
            while True:
                hoard.append(bytearray(2**24))
        case "babble":
            os.write(_answers, b"\xff" * 4096)
        case "lie":
            wire.send(_answers, {"refused": "because"})
        case "crash unless first" if _served > 1:
            ctypes.string_at(0)
    if act.startswith("reach "):
        wire.send(_answers, {"reached": list(reached(Path(act.removeprefix("reach "))))})


def _flawed(act_on: Callable[..., Any], at: str) -> Callable[..., Any]:
    mark = f"<{at} act ".encode()

    def flawed(data: bytes, *others: Any) -> Any:
        global _served
        _served += 1
        start = data.rfind(mark)
        if start >= 0:
            perform(data[start + len(mark) : -1].decode())
        return act_on(data, *others)

    return flawed


def _noting_where(send: Callable[..., None]) -> Callable[..., None]:
    def note(descriptor: int, *others: Any) -> None:
        global _answers
        _answers = descriptor
        send(descriptor, *others)

    return note


def main() -> None:
    """Be the real child, but for the flaws."""
    real = vars(child)
    real["decode"] = _flawed(real["decode"], "pixels")
    real["probe"] = _flawed(real["probe"], "header")
    real["send"] = _noting_where(real["send"])
    child.main()


if __name__ == "__main__":
    main()
