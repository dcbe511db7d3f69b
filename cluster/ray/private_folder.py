"""The folder of our own Ray: private to this user, with a short path, removed after use.

Ray opens its folders and sockets to all users, even an existing top folder. So all of them lie
inside a folder that only this user can enter.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamella.cluster.ray.starts import OR_SERIAL, NotStarted
from lamella.pipeline.private import way_is_open
from lamella.pipeline.scratch import locked_folder, remove, remove_left_overs

PREFIX = "lamella-ray-"

LONGEST_SOCKET_BYTES = 107
"""The longest path of a socket on Linux."""

INSIDE = "/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
"""The longest path of a socket that Ray makes in its folder."""

LONGEST_BYTES = LONGEST_SOCKET_BYTES - len(INSIDE) - len(f"/{PREFIX}12345678")
"""The longest path of a folder that can hold Ray's."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder for Ray inside the block, within one that only this user can enter.

    It is in the first suitable one of `RAY_TMPDIR`, `TMPDIR`, `/tmp`, `/var/tmp` and
    `XDG_RUNTIME_DIR`. Folders left there by ended processes of this user are removed.

    Raises:
        NotStarted: no folder is suitable.
    """
    parents = _usable_parents()
    for parent in parents:
        remove_left_overs(parent)
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
        raise NotStarted(
            "Ray needs a folder for its sockets that exists, can be written, has a path of at most "
            f"{LONGEST_BYTES} bytes, and cannot be replaced by other users ({'; '.join(reasons)})",
            f"name one by TMPDIR, {OR_SERIAL}",
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
            return locked_folder(PREFIX, parent)
    raise NotStarted(
        f"Ray's folder cannot be made in {', '.join(map(str, parents))}",
        f"free space there, name another folder by TMPDIR, {OR_SERIAL}",
    )
