"""Peak memory of this process and of the decoders that it started."""

import contextlib
import resource
from pathlib import Path


def own_peak() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def children_peak() -> int:
    """Return the summed peak memory in bytes of all running children; 0 if it is not known."""
    found = 0
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            for child in listed.read_text().split():
                lines = Path("/proc", child, "status").read_text().splitlines()
                found += int(next(x for x in lines if x.startswith("VmHWM:")).split()[1]) * 1024
    return found
