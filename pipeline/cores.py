"""The cores that this process may use, for its own threads and for those of libraries."""

import os
from pathlib import Path

from lamella.pipeline import cgroups

_OF_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""The variables that limit the threads of torch and faiss, and of numpy."""

_set_here: set[str] = set()


def available_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, at least 1.

    This is the number that it may run on (`taskset`, Slurm), or the quota of its control groups
    (`docker --cpus`, Kubernetes) if that is less.

    Args:
        root: the folder that holds `proc` and `sys`; another one is for tests.
    """
    cores, quota = len(os.sched_getaffinity(0)), cgroups.cpus(root)
    return cores if quota is None else min(cores, quota)


def cores_of_machine() -> int:
    """Return how many cores the machine has, whether this process may use them or not."""
    return os.cpu_count() or 1


def limit_libraries() -> None:
    """Give libraries that are not imported yet no more threads than there are cores.

    They see which cores a process may run on, but no quota, and would then spin against it. What
    the user has set stays.
    """
    cores = available_cores()
    if cores < len(os.sched_getaffinity(0)):
        for name in _OF_LIBRARIES:
            if name not in os.environ:
                os.environ[name] = str(cores)
                _set_here.add(name)


def leave_to_children() -> None:
    """Take back `limit_libraries` for processes started from now on: each has its own share."""
    while _set_here:
        os.environ.pop(_set_here.pop(), None)
