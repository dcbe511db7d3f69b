"""A store in S3: a prefix of a bucket. Each create is one conditional request."""

from collections.abc import Iterator
from pathlib import Path

from lamella.pipeline.errors import CommitConflict, CorruptFile, MissingFile
from lamella.pipeline.store.address import S3Address
from lamella.pipeline.store.cache import Cache
from lamella.pipeline.store.form import checked_name
from lamella.pipeline.store.protocol import MOST_READ_BYTES, READ_BYTES, StoredFile
from lamella.pipeline.store.s3 import Facts, TooLong, client
from lamella.schemas.files import FileRef


class S3Store:
    """A store under a prefix of a bucket. Files are fetched into the local cache to be mapped."""

    def __init__(self, address: S3Address) -> None:
        self._address = address
        self._bucket = address.bucket
        self._client = client()
        self._cache = Cache.standard()

    @property
    def url(self) -> str:
        return self._address.url

    def _key(self, path: str) -> str:
        return self._address.key(checked_name(path))

    def read(self, path: str) -> bytes:
        try:
            return self._client.get(self._bucket, self._key(path), at_most=MOST_READ_BYTES)
        except MissingFile:
            raise self._missing(path) from None
        except TooLong as error:
            raise CorruptFile(
                f"{path} has {error.size_bytes:,} bytes, no record or page has more than "
                f"{MOST_READ_BYTES:,}: Lamella did not write it, move it away"
            ) from None

    def put(self, path: str, source: Path) -> None:
        self._client.put_file(self._bucket, self._key(path), source)

    def create(self, path: str, data: bytes) -> None:
        try:
            self._client.create(self._bucket, self._key(path), data)
        except CommitConflict:
            raise CommitConflict(f"{path} exists already in {self.url}") from None

    def replace(self, path: str, data: bytes) -> None:
        self._client.put(self._bucket, self._key(path), data)

    def exists(self, path: str) -> bool:
        return self._client.head(self._bucket, self._key(path)) is not None

    def size_bytes(self, path: str) -> int:
        return self._facts(path).size_bytes

    def chunks(self, path: str) -> Iterator[bytes]:
        facts = self._facts(path)
        for start in range(0, facts.size_bytes, READ_BYTES):
            stop = min(start + READ_BYTES, facts.size_bytes)
            data = self._client.get(self._bucket, facts.key, start, stop)
            if len(data) != stop - start:
                raise self._missing(path)
            yield data

    def local_path(
        self, path: str, reference: FileRef | None = None, *, afresh: bool = False
    ) -> Path:
        key = self._key(path)
        if reference is not None:
            name, size_bytes = reference.sha256, reference.size_bytes
        else:
            facts = self._facts(path)
            size_bytes = facts.size_bytes
            name = self._cache.name(f"{self.url}/{path}", facts.etag, size_bytes)

        def fetch(target: Path) -> None:
            self._client.get_file(self._bucket, key, target, size_bytes)

        if afresh:
            self._cache.drop(name)
        return self._cache.get(name, size_bytes, fetch)

    def discard(self, path: str) -> None:
        self._client.remove(self._bucket, self._key(path))

    def names(self, prefix: str) -> list[str]:
        under = self._under(prefix)
        pages = self._client.pages(self._bucket, under, deep=False)
        found = (each.key.removeprefix(under) for page in pages for each in page.files)
        return sorted((name for name in found if not name.startswith(".")), key=str.encode)

    def folders(self, prefix: str) -> list[str]:
        under = self._under(prefix)
        pages = self._client.pages(self._bucket, under, deep=False)
        found = (each.removeprefix(under)[:-1] for page in pages for each in page.folders)
        return sorted((name for name in found if not name.startswith(".")), key=str.encode)

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        root = self._address.key("")
        for page in self._client.pages(self._bucket, self._under(prefix), deep=True):
            for each in page.files:
                yield StoredFile(each.key.removeprefix(root), each.size_bytes, each.modified)

    def _under(self, prefix: str) -> str:
        return self._key(prefix) + "/" if prefix else self._address.key("")

    def _facts(self, path: str) -> Facts:
        facts = self._client.head(self._bucket, self._key(path))
        if facts is None:
            raise self._missing(path)
        return facts

    def _missing(self, path: str) -> MissingFile:
        return MissingFile(f"{path} is not in {self.url}")
