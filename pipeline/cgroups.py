"""What the control groups of this process still allow it: those of a container, Slurm or systemd.

A limit may lie on the process's own group or on any group above it. Both versions of the kernel's
interface are read: cgroup(7) says how their files are found.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy: which of its groups is at the top of which folder."""

    top: PurePosixPath
    folder: PurePosixPath
    is_v2: bool


def memory_left(root: Path = Path("/")) -> int | None:
    """Return how many bytes the groups of this process still allow; None if they set no limit.

    What counts as used leaves out cached files, as the kernel drops them when memory is wanted.

    Args:
        root: the folder that holds `proc` and `sys`; another one is for tests.
    """
    left = []
    for folder, is_v2 in _groups(root, "memory"):
        most = _least(folder, ("memory.max", "memory.high") if is_v2 else (_LIMIT_V1,))
        if most is None:
            continue
        used = _number(folder / ("memory.current" if is_v2 else "memory.usage_in_bytes")) or 0
        left.append(max(0, most - max(0, used - _cached_files(folder, is_v2))))
    return min(left, default=None)


def cpus(root: Path = Path("/")) -> int | None:
    """Return how many cores the groups of this process may keep busy; None if there is no quota.

    A part of a core counts as one: a thread too many is slowed down, one too few is lost.
    """
    quotas = []
    for folder, is_v2 in _groups(root, "cpu"):
        if is_v2:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        with contextlib.suppress(ValueError, ZeroDivisionError):
            if int(quota) > 0:  # version 1 says -1, version 2 "max"
                quotas.append(max(1, math.ceil(int(quota) / int(period))))
    return min(quotas, default=None)


_LIMIT_V1 = "memory.limit_in_bytes"


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of this process's group and of each one above, with its version."""
    mounts = _mounts(root, controller)
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        for mount in mounts:
            if mount.is_v2 != (controllers == ""):
                continue
            at = root / mount.folder.relative_to("/")
            below = _below(PurePosixPath(path), mount.top)
            yield at, mount.is_v2
            for part in below:
                at = at / part
                yield at, mount.is_v2


def _below(path: PurePosixPath, top: PurePosixPath) -> tuple[str, ...]:
    """Return the parts of a group's path below the top of its mount.

    A container may see the path that its group has outside: its own files are then at the top.
    """
    if ".." in path.parts or not path.is_relative_to(top):
        return ()
    return path.relative_to(top).parts


def _mounts(root: Path, controller: str) -> list[_Mount]:
    """Return where the hierarchies with this controller are mounted, as in proc(5)."""
    found = []
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, about = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(about) < 3:
            continue
        is_v2 = about[0] == "cgroup2"
        if is_v2 or (about[0] == "cgroup" and controller in about[2].split(",")):
            top, folder = (PurePosixPath(_unescaped(each)) for each in fields[3:5])
            if folder.is_absolute():
                found.append(_Mount(top, folder, is_v2))
    return found


def _cached_files(folder: Path, is_v2: bool) -> int:
    """Return the bytes of cached files that count as used by a group and those below it."""
    wanted = {"inactive_file", "active_file"}
    if not is_v2:  # the plain names are of the group alone there
        wanted = {f"total_{name}" for name in wanted}
    total = 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in wanted and value.isdecimal():
            total += int(value)
    return total


def _least(folder: Path, names: tuple[str, ...]) -> int | None:
    found = [number for name in names if (number := _number(folder / name)) is not None]
    return min((each for each in found if each < _NO_LIMIT), default=None)


_NO_LIMIT = 1 << 60
"""Version 1 writes about 2 ** 63 where there is no limit."""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
