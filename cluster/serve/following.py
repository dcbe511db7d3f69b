"""The snapshot that is served: the promoted one, also when another is promoted meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lamella.cluster.serve.served import Served, open_served
from lamella.cluster.serve.settings import ServeSettings
from lamella.pipeline import events, meters
from lamella.pipeline.errors import LamellaError, one_line
from lamella.pipeline.index.promotions import current_promotion
from lamella.pipeline.store.storage import open_store


class Following:
    """Holds the snapshot that is asked; a request keeps the one it began with to its end.

    Another one is opened and warmed beside it, and takes its place between two requests. One that
    cannot be opened does not: the old one goes on answering, and `problem` says why.

    Raises:
        InputError, StoreError: as `open_served`.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings, self._store = settings, open_store(settings.store)
        self._lock = threading.Lock()
        self._users: dict[Served, int] = {}
        self._current = open_served(settings, settings.snapshot)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lamella-following", daemon=True)
        self.problem = ""
        self._tell()

    @property
    def follows(self) -> bool:
        """Whether another promoted snapshot takes the place of this one."""
        return self._settings.follow_s is not None and self._settings.snapshot is None

    @property
    def current(self) -> Served:
        """The snapshot that new requests are answered by; for a look, without holding it."""
        return self._current

    @contextmanager
    def serving(self) -> Iterator[Served]:
        """Hold the current snapshot open inside the block."""
        with self._lock:
            served = self._current
            self._users[served] = self._users.get(served, 0) + 1
        try:
            yield served
        finally:
            with self._lock:
                self._users[served] -= 1
                ended = not self._users[served]
                if ended:
                    del self._users[served]
                ended = ended and served is not self._current
            if ended:
                served.close()

    def begin(self) -> None:
        """Begin to look for promotions."""
        if self.follows:
            self._thread.start()

    def look(self) -> bool:
        """Look once which snapshot is promoted, and serve it; say whether it is another one."""
        try:
            promotion = current_promotion(self._store)
            same = (self._current.snapshot.number, self._current.snapshot.root_digest)
            if promotion is None or (promotion.snapshot, promotion.root_digest or same[1]) == same:
                self.problem = ""
                return False
            following = open_served(self._settings, promotion.snapshot)
        except (LamellaError, OSError) as error:
            self._fail(error)
            return False
        with self._lock:
            before, self._current = self._current, following
            idle = before not in self._users
        self.problem = ""
        self._tell()
        if idle:
            before.close()
        return True

    def stop(self) -> None:
        """Look no more; what is open is let go."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._current.close()

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.follow_s):
            self.look()

    def _fail(self, error: Exception) -> None:
        """Say once why the promoted snapshot is not served."""
        said = one_line(error, 600)
        if said != self.problem:
            number = self._current.snapshot.number
            events.warning("not-followed", f"snapshot {number} goes on answering: {said}")
        self.problem = said

    def _tell(self) -> None:
        snapshot, store = self._current.snapshot, self._settings.store
        meters.SNAPSHOT_NUMBER.set(snapshot.number, store=store)
        meters.SNAPSHOT_PICTURES.set(snapshot.indexed, store=store)
        events.info("serving", snapshot=snapshot.number, pictures=snapshot.indexed)
