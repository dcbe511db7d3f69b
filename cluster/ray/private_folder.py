"""The folder of our own Ray: private to this user, with a short path, removed after use.

Ray opens its folders and sockets to all users, even an existing top folder. So all of them lie
inside a folder that only this user can enter.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.private import way_is_open

PREFIX = "lamella-ray-"
_NAME = re.compile(PREFIX + r"[a-z0-9_]{8}")

LONGEST_SOCKET_BYTES = 107
"""The longest path of a socket on Linux."""

INSIDE = "/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
"""The longest path of a socket that Ray makes in its folder."""

LONGEST_BYTES = LONGEST_SOCKET_BYTES - len(INSIDE) - len(f"/{PREFIX}12345678")
"""The longest path of a folder that can hold Ray's."""

LOCK = "lock"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder for Ray inside the block, within one that only this user can enter.

    It is in the first suitable one of `RAY_TMPDIR`, `TMPDIR`, `/tmp`, `/var/tmp` and
    `XDG_RUNTIME_DIR`. Folders left there by ended processes of this user are removed.

    Raises:
        InputError: no folder is suitable.
    """
    parents = _usable_parents()
    for parent in parents:
        _remove_left_overs(parent)
    folder, lock = _make(parents)
    try:
        yield folder / "r"
    finally:
        remove(folder)
        os.close(lock)


def _usable_parents() -> list[Path]:
    given = os.environ.get
    names = [given("RAY_TMPDIR"), given("TMPDIR"), "/tmp", "/var/tmp", given("XDG_RUNTIME_DIR")]
    found, reasons = [], []
    for parent in dict.fromkeys(Path(name).absolute() for name in names if name):
        reason = _why_not(parent)
        if reason is None:
            found.append(parent)
        reasons.append(f"{parent} {reason}")
    if not found:
        raise InputError(
            "Ray needs a folder for its sockets that exists, can be written, has a path of at most "
            f"{LONGEST_BYTES} bytes, and cannot be replaced by other users: {'; '.join(reasons)}. "
            "Name one by TMPDIR, or run with --engine serial"
        )
    return found


def _why_not(parent: Path) -> str | None:
    """Return why a folder cannot hold Ray's; None if it can."""
    length = len(os.fsencode(parent))
    if length > LONGEST_BYTES:
        return f"has {length} bytes"
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return "cannot be written"
    return "can be changed by other users" if way_is_open(parent / PREFIX) else None


def _make(parents: list[Path]) -> tuple[Path, int]:
    """Return a new folder, and its open lock file, which shows that this process lives."""
    for parent in parents:
        # No space left, or not writable after all: try the next one.
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            lock = os.open(folder / f"{LOCK}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Locked before it gets its name, or another process would take the folder for a
            # left-over.
            (folder / f"{LOCK}.new").rename(folder / LOCK)
            return folder, lock
    raise InputError(
        f"Ray's folder cannot be made in {', '.join(map(str, parents))}: free space there, name "
        "another folder by TMPDIR, or run with --engine serial"
    )


def _remove_left_overs(parent: Path) -> None:
    """Remove folders here whose process has ended, so that nobody holds their lock."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_left(Path(entry.path))


def _remove_if_left(folder: Path) -> None:
    facts = folder.lstat()
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) != 0o700:
        return
    with contextlib.suppress(OSError):
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
        finally:
            os.close(lock)


def remove(folder: Path) -> None:
    """Remove a folder of ours, its lock last; while Ray still writes, leave it to the next run."""
    with contextlib.suppress(OSError):
        for each in folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != LOCK:
                each.unlink()
        if [each.name for each in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
