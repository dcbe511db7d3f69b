"""The store: named files, created once, never changed. A local folder, or a prefix in S3.

Only four verbs matter to the rest of the project: read, put, create, exists. `put` publishes
a whole file under a name that nobody else uses (it carries the attempt's token); `create` is
the one conditional write, and every commit is made of it.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import CommitConflict, InputError, MissingFile, StoreError
from pipeline.store.address import is_s3, parse_s3
from schemas.files import FileRef

READ_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class StoredFile:
    """What a listing says of a file; `modified` is in seconds since 1970, by the store's clock."""

    path: str
    size_bytes: int
    modified: float


class Store(Protocol):
    """Named files in a folder or a bucket. Names are relative, with `/`, made by `layout`."""

    @property
    def url(self) -> str:
        """The place, in a form that `open_store` takes in any process."""
        ...

    def read(self, path: str) -> bytes:
        """Return a whole file. Raises MissingFile."""
        ...

    def put(self, path: str, source: Path) -> None:
        """Publish a finished local file, whole or not at all."""
        ...

    def create(self, path: str, data: bytes) -> None:
        """Create a small file that must not exist yet, durably. Raises CommitConflict."""
        ...

    def exists(self, path: str) -> bool:
        """Say whether a file is there."""
        ...

    def size_bytes(self, path: str) -> int:
        """Return a file's size. Raises MissingFile."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield a file piece by piece, as the store itself has it now. Raises MissingFile."""
        ...

    def local_path(
        self, path: str, reference: FileRef | None = None, *, afresh: bool = False
    ) -> Path:
        """Return a local path to map or stream the file from. Raises MissingFile.

        Args:
            reference: what the file must be, where known; a copy at hand is then found by it.
            afresh: a copy at hand is damaged and must not be used.
        """
        ...

    def discard(self, path: str) -> None:
        """Remove a file that nothing needs any more; one that is not there is no error."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Return the names of the files right under a folder, in byte order; [] if none."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right under a folder, in byte order; [] if none."""
        ...

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        """Yield every file under a folder, or of the whole store, in no order, as it is found.

        Writes that were cut short are among them where the store shows them; `discard` takes
        their names.
        """
        ...


CUT_SHORT = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""The name of a write that has not ended, or never will."""


def checked_name(path: str) -> str:
    """Return the path if it stays inside the store, else raise ValueError."""
    *folders, name = path.split("/")
    parts = folders if CUT_SHORT.fullmatch(name) else [*folders, name]
    hidden = any(part == "" or part.startswith(".") for part in parts)
    if hidden or "\0" in path or "\\" in path:
        raise ValueError(
            f"a stored name is relative, without empty parts or ones that start with a dot; "
            f"got {path!r}"
        )
    return path


class LocalStore:
    """A folder. Creation is a finished temporary file linked to its name, then fsync."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def _at(self, path: str) -> Path:
        return self.root / checked_name(path)

    def read(self, path: str) -> bytes:
        try:
            return self._at(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingFile(f"{path} is not in {self.url}") from None

    def put(self, path: str, source: Path) -> None:
        target = self._at(path)
        temporary = self._temporary(target)
        try:
            shutil.copyfile(source, temporary)
            _fsync(temporary)
            temporary.replace(target)
            _fsync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def create(self, path: str, data: bytes) -> None:
        target = self._at(path)
        temporary = self._temporary(target)
        try:
            temporary.write_bytes(data)
            _fsync(temporary)
            # link() fails where the name exists, on every file system: the atomic create-only.
            os.link(temporary, target)
            _fsync(target.parent)
        except FileExistsError:
            raise CommitConflict(f"{path} exists already in {self.url}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        return self._at(path).is_file()

    def size_bytes(self, path: str) -> int:
        return self.local_path(path).stat().st_size

    def chunks(self, path: str) -> Iterator[bytes]:
        with self.local_path(path).open("rb") as file:
            while data := file.read(READ_BYTES):
                yield data

    def local_path(
        self, path: str, reference: FileRef | None = None, *, afresh: bool = False
    ) -> Path:
        if not self.exists(path):
            raise MissingFile(f"{path} is not in {self.url}")
        return self._at(path)

    def discard(self, path: str) -> None:
        self._at(path).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        return sorted(entry.name for entry in self._under(prefix) if entry.is_file())

    def folders(self, prefix: str) -> list[str]:
        return sorted(entry.name for entry in self._under(prefix) if entry.is_dir())

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        for folder, _, names in os.walk(self._at(prefix) if prefix else self.root):
            for name in names:
                path = Path(folder, name)
                # Another process may have removed it since its folder was listed.
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    stored = path.relative_to(self.root).as_posix()
                    yield StoredFile(stored, facts.st_size, facts.st_mtime)

    def _under(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            entries = list(os.scandir(self._at(prefix)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [entry for entry in entries if not entry.name.startswith(".")]

    def _temporary(self, target: Path) -> Path:
        """Return a new hidden name beside the target, on the same file system."""
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.parent / f".{secrets.token_hex(8)}.tmp"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_store(url: str, *, create: bool = False) -> Store:
    """Open a store, checking once that it keeps the promise that commits stand on.

    Args:
        url: a local folder, or `s3://bucket/prefix`.
        create: make the folder where it is absent; a bucket is never made.

    Raises:
        InputError: there is no such store, or the address is of another kind.
        StoreError: it cannot be written, or a second create of one name does not fail there.
    """
    if is_s3(url):
        return _open_s3(url, create=create)
    if "://" in url:
        raise InputError(
            f"a store is a local folder or s3://bucket/prefix; got the scheme "
            f"{url.partition('://')[0]!r}"
        )
    root = Path(url).expanduser().resolve()
    if not root.is_dir():
        if root.exists():
            raise InputError(f"a store is a folder; {root} is a file: give another path")
        if not create:
            raise InputError(f"there is no store at {root}: make one with `lamella index`")
        root.mkdir(parents=True, exist_ok=True)
    store = LocalStore(root)
    if create:
        probe_create_only(store)
    return store


def _open_s3(url: str, *, create: bool) -> Store:
    from pipeline.store.s3_store import S3Store

    store = S3Store(parse_s3(url))
    store.check(create=create)
    if create:
        probe_create_only(store)
    return store


def probe_create_only(store: Store) -> None:
    """Check that a second create of one name fails; without that no commit is safe.

    Raises:
        StoreError: it does not fail, or the store cannot be written.
    """
    path = "probe/create-only"
    try:
        # The first of these may be refused because an earlier opening made the file.
        with contextlib.suppress(CommitConflict):
            store.create(path, b"lamella\n")
        try:
            store.create(path, b"lamella\n")
        except CommitConflict:
            return
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "an error")
        raise StoreError(
            f"{store.url} cannot be written ({name}): free space or change its permissions"
        ) from error
    raise StoreError(
        f"{store.url} lets a second writer replace a file (create-only is ignored): "
        "commits would not be safe there, choose another store"
    )
