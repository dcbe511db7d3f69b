"""Objects fetched before they are asked for, so that no one waits for each in turn.

A request to a far server takes longer than a picture takes to decode. Changes no byte and no
error: what a fetch raised is raised to whoever asks for that object.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from pipeline.corpus.places import is_s3, read_object

FETCHED_AHEAD = 8
"""Objects in memory or on their way, of at most `max_bytes` each, for a worker."""


class ReadAhead:
    """Reads objects that are asked for in about the order given; for any number of threads."""

    def __init__(self, places: Iterable[str], most_bytes: int, pool: ThreadPoolExecutor) -> None:
        self._next = iter(places)
        self._most_bytes = most_bytes
        self._pool = pool
        self._lock = Lock()
        self._coming: dict[str, Future[bytes]] = {}
        with self._lock:
            self._fill()

    def read(self, place: str) -> bytes:
        """Return an object whole, fetched now if it was not expected.

        Raises:
            As `read_object`.
        """
        with self._lock:
            future = self._coming.pop(place, None)
            self._fill()
        return future.result() if future else self._fetch(place)

    def _fill(self) -> None:
        while len(self._coming) < FETCHED_AHEAD:
            place = next(self._next, None)
            if place is None:
                return
            if place not in self._coming:
                self._coming[place] = self._pool.submit(self._fetch, place)

    def _fetch(self, place: str) -> bytes:
        return read_object(place, None, self._most_bytes)


@contextmanager
def reading_ahead(places: Iterable[str], most_bytes: int) -> Iterator[ReadAhead | None]:
    """Have the objects among these places fetched ahead inside the block; None if there are none.

    Each of them should be read there once, or the others wait for their turn in vain.
    """
    objects = [place for place in places if is_s3(place)]
    if not objects:
        yield None
        return
    pool = ThreadPoolExecutor(FETCHED_AHEAD)
    try:
        yield ReadAhead(objects, most_bytes, pool)
    finally:
        pool.shutdown(cancel_futures=True)
