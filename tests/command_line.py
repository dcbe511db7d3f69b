"""The command line for tests: in this process, where a call takes no start, or in its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO
from unittest import mock

from lamella.cluster.commands.main import main
from lamella.cluster.ray import lifeline
from lamella.cluster.signals import ENDING

Said = subprocess.CompletedProcess[str]
"""The exit code of a call, and what it printed to each stream."""


def lamella(*arguments: object) -> Said:
    """Run a command in this process, as `main` does it, errors and exit codes included.

    Not for what runs on Ray: the tests may be connected to one.
    """
    given = ["lamella", *map(str, arguments)]
    with (
        tempfile.TemporaryDirectory() as folder,
        # From elsewhere: nothing may need the checkout to be at hand.
        contextlib.chdir("/"),
        mock.patch.object(sys, "argv", given),
        # A command may end its process where Ray is lost; the process of the tests may not be.
        mock.patch.object(lifeline, "in_command", False),
        handlers_kept(),
    ):
        out, err = Path(folder, "out"), Path(folder, "err")
        with _redirected(1, "stdout", out), _redirected(2, "stderr", err):
            code = _exit_code()
        return Said(given, code, out.read_text(), err.read_text())


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of signals back: a command that was stopped hears none any more."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def lamella_apart(*arguments: object, **environment: str) -> Said:
    """Run a command in a process of its own, as a person's shell does."""
    return subprocess.run(
        [sys.executable, "-m", "lamella", *map(str, arguments)],
        cwd="/",
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def complaint(said: Said, code: int = 2) -> str:
    """Return the one line that a refused call printed, having checked that it is one."""
    assert said.returncode == code, said.stderr
    lines = [line for line in said.stderr.splitlines() if line.startswith("lamella: ")]
    assert len(lines) == 1, said.stderr
    assert "Traceback" not in said.stderr
    return lines[0]


def _exit_code() -> int:
    """Call `main`, and return what its process would end with."""
    try:
        main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _redirected(descriptor: int, name: str, path: Path) -> Iterator[TextIO]:
    """Send a stream to a file: what Python prints, and what processes below this one do."""
    kept = os.dup(descriptor)
    with path.open("w", encoding="utf-8", buffering=1) as file, mock.patch.object(sys, name, file):
        os.dup2(file.fileno(), descriptor)
        try:
            yield file
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
