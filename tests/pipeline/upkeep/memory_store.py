"""A store in memory with a clock of its own, for histories of days in a millisecond."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from lamella.pipeline.errors import CommitConflict, MissingFile
from lamella.pipeline.store.protocol import StoredFile
from lamella.schemas.files import FileRef


class MemoryStore:
    """Files in a dictionary; `now` is set by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.files: dict[str, tuple[bytes, float]] = {}

    @property
    def url(self) -> str:
        return "memory"

    def read(self, path: str) -> bytes:
        try:
            return self.files[path][0]
        except KeyError:
            raise MissingFile(f"{path} is not in memory") from None

    def put(self, path: str, source: Path) -> None:
        self.files[path] = (source.read_bytes(), self.now)

    def create(self, path: str, data: bytes) -> None:
        if path in self.files:
            raise CommitConflict(f"{path} exists already")
        self.files[path] = (data, self.now)

    def replace(self, path: str, data: bytes) -> None:
        self.files[path] = (data, self.now)

    def exists(self, path: str) -> bool:
        return path in self.files

    def size_bytes(self, path: str) -> int:
        return len(self.read(path))

    def chunks(self, path: str) -> Iterator[bytes]:
        yield self.read(path)

    def local_path(
        self, path: str, reference: FileRef | None = None, *, afresh: bool = False
    ) -> Path:
        copy = Path(tempfile.mkdtemp(), "file")
        copy.write_bytes(self.read(path))
        return copy

    def discard(self, path: str) -> None:
        self.files.pop(path, None)

    def names(self, prefix: str) -> list[str]:
        inside = [path[len(prefix) + 1 :] for path in self.files if path.startswith(f"{prefix}/")]
        return sorted(name for name in inside if "/" not in name)

    def folders(self, prefix: str) -> list[str]:
        under = f"{prefix}/" if prefix else ""
        inside = [path[len(under) :] for path in self.files if path.startswith(under)]
        return sorted({name.split("/")[0] for name in inside if "/" in name})

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        for path, (data, modified) in list(self.files.items()):
            if not prefix or path.startswith(f"{prefix}/"):
                yield StoredFile(path, len(data), modified)
