"""How a command ends at a signal, and prints what an encoding has no letter for."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from lamella.cluster.commands import main as module
from lamella.cluster.commands.failures import Stopped
from lamella.cluster.ray import lifeline
from lamella.pipeline.errors import EngineLost
from tests.command_line import handlers_kept, lamella


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "stopped; "), (signal.SIGTERM, "stopped by SIGTERM; "), (signal.SIGHUP, "")],
)
def test_a_signal_to_end_is_one_word_and_a_code_of_its_own(
    number: signal.Signals, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def runs(**_: object) -> None:
        os.kill(os.getpid(), number)

    with called(), mock.patch.object(module, "app", runs):
        with pytest.raises(SystemExit) as ended:
            module.main()
        os.kill(os.getpid(), number)  # once more, on its way out
    assert ended.value.code == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert line.endswith("what is done stays done: the same command continues")


def test_nohup_is_heeded() -> None:
    with called():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with module._stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def called() -> Iterator[None]:
    """Call `main` inside the block as in a process of its own."""
    with (
        # The process of the tests may not be ended where Ray is lost.
        mock.patch.object(lifeline, "in_command", False),
        mock.patch.object(lifeline, "_stopped", None),
        mock.patch.object(lifeline, "_leaving", threading.Lock()),
        handlers_kept(),
    ):
        yield


@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", b"gr\\xf6\\u20ac"), ("latin-1", b"gr\xf6\\u20ac")]
)
def test_a_letter_that_an_encoding_lacks_is_escaped(encoding: str, printed: bytes) -> None:
    data = io.BytesIO()
    with mock.patch.object(sys, "stdout", io.TextIOWrapper(data, encoding=encoding)):
        module._print_anything()
        print("grö€", flush=True)
        assert data.getvalue() == printed + b"\n"
    with mock.patch.object(sys, "stdout", None):  # closed
        module._print_anything()


def test_what_a_command_does_first_is_said_at_once_and_in_no_json() -> None:
    first = "listing the pictures of /nowhere"
    assert lamella("index", "/nowhere", "--into", "/nowhere/x").stderr.splitlines()[0] == first
    assert first not in lamella("index", "/nowhere", "--into", "/nowhere/x", "--json").stderr


@pytest.mark.parametrize("then", [SystemError, EngineLost])
def test_a_stop_that_another_error_came_of_is_told_as_the_stop(
    then: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def runs(**_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Stopped as stopped:  # as Ray's compiled code does, or the same signal to Ray itself
            raise then("returned a result with an exception set") from stopped

    leaves = mock.patch.object(os, "_exit", side_effect=SystemExit)
    ends = pytest.raises(SystemExit)
    with called(), mock.patch.object(module, "app", runs), leaves as left, ends as ended:
        module.main()
    code = left.call_args.args[0] if left.called else ended.value.code
    assert code == 128 + signal.SIGTERM
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stopped by SIGTERM; ")


def left_by(runs: Callable[..., None]) -> int:
    """Return the exit code with which a process ends itself while a command runs."""
    codes: list[int] = []
    left = threading.Event()

    def leave(code: int) -> None:
        codes.append(code)
        left.set()
        if threading.current_thread() is threading.main_thread():
            raise SystemExit(code)

    with called(), mock.patch.object(module, "app", runs), mock.patch.object(os, "_exit", leave):
        with contextlib.suppress(SystemExit):
            module.main()
        assert left.wait(30)
    return codes[0]


def test_a_command_that_does_not_close_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "ENOUGH_S", 0.01)

    def runs(**_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            while lifeline._leaving.acquire(blocking=False):  # as it waits for a dead server
                lifeline._leaving.release()

    assert left_by(runs) == 128 + signal.SIGTERM


def test_a_second_signal_ends_at_once_but_not_one_that_was_sent_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = []

    def runs(**_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            heard.append("twice")
            monkeypatch.setattr(module, "PATIENCE_S", 0.0)
            os.kill(os.getpid(), signal.SIGINT)
            heard.append("never")

    assert left_by(runs) == 128 + signal.SIGTERM
    assert heard == ["twice"]


def test_a_stop_that_python_ignores_is_raised_once_more() -> None:
    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    def runs(**_: object) -> None:
        closing = Closing()
        del closing
        signal.pause()  # the second one ends it

    with called(), mock.patch.object(module, "app", runs), pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize("call", [("--help",), ("runs",), ("status", "--json")])
def test_where_nobody_reads_a_command_ends_without_a_word(stores: Any, call: Any) -> None:
    given = [*call[:1], stores.one, *call[1:]] if call != ("--help",) else call
    command = [sys.executable, "-m", "lamella", *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_names_of_files_are_utf_8_in_every_locale() -> None:
    code = (
        "import lamella.cluster.start, os, sys\n"
        "print(os.fsencode(sys.argv[1]), sys.argv[1].isprintable(), sys.stdout.encoding)"
    )
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = subprocess.run(
        [sys.executable, "-c", code, "größe"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
        | other,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{'größe'.encode()!r} True ascii\n"
