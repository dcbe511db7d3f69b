"""Where pictures lie: at a local path, or in S3 as `s3://bucket/key`; nowhere else.

The same functions serve both. An object that is missing or not readable raises what a file would;
one that cannot be fetched although its server answers raises `FetchFailed`. A server that does not
answer is no fault of a picture: StoreUnavailable fails the task.
"""

import contextlib
import errno
import hashlib
import io
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar
from urllib.parse import unquote

from lamella.pipeline.corpus.blame import check_own_fault
from lamella.pipeline.corpus.joined import part_for
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.errors import (
    InputError,
    LoginFailed,
    MissingFile,
    NoAccess,
    NoSuchBucket,
    StoreError,
    StoreUnavailable,
)
from lamella.pipeline.store.address import S3, is_s3, parse_s3
from lamella.pipeline.store.retry import Patience
from lamella.pipeline.store.s3 import Facts, TooLong, client
from lamella.schemas.refusals import RefusalReason

__all__ = ["FetchFailed", "TooLong", "facts_of", "is_s3", "open_place"]

T = TypeVar("T")
A_PICTURE = Patience(total_s=30.0, tries=12)
BUFFER_BYTES = 1024**2
"""Bytes a request for a tar or a Parquet file: many small pictures come together."""

LOOKS_AT_ONCE = 32
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|(?<=data):|(?<=file):(?=/))", re.IGNORECASE)
_LOCAL_FILE = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)
"""A file of this machine: file:///x, or file:/x as Java writes it."""

_HADOOP_S3 = ("s3a", "s3n")
"""Names of Hadoop's clients; the objects are those of S3."""


class FetchFailed(OSError):
    """An object cannot be fetched, though its server answers other requests."""


def named_by(root: str, text: str) -> str:
    """Check a reference in a list file or a Parquet row under a root; return its name.

    This is the one rule for references. A local path, relative to the root or absolute, or a
    file:// address is allowed only where the root is local, so that whoever can write to a bucket
    cannot make us read files of this machine. A path below the root is always allowed, and so is
    s3://bucket/key; hosts come from the configuration alone. `place_of(root, name)` then says where
    it lies.

    Raises:
        ValueError: anything else; the message names what is allowed.
    """
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if match and scheme in _HADOOP_S3:
        scheme, text = "s3", f"{S3}{text[match.end() :]}"
    if scheme == "s3":
        try:
            address = parse_s3(text)
        except InputError as error:
            raise ValueError(str(error)) from None
        if not address.prefix:
            raise ValueError(f"{address.url} names a bucket and no picture in it")
        return address.url
    if is_s3(root):
        if scheme or text.startswith("/") or ".." in text.split("/"):
            raise ValueError(
                "what lies in S3 may name pictures below its own folder, or s3://bucket/key"
            )
        return text
    if match is None:
        return text
    if scheme == "file":
        if local := _LOCAL_FILE.match(text):
            return unquote(text[local.end() :])
        raise ValueError("a file:// address must name an absolute path: file:///folder/a.jpg")
    raise ValueError(
        f"scheme {match[1]}:// is not read here; allowed: a local path, file:// or s3://"
    )


def is_below(name: str) -> bool:
    """Say whether a name by itself stays below whatever folder it is joined with.

    It does not follow links: see `check_below`.
    """
    return not (name.startswith("/") or is_s3(name) or ".." in name.split("/"))


def may_fetch(kind: str, name: str) -> bool:
    """Say whether an entry that is no part of a container may be read where its name leads.

    A list may name any place; all other names stay below their source.
    """
    try:
        kind, name = part_for(kind, name)
    except ValueError:
        return False
    return kind == "list" or is_below(name)


def is_address(name: str) -> bool:
    """Say whether a name begins with a scheme, such as file:// or data:."""
    return _SCHEME.match(name) is not None


def check_below(path: str, real_folder: str, descriptor: int | None = None) -> None:
    """Return if a local file lies below a folder once all links are followed.

    Args:
        real_folder: with all links followed, as `os.path.realpath` gives it.
        descriptor: of the open file; the kernel then says where it lies, so no link can be changed
            in between.

    Raises:
        Refused: it lies elsewhere.
    """
    found = ""
    if descriptor is not None:
        with contextlib.suppress(OSError):
            found = os.readlink(f"/proc/self/fd/{descriptor}")
    if not found.startswith("/"):  # where there is no /proc
        found = os.path.realpath(path)
    if not found.startswith(real_folder.rstrip("/") + "/"):
        raise Refused(RefusalReason.OUTSIDE_SOURCE)


def place_of(root: str, name: str) -> str:
    """Return where the entry or the container of this name lies.

    Raises:
        ValueError: the root is of several sources, and the name is within none of them.
    """
    root, name = part_for(root, name)
    if is_s3(name):
        return name
    if is_s3(root):
        return f"{root}/{posixpath.normpath(name)}"
    return os.path.join(root, name)


def facts_of(place: str) -> tuple[int, int | None]:
    """Return (size in bytes, version) of a file or object, or (-1, 0) where it is missing.

    The version is the time of modification in ns for a file, and for an object what `version` says.

    Raises:
        StoreUnavailable: this machine cannot say.
    """
    try:
        if is_s3(place):
            facts = _of(place, lambda bucket, key, patience: client().head(bucket, key))
            return (facts.size_bytes, version(facts)) if facts else (-1, 0)
        found = os.stat(place)
    except OSError as error:
        check_own_fault(error, place, None)
        return -1, 0
    except ValueError:  # a null byte in the name
        return -1, 0
    return found.st_size, found.st_mtime_ns


def facts_of_all(places: Sequence[str]) -> list[tuple[int, int | None]]:
    """Return `facts_of` each place; objects are looked up in parallel."""
    if not any(is_s3(place) for place in places):
        return [facts_of(place) for place in places]
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        return list(pool.map(facts_of, places))


def version(facts: Facts) -> int | None:
    """Return a number that changes when the object does; None if the server says nothing of it."""
    if not facts.etag and not facts.modified:
        return None
    text = f"{facts.etag} {facts.modified}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def open_place(place: str) -> BinaryIO:
    """Return a file or an object opened to be read at random.

    Raises:
        OSError: missing, not to be read, or not to be fetched.
    """
    if not is_s3(place):
        return open(place, "rb")
    facts = _of(place, lambda bucket, key, patience: client().head(bucket, key))
    if facts is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
    return io.BufferedReader(_Ranged(place, facts.size_bytes), BUFFER_BYTES)


def read_object(place: str, stop: int | None, most_bytes: int) -> bytes:
    """Return an object, or its first bytes up to `stop`.

    Raises:
        TooLong: it is wanted whole and has more than `most_bytes`.
        OSError: missing, not to be read, or not to be fetched.
    """

    def read(bucket: str, key: str, patience: Patience) -> bytes:
        at_most = most_bytes if stop is None else None
        return client().get(bucket, key, 0, stop, at_most=at_most, patience=patience)

    return _of(place, read)


class _Ranged(io.RawIOBase):
    """An object as a file: every read is a request for a range."""

    def __init__(self, place: str, size_bytes: int) -> None:
        self._place = place
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"a file has no byte {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        start, stop = self._at, min(self._at + len(buffer), self._size_bytes)

        def read(bucket: str, key: str, patience: Patience) -> bytes:
            return client().get(bucket, key, start, stop, patience=patience)

        data = _of(self._place, read) if start < stop else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _of(place: str, work: Callable[[str, str, Patience], T]) -> T:
    """Return the result of work on an object, with errors turned into those of a file."""
    bucket, _, key = place[len(S3) :].partition("/")
    try:
        try:
            return work(bucket, key, A_PICTURE)
        except StoreUnavailable:
            _see_that_it_answers(bucket)
            return work(bucket, key, A_PICTURE)
    except StoreUnavailable as error:
        _see_that_it_answers(bucket)
        raise FetchFailed(errno.EIO, str(error), place) from error
    except (MissingFile, NoSuchBucket) as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place) from error
    except NoAccess as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place) from error
    except LoginFailed:
        raise
    except StoreError as error:
        _see_that_it_answers(bucket)
        raise OSError(errno.EIO, os.strerror(errno.EIO), place) from error


def _see_that_it_answers(bucket: str) -> None:
    """Check that the server answers, waiting as long as for a store.

    Raises:
        StoreError: it does not answer, or refuses everything.
    """
    with contextlib.suppress(MissingFile, NoSuchBucket, NoAccess):  # these are answers
        client().head(bucket, "lamella/does-it-answer")
