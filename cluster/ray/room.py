"""How many workers a stage asks for, and how long it waits for the first of them."""

import logging
import time
from dataclasses import dataclass, field

from lamella.cluster.ray.capacity import free, machines, total, workers_for
from lamella.cluster.ray.starts import MEND, OR_SERIAL, NoRoom, NoWorkers
from lamella.cluster.ray.worker_logs import last_words, own_logs
from lamella.pipeline import events
from lamella.pipeline.meters import WAITING

START_TIMEOUT_S = 180.0
LOOK_S = 1.0
"""How long the size of a cluster is taken for what it was."""

TELL_S, TELL_AGAIN_S = 10.0, 60.0
"""After how many seconds without any worker a person is told, and how often again."""


@dataclass
class Room:
    """The places for workers on a cluster, which may grow and shrink while a stage runs.

    A cluster that was joined may grow: so while tasks wait, one worker more is asked for than
    there are places. It is what an autoscaler sees, and what a new machine or a card that becomes
    free takes up. A Ray of our own has all cores of this machine from the start.

    Args:
        cpus: that a worker reserves.
        on_gpus: whether it reserves a GPU too.
        most: the most workers; None for as many as fit.
    """

    cpus: int
    on_gpus: bool
    most: int | None
    may_grow: bool = field(default_factory=lambda: own_logs() is None)
    _places: int = 0
    _looked: float = -LOOK_S

    def places(self) -> int:
        """Return how many workers fit on the cluster, taken places included; at least one."""
        if time.monotonic() - self._looked >= LOOK_S:
            has = total(machines())
            if self.on_gpus:
                self._places = max(1, min(int(has["GPU"]), self.most or int(has["GPU"])))
            else:
                self._places = workers_for(has["CPU"], self.cpus, self.most)
            self._looked = time.monotonic()
        return self._places

    def lacking(self, standing: int, coming: int, waiting: int) -> int:
        """Return how many more workers to ask for.

        Args:
            standing: workers that are ready.
            coming: workers that were asked for and are not ready.
            waiting: tasks that no ready worker will take at once.
        """
        if waiting <= coming:
            return 0
        wanted = max(self.places(), standing)
        if self.may_grow and standing:
            wanted += 1
        return min(wanted, self.most or wanted, standing + waiting) - standing - coming

    def needs(self) -> str:
        """Say what a worker needs, and what of it the cluster has."""
        there = machines()
        has, left = total(there), free(there)
        names = ("CPU", "GPU") if self.on_gpus else ("CPU",)
        listed = " and ".join(f"{has[name]:g} {name} ({left[name]:g} free)" for name in names)
        return (
            f"a worker needs {self.cpus} CPU{' and 1 GPU' if self.on_gpus else ''}, the cluster "
            f"has {listed}"
        )


@dataclass
class Patience:
    """How long a stage has had no worker at all, and what a person is told of it."""

    room: Room
    timeout_s: float
    _since: float = field(default_factory=time.monotonic)
    _tell: float = field(default_factory=lambda: TELL_S)

    def begin(self) -> None:
        """Count from now: the last worker is gone."""
        self._since, self._tell = time.monotonic(), TELL_S

    def end(self) -> None:
        """Count no longer: a worker stands."""
        WAITING.add(time.monotonic() - self._since, cause="workers")

    def tell(self) -> None:
        """Tell a person, now and then, that there is no worker yet."""
        waited = time.monotonic() - self._since
        if waited >= self._tell:
            self._tell = waited + TELL_AGAIN_S
            left = max(0.0, self.timeout_s - waited)
            text = f"waiting for a worker: {self.room.needs()}; given up in {left:.0f} s"
            events.say("waiting-for-worker", text, logging.WARNING)

    def lost(self, name: str) -> NoWorkers:
        """Return the error of a stage for which no worker came."""
        what = f"{name}: no worker started in {self.timeout_s:g} s"
        if (said := last_words()) is not None:
            return NoWorkers(f"{what}; the last words of one: {said}", f"{MEND}, {OR_SERIAL}")
        if not self.room.may_grow:
            return NoWorkers(
                f"{what}; {self.room.needs()}",
                "free some, or lower engine.cpus_per_worker, and run the same command again",
            )
        return NoRoom(
            f"{what}; {self.room.needs()}",
            "what is done stays done; run the same command again later, or free some, lower "
            "engine.cpus_per_worker, or wait longer by engine.start_timeout_s",
        )
