"""The memory that this process may use: the least that anything on the machine says."""

import contextlib
import os
import resource
from pathlib import Path

from lamella.pipeline import cgroups

_ROOT = Path("/")


def available_memory(root: Path = _ROOT) -> int:
    """Return the bytes of memory that this process may still use.

    This is the least of what the system calls available, what is left under the limits of all
    control groups of the process (a container's, a scheduler's), and what is left under
    `ulimit -v` and `ulimit -d`. If nothing is known, it is all memory of the machine.

    Args:
        root: the folder that holds `proc` and `sys`; another one is for tests.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    known = _sizes(root / "proc/meminfo")
    if "MemAvailable" in known:
        found.append(known["MemAvailable"])
    own = _sizes(root / "proc/self/status")
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            found.append(max(0, most - own.get(used, 0)))
    left = cgroups.memory_left(root)
    return min(found if left is None else [*found, left])


def _sizes(path: Path) -> dict[str, int]:
    """Return the sizes in a file of /proc in bytes, by name; empty if it cannot be read."""
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                with contextlib.suppress(ValueError):
                    found[name] = int(value.removesuffix("kB")) * 1024
    return found
