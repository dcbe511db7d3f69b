"""Confine a process for good with Linux's Landlock and seccomp.

Both are a few system calls whose numbers never change, so no package is needed. What the kernel
lacks is left out, and functions return what took effect. Neither the process nor its children can
undo it. See landlock(7) and seccomp(2).
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

_SET_DUMPABLE, _NO_NEW_PRIVILEGES = 4, 38
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ABI_VERSION = 1
_FILES_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many file rights each version of Landlock knows."""

_NETWORK, _SCOPES = 0b11, 0b11
"""Binding and connecting (from version 4); abstract sockets and signals (from version 6)."""

_SET_FILTER, _ALL_THREADS = 1, 1
_LOAD, _IS, _HAS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOWED, _DENIED = 0x7FFF0000, 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_SELF, _ADDRESS_SPACE, _EXECUTABLE, _ABORT = 0, 9, 4, 6

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The kernel's number of an architecture, and its column below."""

_FREE = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "setitimer": (38, 103),
    "brk": (12, 214),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "futex": (202, 98),
    "close": (3, 57),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "sched_yield": (24, 124),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""System calls allowed with any arguments: memory, time, its own pipes, exit."""

_FOR_THREADS = {"set_robust_list": (273, 99), "rseq": (334, 293)}
"""What a thread calls as it starts."""

_CLONE, _CLONE3 = (56, 220), (435, 435)
_THREAD = 0x3D0F00
"""The flags with which glibc starts a thread: it shares everything, and is no process."""

_MMAP, _MPROTECT, _PRLIMIT, _TGKILL, _SECCOMP = (
    (9, 222),
    (10, 226),
    (302, 261),
    (234, 131),
    (317, 277),
)

Instruction = tuple[int, int, int, int]


def close_memory() -> None:
    """Let no other process of the same user read this one's memory, or trace it.

    This also turns off core dumps, and debuggers except root's.
    """
    if sys.platform == "linux":
        _libc().prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def forbid_files() -> list[str]:
    """Forbid this process all files, TCP, and signals to others, as far as Landlock knows them.

    Open files stay open. Returns name and version of what took effect, or nothing. Call it while a
    file can still be opened.
    """
    libc = _libc()
    abi = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ABI_VERSION)
    if abi < 1 or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return []
    rights = [(1 << _FILES_BY_ABI.get(abi, max(_FILES_BY_ABI.values()))) - 1]
    rights += [_NETWORK] * (abi >= 4) + [_SCOPES] * (abi >= 6)
    handled = struct.pack(f"={len(rights)}Q", *rights)
    # Every handled right without a rule is forbidden, and there are no rules.
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return []
    failed = libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return [] if failed else [f"landlock {abi}"]


def filter_calls(threads: bool = False) -> list[str]:
    """Forbid this process all system calls except those that decoding needs.

    With `threads` it may start threads, which are held in the same way; never a process. Others
    fail with EPERM. Memory cannot be made executable, no limit can be set except on its own
    memory, and no signal sent except its own abort. Returns the name of what took effect, or
    nothing on an architecture that is not known here.
    """
    machine = _MACHINES.get(platform.machine())
    libc = _libc()
    if machine is None or sys.byteorder != "little" or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return []
    program = _program(*machine, os.getpid(), threads)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(held))
    number = ctypes.c_long(_SECCOMP[machine[1]])
    failed = libc.syscall(number, _SET_FILTER, _ALL_THREADS, head)
    return [] if failed else ["seccomp"]


def _program(machine: int, column: int, process: int, threads: bool = False) -> list[Instruction]:
    """Return the filter as BPF instructions: load, compare, return."""
    program = [(_LOAD, 0, 0, _MACHINE_AT), *_unless(_IS, machine), (_LOAD, 0, 0, _NUMBER_AT)]
    for numbers in _FREE.values():
        program += _rule(numbers[column], [])
    if threads:
        for numbers in _FOR_THREADS.values():
            program += _rule(numbers[column], [])
        program += _rule(_CLONE[column], _equal({0: _THREAD}))
        # Its flags lie in memory, where a filter cannot look: glibc then takes the older call.
        program += [(_IS, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _UNKNOWN)]
    not_executable = [(_LOAD, 0, 0, _argument(2)), (_HAS, 0, 1, _EXECUTABLE), _no()]
    for numbers in (_MMAP, _MPROTECT):
        program += _rule(numbers[column], not_executable)
    own_memory = _equal({0: _SELF, 1: _ADDRESS_SPACE})
    program += _rule(_PRLIMIT[column], own_memory)
    program += _rule(_TGKILL[column], _equal({0: process, 2: _ABORT}))
    return [*program, _no()]


def _rule(number: int, checks: list[Instruction]) -> list[Instruction]:
    """Allow this system call unless one of the checks denies it."""
    return [(_IS, 0, len(checks) + 1, number), *checks, (_RETURN, 0, 0, _ALLOWED)]


def _equal(wanted: dict[int, int]) -> list[Instruction]:
    """Deny unless these arguments, of 32 bits, have these values."""
    return [
        each
        for number, value in wanted.items()
        for each in ((_LOAD, 0, 0, _argument(number)), *_unless(_IS, value))
    ]


def _unless(comparison: int, value: int) -> Iterable[Instruction]:
    """Deny unless the loaded value compares as given."""
    return (comparison, 1, 0, value), _no()


def _no() -> Instruction:
    return (_RETURN, 0, 0, _DENIED)


def _argument(number: int) -> int:
    return _ARGUMENTS_AT + 8 * number


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
