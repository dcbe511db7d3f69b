"""Code that a picture smuggled into a decoding child reaches nothing; nor does it its parent."""

import io
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.corpus import confine, sandbox
from lamella.pipeline.corpus.child_process import ChildProcess
from lamella.pipeline.corpus.confine import filter_calls, forbid_files
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.resize import whole_look
from lamella.pipeline.corpus.sandbox import Sandbox
from tests.hostile_child import marked
from tests.limited_child import NOBODY
from tests.pipeline.corpus.test_sandbox import PIXELS, PNG

DENIED, ALLOWED = 0x00050001, 0x7FFF0000


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of which a plain user may change all."""
    made = tmp_path_factory.mktemp("reached")
    for each in (made, *made.parents):
        if each.stat().st_uid == os.getuid() and str(each) != "/":
            each.chmod(each.stat().st_mode | 0o711)
    for name in ("mine", "other"):
        (made / name).write_text("as it was")
    (made / "empty").mkdir()
    if os.geteuid() == 0:
        for each in (made, *made.iterdir()):
            os.chown(each, NOBODY, NOBODY)
    return made


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what each file holds, and its mode."""
    return {
        each.name: (each.read_text() if each.is_file() else "", each.stat().st_mode)
        for each in folder.iterdir()
    }


def reached_by(module: str, folder: Path, *needed: str) -> set[str]:
    """Return what a child of this module reaches; skip where the kernel lacks what it needs."""
    child = ChildProcess(module)
    try:
        if lacking := [name for name in needed if not " ".join(child.held).count(name)]:
            pytest.skip(f"this kernel has no {' and no '.join(lacking)}")
        request: dict[str, object] = {"do": "see", "looks": [], "box": None, "reduction": 1}
        header, _ = child.ask(request, marked(PNG, f"reach {folder}"), DecodeLimits(), 0)
    finally:
        child.end()
    return set(header["reached"])


@pytest.mark.parametrize("module", ["tests.hostile_child", "tests.plain_child"])
def test_from_inside_a_child_nothing_is_reached(module: str, folder: Path) -> None:
    before = state(folder)
    assert reached_by(module, folder, "landlock", "seccomp") == set()
    assert state(folder) == before


def test_seccomp_alone_leaves_nothing_either(folder: Path) -> None:
    before = state(folder)
    assert reached_by("tests.filtered_child", folder, "seccomp") == set()
    assert state(folder) == before


LEFT_BY_LANDLOCK = {
    # What is known of files, and what is written beside their contents.
    *("look at", "read a link", "chdir", "chmod", "chown", "times", "attributes"),
    # Its own process, and what the kernel keeps for a user.
    *("kill itself from outside", "signal all", "be traced", "be dumped", "personality"),
    *("executable memory", "key", "keyctl", "shared memory", "messages", "unshare"),
    # Of other processes of its user, no more than how they run.
    *("limits of the parent", "priority of the parent", "processors of the parent"),
}
"""As deploy/RUNBOOK.md says, for machines whose calls are not filtered."""


def test_landlock_alone_leaves_no_contents_and_no_other_process(folder: Path) -> None:
    before = state(folder)
    left = reached_by("tests.landlocked_child", folder, "landlock")
    assert left <= LEFT_BY_LANDLOCK
    assert left >= {"chmod", "look at"}, "the attempts are real"
    after = state(folder)
    assert {name: held for name, (held, _) in after.items()} == {
        name: held for name, (held, _) in before.items()
    }


CONTROLS = [
    [
        *("read a file", "list a folder", "write", "create", "truncate", "rename", "replace"),
        *("rmdir", "chmod", "chown", "times", "look at", "ask for a process", "pidfd", "fork"),
        *("thread", "socket", "unix socket", "pipe", "dup", "memfd", "executable memory"),
    ],
    ["unlink", "symlink"],
    ["link", "read a file of its own"],
]


@pytest.mark.parametrize("names", CONTROLS)
def test_the_attempts_are_such_as_a_process_with_its_rights_can_make(
    folder: Path, names: list[str]
) -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import _thread; from pathlib import Path; from tests import limited_child, reaching\n"
        "reaching.PARENT = reaching.os.getpid(); limited_child.become_plain()\n"
        f"print(*reaching.reached(Path({str(folder)!r}), {names!r}), sep=', ')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.strip().split(", ")) == set(names)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    made = Sandbox("tests.bare_child")
    monkeypatch.setattr(sandbox, "_sandbox", made)
    yield made
    made.close()


def test_a_kernel_without_both_decodes_as_before_and_something_says_so(
    bare: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        (seen,) = sandbox.see(PNG, (24, 32), [whole_look(24, 32)], DecodeLimits())
        np.testing.assert_array_equal(seen, PIXELS)
    assert caplog.text.count("neither Landlock nor seccomp") == 1


def test_what_a_kernel_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        """A kernel that knows none of the calls."""

        def prctl(self, *others: object) -> int:
            return 0

        def syscall(self, *others: object) -> int:
            return -1

    monkeypatch.setattr(confine, "_libc", Refusing)
    assert forbid_files() == filter_calls() == []
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert filter_calls() == []


def ruled(
    machine: int, number: int, arguments: tuple[int, ...], program: Sequence[tuple[int, ...]]
) -> int:
    """Return what a filter says of a call: its language, carried out plainly."""
    data = struct.pack("<iIQ6Q", number, machine, 0, *(*arguments, *[0] * 6)[:6])
    held, at = 0, 0
    while True:
        code, if_so, if_not, value = program[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_so if held == value else if_not
            case 0x45:
                at += if_so if held & value else if_not
            case 0x06:
                return value


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_the_filter_allows_what_decoding_needs_and_no_more(name: str) -> None:
    machine, column = confine._MACHINES[name]
    program = confine._program(machine, column, 4321)
    assert all(0 <= jump < 256 for each in program for jump in each[1:3])

    def says(number: int, *arguments: int, on: int = machine) -> int:
        return ruled(on, number, arguments, program)

    free = {numbers[column] for numbers in confine._FREE.values()}
    mmap, mprotect, limit, signal = (
        numbers[column]
        for numbers in (confine._MMAP, confine._MPROTECT, confine._PRLIMIT, confine._TGKILL)
    )
    for number in range(700):
        expected = ALLOWED if number in free | {mmap, mprotect} else DENIED
        assert says(number, 1) == expected, number
        assert says(number, 1, on=0x40000003) == DENIED  # calls of another machine
        assert says(number | 0x40000000, 1) == DENIED  # x32 on x86_64
    for number in (mmap, mprotect):
        assert says(number, 0, 4096, 0b011) == ALLOWED
        assert says(number, 0, 4096, 0b101) == DENIED  # executable
    assert says(limit, 0, 9) == ALLOWED
    assert says(limit, 0, 7) == says(limit, 1, 9) == DENIED  # open files; another process
    assert says(signal, 4321, 99, 6) == ALLOWED
    assert says(signal, 4321, 99, 9) == says(signal, 1, 1, 6) == DENIED


LOOK = """
import ctypes, os, sys
sys.path.insert(0, '.')
from tests.limited_child import become_plain
from lamella.pipeline.corpus.confine import close_memory
become_plain()
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(4, 1, 0, 0, 0)
if {closed}: close_memory()
secret = ctypes.create_string_buffer(b'secret')
place, target = ctypes.addressof(secret), os.getpid()
if os.fork() == 0:
    libc.prctl(4, 1, 0, 0, 0)
    found = ctypes.create_string_buffer(6)
    here, far = ((ctypes.c_void_p * 2)(at, 6) for at in (ctypes.addressof(found), place))
    read = libc.process_vm_readv(target, here, 1, far, 1, 0)
    names = [found.value.decode()] if read > 0 else []
    for name in ('environ', 'mem', 'maps'):
        try: names.append(name) if open(f'/proc/{{target}}/{{name}}', 'rb') else None
        except OSError: pass
    print(*names)
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


def seen_of_a_parent(closed: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(closed=closed)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_memory_that_is_closed_is_read_by_no_other_process_of_the_user() -> None:
    assert seen_of_a_parent(closed=True) == []
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")
    if not yama.exists() or yama.read_text().strip() == "0":
        assert "environ" in seen_of_a_parent(closed=False)


def test_who_starts_a_child_has_closed_its_memory() -> None:
    code = (
        "import ctypes; from lamella.pipeline.corpus import sandbox;"
        "from lamella.pipeline.corpus.decode import DecodeLimits;"
        "get = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0); before = get();"
        f"sandbox.probe({PNG!r}, DecodeLimits()); print(before, get())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0"]


def test_wide_pictures_of_every_format_decode_though_no_thread_can_start() -> None:
    """Some libraries would decode them in threads of their own."""
    pixels = np.kron(PIXELS, np.ones((25, 63, 1), np.uint8))
    looks = [list(whole_look(6, 20))]
    request = {"do": "see", "box": None, "reduction": 1, "looks": looks}
    child = ChildProcess("tests.plain_child")
    try:
        for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF"):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, name)
            header, body = child.ask(request, buffer.getvalue(), DecodeLimits(), 360)
            assert (header, len(body)) == ({"height": 600, "width": 2016}, 360), name
    finally:
        child.end()
