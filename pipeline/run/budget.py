"""How much memory there is to work with on this machine, and whether what is planned fits."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import InputError

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
PROCESS_BYTES = 400 << 20
"""Interpreter, libraries and Ray's share of a worker."""

MEMORY_INFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Return the bytes of memory that this process may still take.

    What the system calls available, and no more than a container's limit; where neither is told,
    all memory of the machine.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [total]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = MEMORY_INFO.read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    for limit in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(limit.read_text()))
    return min(found)


def check_memory(needed: Mapping[str, int], available: int, what: str, cure: str) -> None:
    """Refuse what cannot fit.

    Args:
        needed: bytes by what holds them.
        available: bytes that a worker has.
        what: is to be made, in words that end with `take` or `takes`.
        cure: what to do about it, beside using fewer workers.

    Raises:
        InputError: a worker has less than is needed.
    """
    total = sum(needed.values())
    if total > available:
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in needed.items())
        raise InputError(
            f"{what} {total / 2**30:.2f} GiB a worker ({parts}), and a worker has "
            f"{available / 2**30:.2f}: {cure}, or fewer workers on a machine (--workers)"
        )
