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

from pipeline.corpus import child
from tests.reaching import reached

_served = 0
_answers = -1


def marked(picture: bytes, act: str) -> bytes:
    """Return a JPEG, PNG or WebP with an act behind its end, where no decoder looks."""
    return picture + b"<act " + act.encode() + b">"


def perform(act: str) -> None:
    """Do what a flaw in a decoder, or whoever uses one, could do."""
    match act:
        case "crash":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "spin":
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
            child.send(_answers, {"refused": "because"})
        case "crash unless first" if _served > 1:
            ctypes.string_at(0)
    if act.startswith("reach "):
        child.send(_answers, {"reached": list(reached(Path(act.removeprefix("reach "))))})


def _flawed(act_on: Callable[..., Any]) -> Callable[..., Any]:
    def decode(data: bytes, *others: Any) -> Any:
        global _served
        _served += 1
        start = data.rfind(b"<act ")
        if start >= 0:
            perform(data[start + 5 : -1].decode())
        return act_on(data, *others)

    return decode


def _noting_where(send: Callable[..., None]) -> Callable[..., None]:
    def note(descriptor: int, *others: Any) -> None:
        global _answers
        _answers = descriptor
        send(descriptor, *others)

    return note


def main() -> None:
    """Be the real child, but for the flaws."""
    child.decode = _flawed(child.decode)
    child.send = _noting_where(child.send)
    child.main()


if __name__ == "__main__":
    main()
