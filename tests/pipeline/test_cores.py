"""How many cores this process may use, and the threads of libraries that see no quota."""

import os
import re
from pathlib import Path

import pytest

from lamella.pipeline import cgroups, compiled
from lamella.pipeline.cores import available_cores, leave_to_children, limit_libraries
from lamella.pipeline.run.serial import SerialRunner

OURS = len(os.sched_getaffinity(0))


def test_a_quota_counts_only_where_it_is_less_than_the_cores(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == OURS
    for quota, expected in ((100_000, 1), (100_000 * (OURS + 1), OURS)):
        for name, text in (
            ("proc/self/cgroup", "0::/job\n"),
            ("proc/self/mountinfo", "33 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/job/cpu.max", f"{quota} 100000\n"),
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        assert available_cores(tmp_path) == expected


def test_libraries_are_limited_under_a_quota_alone_and_children_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.setattr(cgroups, "cpus", lambda root: None)
    limit_libraries()
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setattr(cgroups, "cpus", lambda root: 2)
    assert SerialRunner().threads == 2
    limit_libraries()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    leave_to_children()
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"


def test_numba_is_told_of_the_quota_as_it_is_imported_and_children_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "available_cores", lambda: 3)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    with compiled._as_many_threads_as_cores():
        assert os.environ["NUMBA_NUM_THREADS"] == "3"
    assert "NUMBA_NUM_THREADS" not in os.environ
    monkeypatch.setenv("NUMBA_NUM_THREADS", "5")
    with compiled._as_many_threads_as_cores():
        assert os.environ["NUMBA_NUM_THREADS"] == "5"
    assert os.environ["NUMBA_NUM_THREADS"] == "5"


def test_nothing_else_asks_the_system_for_cores_or_memory() -> None:
    wrong = re.compile(r"cpu_count|sched_getaffinity|SC_PHYS_PAGES|MemAvailable|virtual_memory")
    root = Path(__file__).parents[2]
    found = {
        str(path.relative_to(root))
        for part in ("pipeline", "cluster")
        for path in root.joinpath(part).rglob("*.py")
        if wrong.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"pipeline/cores.py", "pipeline/memory.py"}
