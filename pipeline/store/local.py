"""A store in a local folder. It follows no link below its root, to read, write or delete.

Each path is opened folder by folder from the root, relative to the folder that is open and without
following links. So nobody who can write to the store can lead us out of it.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from lamella.pipeline.errors import CommitConflict, CorruptFile, MissingFile, NotAFile, StoreError
from lamella.pipeline.store.form import checked_name
from lamella.pipeline.store.protocol import MOST_READ_BYTES, READ_BYTES, StoredFile
from lamella.pipeline.store.tree import read
from lamella.schemas.files import FileRef

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Errors of file systems that have no hard links: a file was just written to the same folder, so
# rights are not missing.
_NO_LINKS = (
    *(errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK),
    *(errno.EACCES, errno.EINVAL, errno.EXDEV),
)

_Publish = Callable[..., None]


class LocalStore:
    """A store in a folder. To create a file it links a finished temporary file to its name.

    Files and folders are flushed to the disk (fsync).

    Args:
        root: the folder. If it is a link, it is followed: the user gave it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def read(self, path: str) -> bytes:
        with self._opened(path) as (descriptor, size_bytes):
            if size_bytes > MOST_READ_BYTES:
                raise CorruptFile(
                    f"{path} has {size_bytes:,} bytes, no record or page has more than "
                    f"{MOST_READ_BYTES:,}: Lamella did not write it, move it away"
                )
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(size_bytes)

    def put(self, path: str, source: Path) -> None:
        with source.open("rb") as original, self._new_file(path) as (file, publish):
            shutil.copyfileobj(original, file, READ_BYTES)
            publish(os.replace)

    def create(self, path: str, data: bytes) -> None:
        def link(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
            try:
                # link() fails if the name exists, on every file system: an atomic create-only.
                os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            except FileExistsError:
                raise CommitConflict(f"{path} exists already in {self.url}") from None
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise self._no_hard_links(error.errno) from None
                raise

        with self._new_file(path) as (file, publish):
            file.write(data)
            publish(link)

    def replace(self, path: str, data: bytes) -> None:
        with self._new_file(path) as (file, publish):
            file.write(data)
            publish(os.replace)

    def exists(self, path: str) -> bool:
        try:
            self.size_bytes(path)
        except MissingFile:
            return False
        return True

    def size_bytes(self, path: str) -> int:
        with self._folder_of(path) as (folder, name):
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            self._check_regular(path, facts)
            return facts.st_size

    def chunks(self, path: str) -> Iterator[bytes]:
        with (
            self._opened(path) as (descriptor, _),
            open(descriptor, "rb", closefd=False, buffering=0) as file,
        ):
            while data := file.read(READ_BYTES):
                yield data

    def local_path(
        self, path: str, reference: FileRef | None = None, *, afresh: bool = False
    ) -> Path:
        self.size_bytes(path)
        return self.root / path

    def discard(self, path: str) -> None:
        with contextlib.suppress(MissingFile), self._folder_of(path) as (folder, name):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                raise self._not_a_file(path, mode)
            os.unlink(name, dir_fd=folder)

    def names(self, prefix: str) -> list[str]:
        return [name for name, mode in self._listed(prefix) if stat.S_ISREG(mode)]

    def folders(self, prefix: str) -> list[str]:
        return [name for name, mode in self._listed(prefix) if stat.S_ISDIR(mode)]

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        with ExitStack() as stack:
            try:
                with self._explained(prefix or "."):
                    folder = stack.enter_context(self._folder(_parts(prefix)))
            except MissingFile:
                if prefix:
                    return
                raise
            yield from self._walk(folder, f"{prefix}/" if prefix else "")

    def _walk(self, folder: int, under: str) -> Iterator[StoredFile]:
        for name, facts in self._entries(folder, under):
            path, is_folder = under + name, stat.S_ISDIR(facts.st_mode)
            if not is_folder or read(path) is not None:
                problem = "" if stat.S_ISREG(facts.st_mode) else f"is {_what(facts.st_mode)}"
                yield StoredFile(path, facts.st_size, facts.st_mtime, problem)
            if not is_folder:
                continue
            try:
                with self._explained(path):
                    deeper = os.open(name, _FOLDER, dir_fd=folder)
            except MissingFile:
                continue  # removed since its folder was listed
            try:
                yield from self._walk(deeper, f"{path}/")
            finally:
                os.close(deeper)

    def _listed(self, prefix: str) -> list[tuple[str, int]]:
        """Return names and modes of what is right in a folder, without hidden names."""
        try:
            with self._explained(prefix or "."), self._folder(_parts(prefix)) as folder:
                found = list(self._entries(folder, f"{prefix}/" if prefix else ""))
        except MissingFile:
            return []
        shown = ((name, facts.st_mode) for name, facts in found if not name.startswith("."))
        return sorted(shown, key=lambda each: os.fsencode(each[0]))

    def _entries(self, folder: int, under: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield name and `stat` of what is in an open folder, without following links."""
        with self._explained(under.removesuffix("/") or "."):
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                names = os.listdir(descriptor)
            finally:
                os.close(descriptor)
        for name in names:
            try:
                with self._explained(under + name):
                    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except MissingFile:
                continue  # removed since the folder was listed
            yield name, facts

    @contextmanager
    def _folder(self, parts: list[str], *, create: bool = False) -> Iterator[int]:
        """Open a folder below the root, one part of its path after the other."""
        descriptor = os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                deeper = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _folder_of(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder of a file; yield it with the last part of the file's path."""
        *folders, name = checked_name(path).split("/")
        with self._explained(path), self._folder(folders, create=create) as descriptor:
            yield descriptor, name

    @contextmanager
    def _opened(self, path: str) -> Iterator[tuple[int, int]]:
        """Open a file for reading; yield its descriptor and its size in bytes."""
        with self._folder_of(path) as (folder, name):
            descriptor = os.open(name, _FILE, dir_fd=folder)
            try:
                facts = os.fstat(descriptor)
                self._check_regular(path, facts)
                yield descriptor, facts.st_size
            finally:
                os.close(descriptor)

    @contextmanager
    def _new_file(self, path: str) -> Iterator[tuple[BinaryIO, Callable[[_Publish], None]]]:
        """Open a temporary file in the folder of `path`; yield it and a function that publishes it.

        The function takes os.link or os.replace, which gives the file its name. It flushes the
        file before that and the folder after. A temporary file that is left over is removed.
        """
        with self._folder_of(path, create=True) as (folder, name):
            with contextlib.suppress(FileNotFoundError):
                self._check_regular(path, os.stat(name, dir_fd=folder, follow_symlinks=False))
            hidden = f".{secrets.token_hex(8)}.tmp"
            try:
                with open(os.open(hidden, _NEW_FILE, 0o666, dir_fd=folder), "wb") as file:

                    def publish(give: _Publish) -> None:
                        file.flush()
                        _fsync(file.fileno())
                        give(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
                        _fsync_folder(folder)

                    yield file, publish
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(hidden, dir_fd=folder)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Give errors of the system the whole path, and name links, folders and pipes as such."""
        try:
            yield
        except FileNotFoundError:
            raise MissingFile(f"{path} is not in {self.url}") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
                raise self._not_a_file(*self._odd_part(path)) from None
            raise OSError(error.errno, error.strerror, str(self.root / path)) from None

    def _odd_part(self, path: str) -> tuple[str, int]:
        """Return the first part of a path that is not a folder, and its mode."""
        parts = path.split("/")
        for number in range(1, len(parts) + 1):
            part = "/".join(parts[:number])
            mode = os.lstat(self.root / part).st_mode
            if not stat.S_ISDIR(mode):
                break
        return part, mode

    def _check_regular(self, path: str, facts: os.stat_result) -> None:
        if not stat.S_ISREG(facts.st_mode):
            raise self._not_a_file(path, facts.st_mode)

    def _not_a_file(self, path: str, mode: int) -> NotAFile:
        return NotAFile(
            f"{path} in {self.url} is {_what(mode)}: a store holds regular files in folders of its "
            "own, and no link in it is followed; put the file or folder itself there, or move this "
            "away"
        )

    def _no_hard_links(self, code: int | None) -> StoreError:
        return StoreError(
            f"{self.url} lies on a file system without hard links ({errno.errorcode[code or 0]}), "
            "and commits are made of them: put the store on another file system, such as ext4, "
            "xfs, btrfs or NFS, or into S3"
        )


def _parts(prefix: str) -> list[str]:
    return checked_name(prefix).split("/") if prefix else []


def _what(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFDIR: "a folder",
        stat.S_IFREG: "a file where a folder belongs",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _fsync_folder(folder: int) -> None:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync(descriptor: int) -> None:
    os.fsync(descriptor)
