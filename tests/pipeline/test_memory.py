"""What memory there is: what the system says, or less where a container is bounded."""

import os
from pathlib import Path

import pytest

from lamella.pipeline import memory

TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_it_is_what_is_free_here() -> None:
    assert 0 < memory.available_memory() <= TOTAL


@pytest.mark.parametrize(
    ("info", "limit", "expected"),
    [
        ("MemTotal: 9 kB\nMemAvailable:  2048 kB\n", "max\n", 2048 * 1024),
        ("MemTotal: 9 kB\nMemAvailable:  2048 kB\n", "1000000\n", 1_000_000),
        ("MemTotal: 9 kB\n", "1000000\n", 1_000_000),
        ("MemTotal: 9 kB\n", None, TOTAL),
    ],
    ids=["no bound", "a bound", "nothing said of what is free", "nothing said"],
)
def test_the_least_that_anything_says_holds(
    info: str, limit: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text(info)
    if limit is not None:
        (tmp_path / "max").write_text(limit)
    monkeypatch.setattr(memory, "MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "max",))
    assert memory.available_memory() == expected
