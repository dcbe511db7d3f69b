"""A decoding child, seen from its parent: start it, ask it, time it, end it."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from lamella.pipeline.corpus.confine import close_memory
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.wire import receive, send
from lamella.pipeline.errors import DecoderUnavailable
from lamella.pipeline.import_path import path_of_children, python_running
from lamella.schemas.refusals import RefusalReason

CHILD = "lamella.pipeline.corpus.child"
HEIC_CHILD = "lamella.pipeline.corpus.child_heic"
RUN = "import runpy; runpy.run_module('{}', None, '__main__')"

START_SECONDS = 300.0
WALL_FACTOR = 10
"""A picture's limit of wall-clock time over that of processor time: a loaded or sleeping machine
refuses no good picture, and a child that waits for ever is ended."""

GRACE_SECONDS = 5.0
"""How much later than the child's own limit the parent ends it, in case it stopped its clock."""

_PIPE_BYTES = 2**20
_CURES = {
    errno.EAGAIN: "Raise the limit on processes (ulimit -u, or the container's)",
    errno.ENOMEM: "Free memory, or use fewer --workers",
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
    errno.ENFILE: "Raise the machine's limit on open files (fs.file-max)",
}
_KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
"""Environment variables that a child gets; no keys to the store are among them."""

_FIXED = {
    # Libraries would start a thread a core; one picture has no work for them.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Each thread would reserve 64 MiB of address space, which the limit on memory counts.
    "MALLOC_ARENA_MAX": "1",
    # Keeps glibc from returning a picture's memory to the kernel, which would map and zero it
    # again, page by page, for the next one. Free memory above 64 MiB still goes back.
    "MALLOC_MMAP_THRESHOLD_": str(2**26),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
}

_OUT_OF_TIME: dict[int, str] = {
    signal.SIGPROF: "more than {seconds:g} s of processor time",
    signal.SIGALRM: "no end after {wall:g} s",
}
_CRASHES: set[int] = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
    *(signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS),
}
"""Signals with which a process ends itself; all others came from outside."""

_SENDERS: dict[int, str] = {
    signal.SIGKILL: "most often memory ran out: use fewer --workers, lower corpus.max_memory, or "
    "give the job more memory",
    signal.SIGXCPU: "a limit on processor time did that: raise it (ulimit -t)",
}


class Lost(Exception):
    """A picture ended its child; holds the reason of a refusal if that happens again.

    The reason is None if the child was ended from outside.
    """

    def __init__(self, reason: RefusalReason | None, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class ChildProcess:
    """A running child that decodes one picture at a time.

    `held` names what confines it besides resource limits: Landlock, seccomp.
    """

    def __init__(self, module: str = CHILD) -> None:
        """Start it and wait until it is ready.

        Raises:
            DecoderUnavailable: it did not start.
        """
        close_memory()  # our memory holds keys and other pictures
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._process = subprocess.Popen(
                # -S -s: all that may be imported is named by the environment.
                python_running(
                    f"import runpy; runpy.run_module({module!r}, None, '__main__')", "-S", "-s"
                ),
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # read if it does not start
                env=kept | _FIXED | path_of_children(),
                cwd="/",
                # Ctrl-C is for the job: it would end the child, which would look like a bad
                # picture.
                start_new_session=True,
            )
        except OSError as error:
            cure = _CURES.get(error.errno or 0, "Mend that")
            raise DecoderUnavailable(
                "the process that decodes pictures must start; the machine says: "
                f"{error.strerror or error}. {cure}, then give the same command again; no picture "
                "was refused for it"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._questions = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()
        for descriptor in (self._questions, self._answers):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):  # the kernel limits pipe sizes a user
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            ready, _ = receive(self._answers, 0, time.monotonic() + START_SECONDS)
        except (EOFError, TimeoutError, ValueError, OSError) as error:
            self._no_start(error, self._process.stderr)
        self._process.stderr.close()
        self.held = tuple(ready.get("held", ()))

    def _no_start(self, error: Exception, errors: IO[bytes]) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        code = self.end()
        said = errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        errors.close()
        last = said[-1] if said else type(error).__name__
        raise DecoderUnavailable(
            f"the process that decodes pictures must start; it ended with code {code}: {last}. "
            "Mend that; no picture was refused for it"
        ) from error

    def ask(
        self, request: Mapping[str, Any], data: bytes, limits: DecodeLimits, most_bytes: int
    ) -> tuple[dict[str, Any], bytearray]:
        """Return the answer to a request about one picture.

        Raises:
            Lost: the child crashed, hung or ran out of memory, and has ended.
            OSError: the pipes to it fail.
        """
        wall = limits.max_seconds * WALL_FACTOR
        deadline = time.monotonic() + wall + GRACE_SECONDS
        facts = (limits.max_pixels, limits.max_bytes, limits.max_seconds, limits.max_memory, wall)
        try:
            with contextlib.suppress(BrokenPipeError):  # it may have answered why before it ended
                send(self._questions, {**request, "limits": facts}, b"", deadline)
                send(self._questions, {}, data, deadline)
            header, body = receive(self._answers, most_bytes, deadline)
        except TimeoutError:
            self.end()
            raise Lost(RefusalReason.TOO_SLOW, f"no end after {wall:g} s") from None
        except EOFError:
            raise self._why_ended(limits.max_seconds, wall) from None
        except ValueError as error:
            self.end()
            raise Lost(RefusalReason.DECODER_CRASHED, "its answer is no answer") from error
        if "out_of_memory" in header:
            self.end()
            raise Lost(RefusalReason.TOO_MUCH_MEMORY, f"more than {limits.max_memory:,} bytes")
        return header, body

    def _why_ended(self, seconds: float, wall: float) -> Lost:
        try:
            code = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0  # it closed its answers and went on
        self.end()
        if code >= 0:
            return Lost(RefusalReason.DECODER_CRASHED, f"exit code {code}")
        if (late := _OUT_OF_TIME.get(-code)) is not None:
            return Lost(RefusalReason.TOO_SLOW, late.format(seconds=seconds, wall=wall))
        if -code in _CRASHES:
            return Lost(RefusalReason.DECODER_CRASHED, signal.Signals(-code).name)
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        sender = _SENDERS.get(-code, "see who sends it")
        return Lost(None, f"{name} from outside ended it, twice; {sender}")

    def end(self) -> int:
        """End it now, if it has not ended; return its exit code, or minus the signal."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.kill()
        return self._process.wait()
