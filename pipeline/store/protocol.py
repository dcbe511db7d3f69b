"""The interface of a store: named files that are created once and never changed.

Jobs use four methods: read, put, create, exists. `put` publishes a whole file under a name that
nobody else uses, because the attempt's token is in it. `create` is the only conditional write, and
every commit rests on it. `replace` is for upkeep, which mends damaged files atomically.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lamella.schemas.files import FileRef

READ_BYTES = 8 * 1024**2
"""Large files are read in pieces of this size."""

MOST_READ_BYTES = 256 * 1024**2
"""The most bytes of a file that is read whole, such as a record or a page. The snapshot of 400
million pictures in shards of 500 fits."""


@dataclass(frozen=True)
class StoredFile:
    """An entry of a listing.

    Attributes:
        modified: seconds since 1970 by the store's clock.
        problem: "" for a regular file; else what it is instead, such as a link.
    """

    path: str
    size_bytes: int
    modified: float
    problem: str = ""


class Store(Protocol):
    """Named files in a folder or a bucket. Names are relative paths with `/`, made by `tree`.

    Links are not followed: whatever is not a regular file raises NotAFile. A file that is missing
    raises MissingFile; one that cannot be looked at raises another error.
    """

    @property
    def url(self) -> str:
        """The folder or S3 address, as `open_store` takes it in any process."""
        ...

    def read(self, path: str) -> bytes:
        """Return a whole file.

        Raises:
            MissingFile: the file is not there.
            CorruptFile: it has more than `MOST_READ_BYTES`.
        """
        ...

    def put(self, path: str, source: Path) -> None:
        """Store a copy of a local file, whole or not at all."""
        ...

    def create(self, path: str, data: bytes) -> None:
        """Create a small file durably. Raises CommitConflict if there is one of this name."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file atomically and durably, replacing any of this name."""
        ...

    def exists(self, path: str) -> bool:
        """Say whether a file is there."""
        ...

    def size_bytes(self, path: str) -> int:
        """Return a file's size. Raises MissingFile."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield a file piece by piece from the store, not from a local copy. Raises MissingFile."""
        ...

    def local_path(
        self, path: str, reference: FileRef | None = None, *, afresh: bool = False
    ) -> Path:
        """Return a local path to map or read the file from. Raises MissingFile.

        Args:
            reference: size and SHA-256 that the file must have, if known; a local copy is then
                found without a request to the store.
            afresh: fetch the file again, because the local copy is damaged.
        """
        ...

    def discard(self, path: str) -> None:
        """Remove a file; it is no error if there is none."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Return the names of the files right in a folder, in byte order; [] if there are none."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right in a folder, in byte order; [] if there are none.

        The prefix "" is the store's root.
        """
        ...

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        """Yield every file below a folder, or of the whole store, in no order.

        That includes writes that were cut short, if the store shows them, and links and the like,
        with their `problem`.

        Raises:
            OSError: a folder cannot be listed, so files may be missing from what was yielded.
        """
        ...
