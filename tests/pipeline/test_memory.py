"""What memory there is: what the system says, or less where something limits it."""

import os
import resource
from pathlib import Path

import pytest

from lamella.pipeline.memory import available_memory

TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
FREE = "MemTotal: 9 kB\nMemAvailable:  2048 kB\n"
GROUP = {
    "proc/self/cgroup": "0::/job/step\n",
    "proc/self/mountinfo": "33 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/job/memory.max": "1000000\n",
}


def test_it_is_what_is_free_here() -> None:
    assert 0 < available_memory() <= TOTAL


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": FREE}, 2048 * 1024),
        ({"proc/meminfo": FREE, **GROUP}, 1_000_000),
        ({"proc/meminfo": "MemTotal: 9 kB\n", **GROUP}, 1_000_000),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: ? kB\n"}, TOTAL),
        ({}, TOTAL),
    ],
    ids=["no limit", "a limit", "nothing said of what is free", "nonsense", "nothing said"],
)
def test_the_least_that_anything_says_holds(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (-1, -1))
    _plant(tmp_path, files)
    assert available_memory(tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "used"), [(resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")]
)
def test_a_limit_of_the_shell_holds_less_what_is_used_of_it(
    limit: int, used: str, tmp_path: Path
) -> None:
    # 64 TiB is more than any test process has mapped, so it stops nothing.
    before, most = resource.getrlimit(limit), 64 << 40
    _plant(tmp_path, {"proc/self/status": f"Name:\tx\n{used}:\t{(most >> 10) - 1} kB\n"})
    resource.setrlimit(limit, (most, before[1]))
    try:
        assert available_memory(tmp_path) == 1024
    finally:
        resource.setrlimit(limit, before)


def _plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
