"""A decoding child with flaws: a picture whose bytes name an act makes it do that act.

Everything else in it is the real one. The bytes are those of `marked`.
"""

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from pipeline.corpus import child
from pipeline.corpus.refused import Refused
from schemas.refusals import RefusalReason

_served = 0


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
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "ignore the clock":
            for number in (signal.SIGPROF, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(10_000)
        case "eat memory":
            hoard = []
            while True:
                hoard.append(bytearray(2**24))
        case "babble":
            os.write(child_answers(), b"\xff" * 4096)
        case "lie":
            child.send(child_answers(), {"refused": "because"})
        case "crash unless first" if _served > 1:
            ctypes.string_at(0)
        case "reach out":
            raise Refused(RefusalReason.CORRUPT, " ".join(reached()))


def child_answers() -> int:
    """Return the descriptor of the answers: the only pipe that is open beside standard input."""
    return next(number for number in range(3, 20) if _is_pipe(number))


def _is_pipe(number: int) -> bool:
    try:
        return os.fstat(number).st_mode & 0o170000 == 0o010000
    except OSError:
        return False


def reached() -> list[str]:
    """Return what could be opened from inside the child, which should be nothing."""
    attempts: dict[str, Callable[[], Any]] = {
        "file": lambda: os.open("/etc/hostname", os.O_RDONLY),
        "folder": lambda: os.listdir("/"),
        "socket": socket.socket,
        "pipe": os.pipe,
        "write": lambda: os.open("/tmp/lamella-reached", os.O_CREAT | os.O_WRONLY),
    }
    found = ["reached:"]
    for name, attempt in attempts.items():
        try:
            attempt()
            found.append(name)
        except OSError:
            pass
    return found


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


if __name__ == "__main__":
    child.decode, child.probe = _flawed(child.decode, "pixels"), _flawed(child.probe, "header")
    child.main()
