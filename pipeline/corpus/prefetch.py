"""Fetch objects ahead, so that readers do not wait for one request after the other.

A request to a far server takes longer than decoding a picture. Bytes and errors stay the same: an
error of a fetch is raised to whoever reads that object.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from lamella.pipeline.corpus.locations import is_s3, read_object

FETCHED_AHEAD = 32
"""The most objects of a worker in memory or being fetched: requests mostly wait for the server."""

AHEAD_BYTES = 64 << 20
"""The most bytes of a worker in memory or being fetched, unless one object alone is larger."""

Sized = tuple[str, int]
"""A place, and its size in bytes; -1 where that is not known."""


class ReadAhead:
    """Reads objects ahead in the order given; threads read them in about that order."""

    def __init__(self, objects: Iterable[Sized], most_bytes: int, pool: ThreadPoolExecutor) -> None:
        self._next = iter(objects)
        self._waiting: Sized | None = next(self._next, None)
        self._most_bytes = most_bytes
        self._pool = pool
        self._lock = Lock()
        self._coming: dict[str, tuple[int, Future[bytes]]] = {}
        self._bytes = 0
        self._overtaken: set[str] = set()
        with self._lock:
            self._fill()

    def read(self, place: str) -> bytes:
        """Return a whole object; fetch it now if it was not expected.

        Raises:
            As `read_object`.
        """
        with self._lock:
            size, future = self._coming.pop(place, (0, None))
            self._bytes -= size
            if future is None:
                self._overtaken.add(place)
            self._fill()
        return future.result() if future else self._fetch(place)

    def _fill(self) -> None:
        while self._waiting is not None and len(self._coming) < FETCHED_AHEAD:
            place, size = self._waiting
            # No more than `most_bytes` are read of any, however many it holds.
            size = self._most_bytes if size < 0 else min(size, self._most_bytes)
            if self._coming and self._bytes + size > AHEAD_BYTES:
                return
            # An object that was read before its turn would stay here unread, and hold up the rest.
            if place not in self._coming and place not in self._overtaken:
                self._coming[place] = size, self._pool.submit(self._fetch, place)
                self._bytes += size
            self._waiting = next(self._next, None)

    def _fetch(self, place: str) -> bytes:
        return read_object(place, None, self._most_bytes)


@contextmanager
def reading_ahead(places: Iterable[Sized], most_bytes: int) -> Iterator[ReadAhead | None]:
    """Have the objects among these places fetched ahead inside the block; None if there are none.

    Each should be read there once, or later ones are never fetched ahead.
    """
    objects = [(place, size) for place, size in places if is_s3(place)]
    if not objects:
        yield None
        return
    pool = ThreadPoolExecutor(FETCHED_AHEAD)
    try:
        yield ReadAhead(objects, most_bytes, pool)
    finally:
        pool.shutdown(cancel_futures=True)
