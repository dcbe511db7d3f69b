"""What a store can do: named files, created once, never changed.

Four verbs carry the project: read, put, create, exists. `put` publishes a whole file under a name
that nobody else uses (it carries the attempt's token); `create` is the one conditional write, and
every commit is made of it. `replace` is for upkeep alone: it mends what is damaged in one step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lamella.schemas.files import FileRef

READ_BYTES = 8 * 1024**2
"""What is read of a large file at a time."""

MOST_READ_BYTES = 256 * 1024**2
"""A file that is read whole, as records and pages are, has at most so many bytes: the snapshot of
400 million pictures in shards of 500."""


@dataclass(frozen=True)
class StoredFile:
    """What a listing says of a file; `modified` is in seconds since 1970, by the store's clock.

    `problem` says what it is where it is no regular file, such as a link; it is then not followed.
    """

    path: str
    size_bytes: int
    modified: float
    problem: str = ""


class Store(Protocol):
    """Named files in a folder or a bucket. Names are relative, with `/`, made by `tree`.

    Only regular files count, and no link is followed: what is something else raises NotAFile.
    A name that is not there is told apart from one that cannot be looked at, which raises.
    """

    @property
    def url(self) -> str:
        """The place, in a form that `open_store` takes in any process."""
        ...

    def read(self, path: str) -> bytes:
        """Return a whole file.

        Raises:
            MissingFile: it is not there.
            CorruptFile: it has more than `MOST_READ_BYTES`.
        """
        ...

    def put(self, path: str, source: Path) -> None:
        """Publish a finished local file, whole or not at all."""
        ...

    def create(self, path: str, data: bytes) -> None:
        """Create a small file that must not exist yet, durably. Raises CommitConflict."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Put a small file in the place of another, if there is one, in one step and durably."""
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
        """Return the names of the folders right under a folder, in byte order; [] if none.

        The prefix "" is the store itself.
        """
        ...

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        """Yield every file under a folder, or of the whole store, in no order, as it is found.

        Writes that were cut short are among them where the store shows them; `discard` takes
        their names. What is no regular file is among them too, with its `problem`.

        Raises:
            OSError: a folder cannot be listed. What was yielded is then not all there is.
        """
        ...
