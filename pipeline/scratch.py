"""Folders for files that live no longer than what makes them, in the folder that TMPDIR names.

Each holds a lock as long as its process lives, so that one that was left over, because the process
was killed, is known as such and removed by the next one that makes a folder beside it.
"""

import atexit
import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamella.pipeline.errors import DoesNotFit, InputError

PREFIX = "lamella-"
_NAME = re.compile(PREFIX + r".*[a-z0-9_]{8}")
_LOCK = "lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
_NEARLY_FULL_BYTES = 2**20

_ours: set[Path] = set()
"""The folders of this process; those of a parent process are not its children's."""

os.register_at_fork(after_in_child=_ours.clear)

_looked_at: set[tuple[int, Path]] = set()
"""Where this process, by its id, has removed what was left over."""


@contextmanager
def scratch(name: str, parent: Path | None = None) -> Iterator[Path]:
    """Make an empty folder inside the block.

    Args:
        name: a part of the folder's name, for people.
        parent: where to make it; by default in the folder that TMPDIR names.

    Raises:
        DoesNotFit: the disk that holds it became full.
        InputError: it cannot be made.
    """
    where = Path(_usual() if parent is None else parent)
    if (os.getpid(), where) not in _looked_at:
        _looked_at.add((os.getpid(), where))
        remove_left_overs(where)
    try:
        with _full_named(where):
            folder, lock = locked_folder(f"{PREFIX}{name}-", where, must_lock=False)
            (folder / "files").mkdir()
    except OSError as error:
        raise InputError(
            f"a folder for scratch files cannot be made in {where} ({error.strerror}): make it "
            "writable, or name another folder by TMPDIR"
        ) from error
    try:
        with _full_named(where):
            yield folder / "files"
    finally:
        remove(folder)
        os.close(lock)


def _usual() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise InputError(
            "no folder for scratch files can be written, of those that TMPDIR names and /tmp, "
            "/var/tmp: make one writable, or name one by TMPDIR"
        ) from None


@contextmanager
def _full_named(where: Path) -> Iterator[None]:
    """Say of an error of a full disk that it is the disk of scratch files, where it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or not _is_of(error, where):
            raise
        code = errno.errorcode[error.errno]
        raise DoesNotFit(
            f"{where}, the folder for scratch files, is full ({code}), and a task needs room there "
            "for the files of two shards: free space, or name another folder by TMPDIR"
        ) from error


def _is_of(error: OSError, where: Path) -> bool:
    """Say whether an error is about the disk of this folder; not all name a file."""
    if isinstance(error.filename, str):
        return Path(error.filename).is_relative_to(where)
    if error.errno == errno.ENOSPC:
        disk = os.statvfs(where)
        return disk.f_bavail * disk.f_frsize < _NEARLY_FULL_BYTES or not disk.f_favail
    return True


def locked_folder(prefix: str, parent: Path, *, must_lock: bool = True) -> tuple[Path, int]:
    """Return a new folder that only this user can enter, and its open lock file.

    Whoever holds the lock lives: close the file after removing the folder.

    Raises:
        OSError: it cannot be made, or not be locked although it must be.
    """
    folder = _new_folder(prefix, parent)
    try:
        lock = os.open(folder / f"{_LOCK}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(lock, "\n".join(_this_machine()).encode())
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Locked before it gets its name, or another process would take the folder for a
            # left-over.
            (folder / f"{_LOCK}.new").rename(folder / _LOCK)
        except OSError as error:
            if must_lock or error.errno in FULL:
                os.close(lock)
                raise
        return folder, lock
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _new_folder(prefix: str, parent: Path) -> Path:
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        _ours.add(folder)  # before it is there: a signal may end this process at any moment
        try:
            folder.mkdir(0o700)
            return folder
        except FileExistsError:
            _ours.discard(folder)
        except OSError:
            _ours.discard(folder)
            raise


@atexit.register
def remove_ours() -> None:
    """Remove the folders of this process.

    As it ends they are those that a signal left, that came while one was being made or removed.
    """
    for folder in list(_ours):
        remove(folder)


def remove_left_overs(parent: Path | None = None) -> None:
    """Remove folders whose process has ended, so that nobody holds their lock.

    Args:
        parent: where they are; by default the folder that TMPDIR names.
    """
    with contextlib.suppress(OSError), os.scandir(parent or tempfile.gettempdir()) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(folder: Path) -> None:
    facts = folder.lstat()
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) != 0o700:
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        # Some file systems that machines share keep locks on one machine each.
        if {*os.read(lock, 4096).decode(errors="replace").split("\n")} & {*_this_machine()}:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
    finally:
        os.close(lock)


def _this_machine() -> tuple[str, str]:
    """Return the name of this machine, and that of its boot, which its containers share."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    name = f"host {os.uname().nodename}"
    return name, f"boot {boot}" if boot else name


def remove(folder: Path) -> None:
    """Remove a folder of ours, its lock last; while something still writes, leave it for later."""
    with contextlib.suppress(OSError):
        for each in folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != _LOCK:
                each.unlink()
        if [each.name for each in folder.iterdir()] in ([_LOCK], []):
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()
            _ours.discard(folder)
