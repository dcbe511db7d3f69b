"""One round of each kind of fault: hurt a run, give the same command again, compare."""

import datetime
import errno
import random
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from lamella.pipeline.index import promotions, publish
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Step, TaskT
from tests.chaos.world import STAGES, Driver, World, Wrong, stage_of

MOST_KILLS = 6
"""A round kills so many drivers in a row, then lets one finish."""


@dataclass
class Tally:
    """What a round did: faults by kind, and where in the run kills struck."""

    faults: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)

    def killed(self, what: str, stage: str) -> None:
        self.faults[what] += 1
        self.stages[stage] += 1


Round = Callable[[World, random.Random, Path, Tally], None]


def _finish(world: World, driver: Driver) -> None:
    if driver.finish() != 0:
        raise Wrong(f"the resumed run failed with {driver.code}; {driver.said()}")


def driver_killed(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Kill the driver at random moments, each time going on from what the last one left."""
    store = folder / "store"
    for _ in range(draw.randint(1, MOST_KILLS)):
        driver = world.index(store, folder)
        _await_a_moment(world, driver, draw, store)
        stage = stage_of(store)
        if driver.kill():
            tally.killed("driver killed", stage)
    _finish(world, world.index(store, folder))
    world.check(store, folder)


def _await_a_moment(world: World, driver: Driver, draw: random.Random, store: Path) -> None:
    """Wait for any moment of the run, or for one soon after a stage that is drawn has begun.

    Most of a small run is spent before its first stage, so time alone would spare the late ones.
    """
    target, most = draw.choice([None, *STAGES[:-1]]), draw.uniform(0.0, 1.0)
    if target is None or (store / target).is_dir():
        driver.wait(most * world.seconds)
        return
    while not (store / target).is_dir() and not driver.wait(0.002):
        pass
    driver.wait(most * world.seconds / 30)


def two_drivers(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Run two drivers on one store at once; half of the time one of them is killed."""
    store = folder / "store"
    first = world.index(store, folder)
    first.wait(draw.uniform(0, 0.3) * world.seconds)
    second = world.index(store, folder)
    tally.faults["two drivers at once"] += 1
    if draw.random() < 0.5:
        victim, other = draw.sample([first, second], 2)
        victim.wait(draw.uniform(0.1, 1.0) * world.seconds)
        stage = stage_of(store)
        if victim.kill():
            tally.killed("one of two drivers killed", stage)
        _finish(world, other)
    else:
        _finish(world, first)
        _finish(world, second)
    _finish(world, world.index(store, folder))
    world.check(store, folder)


def delivered_twice(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Deliver every task twice, out of order, some of them at the same time."""
    seed = draw.random()

    def before() -> None:
        mock.patch.object(SerialRunner, "run", _Twice(random.Random(seed)).run).start()

    _finish(world, world.index(folder / "store", folder, before))
    tally.faults["tasks delivered twice"] += 1
    world.check(folder / "store", folder)


class _Twice:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def run(self, stage: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        work = stage.open() if tasks else None
        for task in self._draw.sample(list(tasks), len(tasks)):
            assert work is not None
            if self._draw.random() < 0.5:
                again = stage.open()  # another worker with the same task
                thread = threading.Thread(target=again, args=(task,))
                thread.start()
                record = work(task)
                thread.join()
            else:
                record = work(task)
                work(task)
            yield Outcome(task.key, record)


def disk_full(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Let the disk be full at a random size, make room, and go on."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={draw.randrange(16, 400)}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        return _file_size_limit(world, draw, folder, tally)
    try:
        driver = world.index(disk / "store", folder)
        code = driver.finish()
        if code != 0:
            _one_line(driver, code)
            tally.faults["disk full"] += 1
        more = ["mount", "-o", "remount,size=64m", str(disk)]
        subprocess.run(more, capture_output=True, check=True)
        _finish(world, world.index(disk / "store", folder))
        world.check(disk / "store", folder)
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)
    return None


def _file_size_limit(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Let no file be larger than a random size, where no small disk can be mounted."""
    most = draw.randrange(200, 8000)

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    driver = world.index(folder / "store", folder, before)
    code = driver.finish()
    if code != 0:
        tally.faults["file size limit"] += 1
    _finish(world, world.index(folder / "store", folder))
    world.check(folder / "store", folder)


def _one_line(driver: Driver, code: int) -> None:
    text = driver.log.read_text(errors="replace")
    complaints = [line for line in text.splitlines() if line.startswith("lamella: ")]
    if code != 1 or len(complaints) != 1 or "Traceback" in text:
        raise Wrong(f"a full disk ended with {code} and no one line; {driver.said()}")


def clock_jumps(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Let the driver's clock jump by up to two years at every look, and kill it on the way."""
    store = folder / "store"
    for attempt in range(2):
        seed = draw.random()
        driver = world.index(store, folder, lambda seed=seed: _unsteady(seed))  # type: ignore[misc]
        tally.faults["clock jumps"] += 1
        if attempt == 0:
            driver.wait(draw.uniform(0.3, 1.0) * world.seconds)
            stage = stage_of(store)
            if driver.kill():
                tally.killed("driver killed, clock jumping", stage)
        else:
            _finish(world, driver)
    world.check(store, folder)


def _unsteady(seed: float) -> None:
    """Replace the wall clock of this process; how long things take stays as it is."""
    draw, real = random.Random(seed), time.time

    def jumped() -> float:
        return real() + draw.uniform(-1, 1) * 2 * 365 * 86400

    def now() -> str:
        return datetime.datetime.fromtimestamp(jumped(), datetime.UTC).isoformat(timespec="seconds")

    mock.patch("time.time", jumped).start()
    for module in (publish, promotions):
        mock.patch.object(module, "now", now).start()


def errors_everywhere(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Let a share of all store calls fail with EIO or ENOSPC; the run ends, or says so."""
    store = folder / "store"
    for _ in range(3):
        seed = draw.random()
        driver = world.index(store, folder, lambda seed=seed: _failing(seed))  # type: ignore[misc]
        if driver.finish() not in (0, 1, 75):
            raise Wrong(f"failing calls ended with {driver.code}; {driver.said()}")
        tally.faults["store calls failing"] += 1
    _finish(world, world.index(store, folder))
    world.check(store, folder)


def _failing(seed: float) -> None:
    from lamella.pipeline.store.local import LocalStore

    draw = random.Random(seed)
    for name in ("put", "create", "read"):
        original = getattr(LocalStore, name)

        def call(store, *arguments, original=original, **named):  # type: ignore[no-untyped-def]
            dice = draw.random()
            if dice < 0.01:
                raise OSError(draw.choice([errno.EIO, errno.ENOSPC]), "a fault")
            found = original(store, *arguments, **named)
            if dice > 0.99:
                raise OSError(errno.EIO, "a fault, after the call was carried out")
            return found

        mock.patch.object(LocalStore, name, call).start()


SERIAL: dict[str, Round] = {
    "driver": driver_killed,
    "two": two_drivers,
    "twice": delivered_twice,
    "disk": disk_full,
    "clock": clock_jumps,
    "errors": errors_everywhere,
}
"""How a round is called, and what it does, in one process at a time."""
