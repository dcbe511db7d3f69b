"""Limits of control groups, in planted trees of /proc and /sys, and in a real group as root."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lamella.pipeline.cgroups import cpus, memory_left

V1 = "31 30 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
V1_CPU = "32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "33 30 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
NONE = "9223372036854771712\n"
GIB = 2**30


def machine(root: Path, groups: str, mounts: str, files: Mapping[str, object]) -> Path:
    """Plant what the kernel shows of the groups of a process."""
    shown = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}
    for name, text in shown.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}")
    return root


def test_slurm_s_limit_on_the_job_holds_for_its_steps(tmp_path: Path) -> None:
    memory = "sys/fs/cgroup/memory"
    root = machine(
        tmp_path,
        "9:cpuset:/\n4:memory:/slurm/uid_1000/job_7/step_0/task_0\n0::/system.slice\n",
        V1,
        {
            f"{memory}/memory.limit_in_bytes": NONE,
            f"{memory}/slurm/uid_1000/job_7/memory.limit_in_bytes": 2 * GIB,
            f"{memory}/slurm/uid_1000/job_7/memory.usage_in_bytes": GIB,
            f"{memory}/slurm/uid_1000/job_7/memory.stat": (
                f"inactive_file 0\nactive_file 0\ntotal_inactive_file {GIB // 4}\n"
                f"total_active_file {GIB // 8}\ntotal_rss 7\n"
            ),
            f"{memory}/slurm/uid_1000/job_7/step_0/memory.limit_in_bytes": NONE,
            f"{memory}/slurm/uid_1000/job_7/step_0/task_0/memory.limit_in_bytes": 4 * GIB,
            f"{memory}/slurm/uid_1000/job_7/step_0/task_0/memory.usage_in_bytes": GIB,
        },
    )
    # 2 GiB less the 5/8 GiB that are used and are no cached files; the task itself has 3 GiB left.
    assert memory_left(root) == 2 * GIB - GIB + GIB // 4 + GIB // 8


def test_systemd_s_limit_on_a_service_or_a_slice_above_it_holds(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/user.slice/memory.max": "max",
        "sys/fs/cgroup/user.slice/user-7.slice/memory.max": 3 * GIB,
        "sys/fs/cgroup/user.slice/user-7.slice/memory.current": GIB,
        "sys/fs/cgroup/user.slice/user-7.slice/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
        "sys/fs/cgroup/user.slice/user-7.slice/run-1.scope/memory.max": "max",
    }
    group = "0::/user.slice/user-7.slice/run-1.scope\n"
    root = machine(tmp_path, group, V2, files)
    assert memory_left(root) == 3 * GIB - GIB // 2
    (root / "sys/fs/cgroup/user.slice/user-7.slice/run-1.scope/memory.high").write_text(f"{GIB}")
    assert memory_left(root) == GIB


def test_a_container_that_sees_the_path_of_its_group_outside_has_the_limit_at_the_top(
    tmp_path: Path,
) -> None:
    mount = "31 30 0:28 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    limit = {"sys/fs/cgroup/memory/memory.limit_in_bytes": GIB}
    assert memory_left(machine(tmp_path / "same", "4:memory:/docker/ab\n", mount, limit)) == GIB
    inner = {"sys/fs/cgroup/memory/in/memory.limit_in_bytes": GIB // 2} | limit
    root = machine(tmp_path / "below", "4:memory:/docker/ab/in\n", mount, inner)
    assert memory_left(root) == GIB // 2
    for number, path in enumerate(("/kubepods/pod1/ab", "/../../ab")):
        root = machine(tmp_path / str(number), f"4:memory:{path}\n", mount, limit)
        assert memory_left(root) == GIB


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/a/memory.max": 5, "sys/fs/cgroup/a/memory.current": 6}
    assert memory_left(machine(tmp_path, "0::/a\n", V2, files)) == 0


def test_a_mount_point_with_a_space_in_its_path_is_found(tmp_path: Path) -> None:
    mount = "33 30 0:30 / /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n"
    root = machine(tmp_path, "0::/a\n", mount, {"sys/fs/my groups/a/memory.max": 5})
    assert memory_left(root) == 5


@pytest.mark.parametrize(
    ("groups", "mounts", "files"),
    [
        (
            "0::/a\n",
            V2,
            {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/cpu.max": "max 9"},
        ),
        ("4:memory:/a\n", V1, {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": NONE}),
        ("4:cpu,cpuacct:/\n", V1_CPU, {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1"}),
        ("0::/gone\n", V2, {}),
        ("nonsense\n", "nonsense\n1 2 3 4 relative - cgroup2 x y\n", {}),
    ],
    ids=["version 2", "version 1", "no quota", "no files", "no sense"],
)
def test_no_limit_is_none(
    groups: str, mounts: str, files: Mapping[str, object], tmp_path: Path
) -> None:
    root = machine(tmp_path, groups, mounts, files)
    assert memory_left(root) is None
    assert cpus(root) is None
    assert memory_left(tmp_path / "no such folder") is None


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 3)],
)
def test_the_least_quota_of_all_levels_holds_and_a_part_of_a_core_is_one(
    quota: str, cores: int, tmp_path: Path
) -> None:
    files: dict[str, object] = {
        "sys/fs/cgroup/a/cpu.max": "300000 100000",
        "sys/fs/cgroup/a/b/cpu.max": quota,
    }
    assert cpus(machine(tmp_path / "2", "0::/a/b\n", V2, files)) == cores
    folder, number = "sys/fs/cgroup/cpu,cpuacct/a", quota.split()[0].replace("max", "-1")
    files = {
        f"{folder}/cpu.cfs_quota_us": 300_000,
        f"{folder}/cpu.cfs_period_us": 100_000,
        f"{folder}/b/cpu.cfs_quota_us": number,
        f"{folder}/b/cpu.cfs_period_us": 100_000,
    }
    assert cpus(machine(tmp_path / "1", "2:cpu,cpuacct:/a/b\n", V1_CPU, files)) == cores


def test_a_real_group_is_read(tmp_path: Path) -> None:
    top = Path("/sys/fs/cgroup/memory")
    limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
    if not (top / limit).exists():
        top, limit, used = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
    group = top / f"lamella-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(f"{GIB}")
    except OSError:
        if group.exists():
            group.rmdir()
        pytest.skip("this user can make no group with a limit on memory here")
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); "
        "from lamella.pipeline.memory import available_memory; print(available_memory())"
    )
    command = [sys.executable, "-c", code, str(group / "cgroup.procs")]
    try:
        said = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    finally:
        while (group / used).exists():
            try:
                group.rmdir()
            except OSError:  # the process is on its way out
                continue
    assert GIB // 2 < int(said.stdout) < GIB
