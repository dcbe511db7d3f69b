"""The client of S3: one s3fs for each process; every request is checked, bounded and retried.

s3fs provides the session, the standard chain of credentials and the event loop. We call its client
directly, so that only `_ask` retries. The retries of botocore and s3fs are off: they would multiply
with ours and hide what happened.
"""

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lamella.pipeline import events
from lamella.pipeline.errors import CommitConflict, MissingFile, StoreError, StoreUnavailable
from lamella.pipeline.meters import READ_BYTES, S3_REQUESTS
from lamella.pipeline.signs import signed
from lamella.pipeline.store.retry import GaveUp, Patience, Transient, persist
from lamella.pipeline.store.s3_errors import meaning

T = TypeVar("T")

CONNECT_S, SILENCE_S = 5, 20
SLOWEST_BYTES_A_SECOND = 200_000
"""A transfer of n bytes that takes longer than `SILENCE_S` plus n over this is a failed try."""

PART_BYTES = 16 * 1024**2
"""Large files are sent and fetched in parts of this size, at most `PARTS_AT_ONCE` in memory."""

PARTS_AT_ONCE = 4
MOST_PARTS = 9_000

PATIENT = Patience(total_s=float(os.environ.get("LAMELLA_S3_PATIENCE_S", "180")))
FIRST = Patience(total_s=min(15.0, PATIENT.total_s))
"""Used until the store has answered once, so that a wrong address is reported soon."""

WORTH_A_LINE = 6
"""After this many failures of one request, some 5 s, one warning is logged."""


@dataclass(frozen=True)
class Facts:
    """An object: its key, its size, when it changed (seconds since 1970), and its ETag.

    The ETag identifies a version; not every server makes it a hash of the content.
    """

    key: str
    size_bytes: int
    modified: float
    etag: str


PAGE_KEYS = 1_000
"""Entries of a page of a listing: the most that S3 gives at once."""


@dataclass(frozen=True)
class Page:
    """A page of a listing: objects, and the prefixes right below the one that was listed."""

    files: tuple[Facts, ...]
    folders: tuple[str, ...]


class TooLong(Exception):
    """An object is larger than `at_most`; its body was not read."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


def client() -> "S3Client":
    """Return this process's client for the AWS variables in the environment as they are now."""
    settings = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return _client(os.getpid(), tuple(settings))


@functools.lru_cache(maxsize=8)
def _client(process: int, settings: tuple[tuple[str, str], ...]) -> "S3Client":
    return S3Client()


class S3Client:
    """Sends requests to the server that AWS_ENDPOINT_URL names, or to AWS. Thread-safe.

    Every method may raise StoreUnavailable (all retries failed), NoAccess, LoginFailed,
    NoSuchBucket, and StoreError for a request that this server does not support.
    """

    def __init__(self) -> None:
        import s3fs

        config: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "read_timeout": SILENCE_S,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": 32,
        }
        if any(name.startswith("AWS_ENDPOINT_URL") for name in os.environ):
            # Private servers seldom have a host name for every bucket.
            config["s3"] = {"addressing_style": "path"}
        self._s3fs = s3fs.S3FileSystem(
            skip_instance_cache=True, use_listings_cache=False, config_kwargs=config
        )
        self._answered = False

    def get(
        self,
        bucket: str,
        key: str,
        start: int = 0,
        stop: int | None = None,
        *,
        at_most: int | None = None,
        patience: Patience | None = None,
    ) -> bytes:
        """Return an object, or its bytes from `start` to before `stop` (or to its end).

        Raises:
            MissingFile: it is not there.
            TooLong: it has more bytes than `at_most`.
        """
        ranged: dict[str, str] = {}
        if stop is not None:
            if stop <= start:
                return b""
            ranged["Range"] = f"bytes={start}-{stop - 1}"

        async def fetch(s3: Any) -> bytes:
            from botocore.exceptions import ClientError

            try:
                reply = await s3.get_object(Bucket=bucket, Key=key, **ranged)
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416:
                    return b""  # the range begins after the end
                raise
            length = int(reply["ContentLength"])
            async with reply["Body"] as body:
                if at_most is not None and length > at_most:
                    body.close()
                    raise TooLong(length)
                async with asyncio.timeout(_seconds(length)):
                    data: bytes = await body.read()
            if len(data) != length:
                raise Transient(f"{len(data):,} bytes of {length:,}")
            READ_BYTES.add(len(data), place="s3")
            return data

        return self._ask("read", bucket, key, fetch, patience)

    def head(self, bucket: str, key: str) -> Facts | None:
        """Return size, time and ETag of an object, None if there is none."""

        async def look(s3: Any) -> Any:
            return await s3.head_object(Bucket=bucket, Key=key)

        try:
            found = self._ask("read", bucket, key, look)
        except MissingFile:
            return None
        return Facts(
            key,
            int(found["ContentLength"]),
            found["LastModified"].timestamp(),
            str(found.get("ETag", "")),
        )

    def pages(
        self,
        bucket: str,
        prefix: str,
        *,
        deep: bool,
        at_most: int | None = None,
        after: str | None = None,
    ) -> Iterator[Page]:
        """Yield a listing page by page, at most `PAGE_KEYS` entries each, in the server's order.

        Args:
            deep: list everything below the prefix; otherwise only what is right below it, with
                folders listed apart.
            at_most: entries of a page; then only the first page is yielded.
            after: leave out this key and those before it, in the server's order.
        """
        wanted: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        wanted["MaxKeys"] = PAGE_KEYS if at_most is None else at_most
        if not deep:
            wanted["Delimiter"] = "/"
        if after:
            wanted["StartAfter"] = after
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}

            async def ask(s3: Any, more: dict[str, str] = more) -> Any:
                return await s3.list_objects_v2(**wanted, **more)

            found = self._ask("list", bucket, prefix, ask)
            yield _page(found)
            if not found.get("IsTruncated") or at_most is not None:
                return
            token = found["NextContinuationToken"]

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object, replacing any of this key."""
        self._ask("write", bucket, key, _put(bucket, key, data))

    def create(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object in one conditional request that fails if there is one of this key.

        Raises:
            CommitConflict: there is one. It may be ours: after a lost reply, the retry finds it.
            StoreUnavailable: it is not known whether it was created.
        """
        failed: list[Transient] = []
        try:
            put = _put(bucket, key, data, IfNoneMatch="*")
            self._ask("write", bucket, key, put, told=failed.append)
        except (CommitConflict, StoreUnavailable):
            raise
        except StoreError as error:
            if failed:  # an earlier try may have created it
                raise StoreUnavailable(f"{failed[-1]}, then: {error}") from error
            raise

    def put_file(self, bucket: str, key: str, path: Path) -> None:
        """Upload a local file, whole or not at all; large ones in parts."""
        size_bytes = path.stat().st_size
        if size_bytes <= 2 * PART_BYTES:
            self.put(bucket, key, path.read_bytes())
            return

        async def begin(s3: Any) -> str:
            reply = await s3.create_multipart_upload(Bucket=bucket, Key=key)
            return str(reply["UploadId"])

        upload = {"Bucket": bucket, "Key": key, "UploadId": self._ask("write", bucket, key, begin)}
        part_bytes = max(PART_BYTES, -(-size_bytes // MOST_PARTS))

        def send(number: int) -> dict[str, Any]:
            data = _read_at(path, number * part_bytes, part_bytes)

            async def part(s3: Any) -> dict[str, Any]:
                async with asyncio.timeout(_seconds(len(data))):
                    reply = await s3.upload_part(**upload, PartNumber=number + 1, Body=data)
                checksum = {"ChecksumCRC32": reply.get("ChecksumCRC32")}
                known = {name: value for name, value in checksum.items() if value}
                return {"ETag": reply["ETag"], "PartNumber": number + 1, **known}

            return self._ask("write", bucket, key, part)

        async def end(s3: Any) -> None:
            await s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

        async def abort(s3: Any) -> None:
            await s3.abort_multipart_upload(**upload)

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                parts = list(signed(pool.map(send, range(-(-size_bytes // part_bytes)))))
            try:
                self._ask("write", bucket, key, end)
            except MissingFile:
                # An earlier try may have completed the upload, and its reply was lost.
                found = self.head(bucket, key)
                if found is None or found.size_bytes != size_bytes:
                    raise
        except StoreError:
            self._ask("write", bucket, key, abort, FIRST)
            raise

    def get_file(self, bucket: str, key: str, path: Path, size_bytes: int) -> None:
        """Download an object of a known size into a new local file.

        Raises:
            MissingFile: it is not there, or it became shorter.
        """

        def fetch(start: int) -> None:
            stop = min(start + PART_BYTES, size_bytes)
            data = self.get(bucket, key, start, stop)
            if len(data) != stop - start:
                raise MissingFile(f"s3://{bucket}/{key} became shorter while it was read")
            os.pwrite(file.fileno(), data, start)

        with path.open("xb") as file, ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            list(signed(pool.map(fetch, range(0, size_bytes, PART_BYTES))))

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object; it is no error if there is none."""

        async def delete(s3: Any) -> None:
            await s3.delete_object(Bucket=bucket, Key=key)

        try:
            self._ask("remove", bucket, key, delete)
        except MissingFile:
            return

    def _ask(
        self,
        doing: str,
        bucket: str,
        key: str,
        request: Callable[[Any], Awaitable[T]],
        patience: Patience | None = None,
        told: Callable[[Transient], None] = lambda error: None,
    ) -> T:
        """Send a request, retry as the patience allows, and return its result."""
        from fsspec.asyn import sync

        url = f"s3://{bucket}/{key}"

        async def once() -> T:
            return await request(await self._s3fs.set_session())

        def attempt() -> T:
            try:
                result: T = sync(self._s3fs.loop, once)
            except (Transient, TooLong):
                raise
            except Exception as error:
                raise meaning(error, doing, url, bucket) from error
            self._answered = True
            S3_REQUESTS.add(operation=doing, outcome="ok")
            return result

        def on_failure(failures: int, error: Transient) -> None:
            told(error)
            S3_REQUESTS.add(operation=doing, outcome="retried")
            if failures == WORTH_A_LINE:
                events.warning(
                    "store-silent",
                    f"{url} does not answer ({error}): trying on for {chosen.total_s:.0f} s",
                )

        chosen = patience or (PATIENT if self._answered else FIRST)
        try:
            return persist(attempt, chosen, on_failure=on_failure)
        except GaveUp as error:
            S3_REQUESTS.add(operation=doing, outcome="failed")
            raise StoreUnavailable(
                f"{url}: the store does not answer ({error}): what is done stays done, run the "
                "same command again when it is back, or check AWS_ENDPOINT_URL"
            ) from error


def _put(bucket: str, key: str, data: bytes, **condition: str) -> Callable[[Any], Awaitable[None]]:
    async def put(s3: Any) -> None:
        async with asyncio.timeout(_seconds(len(data))):
            await s3.put_object(Bucket=bucket, Key=key, Body=data, **condition)

    return put


def _seconds(size_bytes: int) -> float:
    return SILENCE_S + size_bytes / SLOWEST_BYTES_A_SECOND


def _page(found: Any) -> Page:
    files = (
        Facts(
            str(each["Key"]),
            int(each["Size"]),
            each["LastModified"].timestamp(),
            str(each.get("ETag", "")),
        )
        for each in found.get("Contents", ())
        # Some tools mark a folder with an empty object whose key ends in a slash.
        if not each["Key"].endswith("/")
    )
    folders = tuple(str(each["Prefix"]) for each in found.get("CommonPrefixes", ()))
    return Page(tuple(files), folders)


def _read_at(path: Path, offset: int, size_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size_bytes)
