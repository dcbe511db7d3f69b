"""Local copies of files in S3, so that each is fetched once and can be memory-mapped.

Any number of processes may share the folder: a copy is written under a temporary name and renamed,
and a copy that is removed stays readable for processes that have it open.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lamella.pipeline.errors import StoreError
from lamella.pipeline.store.form import CUT_SHORT

GRACE_S = 30.0
"""A copy that was used within this time is not removed: its user may be about to open it."""

DEAD_S = 24 * 3600.0
"""After this time the writer of an unfinished copy counts as dead."""


class Cache:
    """A folder of copies with a limit of its size; the least recently used are removed first."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    @classmethod
    def standard(cls) -> "Cache":
        """Return the cache that LAMELLA_CACHE and LAMELLA_CACHE_GB name in the environment.

        Raises:
            StoreError: the size is not a number.
        """
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get("LAMELLA_CACHE") or Path(base, "lamella"))
        text = os.environ.get("LAMELLA_CACHE_GB", "20")
        try:
            return cls(folder.expanduser().absolute(), int(float(text) * 1e9))
        except ValueError:
            raise StoreError(
                f"LAMELLA_CACHE_GB is a number of gigabytes; got {text!r}: correct it"
            ) from None

    @staticmethod
    def name(*facts: object) -> str:
        """Return a name for a copy whose SHA-256 is not known, from facts that identify it."""
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def get(self, name: str, size_bytes: int, fetch: Callable[[Path], None]) -> Path:
        """Return the path of a copy; fetch it first if it is not there or has another size.

        Args:
            name: the SHA-256 of the content, or what `name` returns.
            fetch: writes the content to a path at which there is no file yet.

        Raises:
            StoreError: the folder cannot be written, or all users can write it; also what `fetch`
                raises.
        """
        path = self._at(name)
        self._check_private()
        with contextlib.suppress(OSError):
            if path.stat().st_size == size_bytes:
                os.utime(path)
                return path
        temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            self._make_room(size_bytes)
            fetch(temporary)
            temporary.replace(path)
        except OSError as error:
            raise StoreError(
                f"the cache {self.folder} cannot take {size_bytes:,} bytes ({error.strerror}): "
                "free space there, or name another folder by LAMELLA_CACHE"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return path

    def drop(self, name: str) -> None:
        """Remove a copy that is damaged."""
        self._at(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all copies, of whatever store. A process that has one open can go on reading."""
        if self.folder.is_dir():
            with (self.folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for _, _, path in list(self._copies()):
                    path.unlink(missing_ok=True)

    def _check_private(self) -> None:
        """Refuse a folder in which any user could change a copy between its check and its use."""
        with contextlib.suppress(OSError):  # not there yet, or `get` will say what is wrong
            mode = stat.S_IMODE(self.folder.stat().st_mode)
            if mode & stat.S_IWOTH:
                raise StoreError(
                    f"the cache {self.folder} must not be writable by all users, and has mode "
                    f"{mode:o}: run chmod o-w on it, or name another folder by LAMELLA_CACHE"
                )

    def _at(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _make_room(self, size_bytes: int) -> None:
        """Remove the least recently used copies until this much more fits under the limit."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            copies = sorted(self._copies())
            held = sum(size for _, size, _ in copies)
            # Leave a tenth of the free space to others, whatever the limit says.
            free = shutil.disk_usage(self.folder).free * 9 // 10
            limit, total = min(self.limit_bytes, held + free), held + size_bytes
            now = time.time()
            for used, size, path in copies:
                if total <= limit:
                    return
                if now - used > (DEAD_S if path.suffix == ".tmp" else GRACE_S):
                    path.unlink(missing_ok=True)
                    total -= size

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of last use, the size and the path of each copy; skip other files."""
        for folder in self.folder.iterdir():
            if not _FOLDER.fullmatch(folder.name) or folder.is_symlink():
                continue
            for path in folder.iterdir():
                if _COPY.fullmatch(path.name) or CUT_SHORT.fullmatch(path.name):
                    with contextlib.suppress(FileNotFoundError):
                        facts = path.lstat()
                        yield facts.st_mtime, facts.st_size, path


_FOLDER = re.compile("[0-9a-f]{2}")
_COPY = re.compile("[0-9a-f]{64}")
