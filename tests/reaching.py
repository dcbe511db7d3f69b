"""What code that a picture smuggled into a decoding child might try. Each attempt should fail.

Plain calls where Python has them, the kernel's numbers where it has not. What is tried on files is
tried on two that the child's user may change, in a folder where it may make others.
"""

import ctypes
import mmap
import os
import platform
import resource
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

PARENT = os.getppid()
"""Found before anything is given up: the process with the keys and the other pictures."""

# What it has already, so that an attempt that does not fail changes nothing.
_PRIORITY = os.getpriority(os.PRIO_PROCESS, PARENT)
_PROCESSORS = os.sched_getaffinity(PARENT)

_COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)
_NUMBERS = {
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "setns": (308, 268),
    "unshare": (272, 97),
    "memfd_create": (319, 279),
    "execveat": (322, 281),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "quotactl": (179, 60),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "personality": (135, 92),
}
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    """Make a call to the kernel by its number. Raises OSError where it fails."""
    _checked(_libc.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *arguments))


def _checked(found: int) -> None:
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _thread() -> None:
    import _thread

    try:
        _thread.start_new_thread(int, ())
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def _more_files() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    except ValueError as error:
        raise OSError(str(error)) from error


def _of_files(folder: Path) -> dict[str, Callable[[], Any]]:
    mine, other, new = (str(folder / name) for name in ("mine", "other", "new"))
    return {
        "read a file": lambda: os.open("/etc/hostname", os.O_RDONLY),
        "read a file of its own": lambda: os.open(mine, os.O_RDONLY),
        "open a path alone": lambda: os.open(mine, os.O_PATH),
        "list a folder": lambda: os.listdir("/"),
        "write": lambda: os.open(mine, os.O_WRONLY),
        "create": lambda: os.open(new, os.O_CREAT | os.O_WRONLY),
        "truncate": lambda: os.truncate(mine, 0),
        "unlink": lambda: os.unlink(mine),
        "rename": lambda: os.rename(mine, new),
        "replace": lambda: os.replace(other, mine),
        "symlink": lambda: os.symlink("/etc/passwd", new),
        "link": lambda: os.link(mine, new),
        "mkdir": lambda: os.mkdir(new),
        "rmdir": lambda: os.rmdir(folder / "empty"),
        "mkfifo": lambda: os.mkfifo(new),
        "chmod": lambda: os.chmod(mine, 0o777),
        "chown": lambda: os.chown(mine, os.getuid(), os.getgid()),
        "times": lambda: os.utime(mine),
        "attributes": lambda: os.setxattr(mine, "user.reached", b"1"),
        "look at": lambda: os.stat(mine),
        "read a link": lambda: os.readlink("/proc/self/exe"),
        "chdir": lambda: os.chdir("/tmp"),
        "chroot": lambda: os.chroot("/tmp"),
        "openat2": lambda: _call("openat2", -100, mine.encode(), bytes(24), ctypes.c_size_t(24)),
    }


def _of_processes() -> dict[str, Callable[[], Any]]:
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    far = (ctypes.c_void_p * 2)(0x400000, 8)
    return {
        "ask for a process": lambda: os.kill(PARENT, 0),
        "signal the parent": lambda: os.kill(PARENT, signal.SIGCONT),
        "signal its group": lambda: os.killpg(os.getpgid(PARENT), 0),
        "signal all": lambda: os.kill(-1, 0),
        "kill itself from outside": lambda: os.kill(os.getpid(), 0),
        "pidfd": lambda: os.pidfd_open(PARENT),
        "pidfd_getfd": lambda: _call("pidfd_getfd", 3, 0, 0),
        "ptrace": lambda: _checked(_libc.ptrace(16, PARENT, 0, 0)),
        "seize": lambda: _checked(_libc.ptrace(0x4206, PARENT, 0, 0)),
        "be traced": lambda: _checked(_libc.ptrace(0, 0, 0, 0)),
        "read memory": lambda: _call("process_vm_readv", PARENT, vector, 1, far, 1, 0),
        "write memory": lambda: _call("process_vm_writev", PARENT, vector, 1, far, 1, 0),
        "open memory": lambda: os.open(f"/proc/{PARENT}/mem", os.O_RDWR),
        "open environment": lambda: os.open(f"/proc/{PARENT}/environ", os.O_RDONLY),
        "open its own memory": lambda: os.open("/proc/self/mem", os.O_RDWR),
        "kcmp": lambda: _call("kcmp", PARENT, os.getpid(), 0, 0, 0),
        "limits of the parent": lambda: resource.prlimit(PARENT, resource.RLIMIT_NOFILE),
        "priority of the parent": lambda: os.setpriority(os.PRIO_PROCESS, PARENT, _PRIORITY),
        "processors of the parent": lambda: os.sched_setaffinity(PARENT, _PROCESSORS),
        "fork": _fork,
        "thread": _thread,
        "execute": lambda: os.execve("/bin/true", ["true"], {}),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "clone3": lambda: _call("clone3", bytes(88), ctypes.c_size_t(88)),
        "unshare": lambda: _call("unshare", 0x10000000),
        "setns": lambda: _call("setns", 0, 0),
        "change user": lambda: os.setuid(os.getuid()),
        "be dumped": lambda: _checked(_libc.prctl(4, 1, 0, 0, 0)),
        "personality": lambda: _call("personality", 0xFFFFFFFF),
    }


def _of_the_kernel() -> dict[str, Callable[[], Any]]:
    return {
        "socket": socket.socket,
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "socket pair": socket.socketpair,
        "pipe": os.pipe,
        "dup": lambda: os.dup(0),
        "memfd": lambda: os.memfd_create("x"),
        "execveat": lambda: _call("execveat", 0, b"", None, None, 0x1000),
        "io_uring": lambda: _call("io_uring_setup", 1, bytes(120)),
        "bpf": lambda: _call("bpf", 0, bytes(128), 128),
        "userfaultfd": lambda: _call("userfaultfd", 1),
        "perf": lambda: _call("perf_event_open", bytes(120), 0, -1, -1, 0),
        "key": lambda: _call("add_key", b"user", b"reached", b"x", ctypes.c_size_t(1), -3),
        "keyctl": lambda: _call("keyctl", 0, -3, 1),
        "mount": lambda: _call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "shared memory": lambda: _call("shmget", 0x1A, ctypes.c_size_t(4096), 0o1600),
        "messages": lambda: _call("msgget", 0x1A, 0o1600),
        "another filter": lambda: _call("seccomp", 1, 0, None),
        "executable memory": _executable_memory,
        "more files": _more_files,
    }


def reached(folder: Path, only: Collection[str] | None = None) -> Iterator[str]:
    """Yield the names of all attempts, or of `only` these, that did not fail."""
    for name, attempt in (_of_files(folder) | _of_processes() | _of_the_kernel()).items():
        if only is not None and name not in only:
            continue
        try:
            attempt()
        except OSError:
            continue
        yield name
