"""Imported before the rest of the command: a signal that comes meanwhile ends it in a line.

Python would print a traceback at Ctrl-C then. What the rest of the command does at a signal is in
`cluster/commands/main.py`.
"""

import lamella.cluster.start  # noqa: F401 - before anything can be imported from the current folder

# isort: split
import json
import os
import signal
from types import FrameType

from lamella.cluster.signals import ENDING, SIGNALLED, json_wanted, stopped_by


def _end(number: int, frame: FrameType | None) -> None:
    line, code = stopped_by(number), SIGNALLED + number
    try:
        os.write(2, f"{line}\n".encode())
        if json_wanted():
            error = {"code": code, "kind": "Stopped", "message": line}
            os.write(1, f"{json.dumps({'error': error}, indent=2)}\n".encode())
    finally:
        os._exit(code)


def listen() -> None:
    """End this process in a line at such a signal, until `main` knows better."""
    for each in ENDING:
        if signal.getsignal(each) != signal.SIG_IGN:  # of `nohup`, or in the background
            signal.signal(each, _end)
