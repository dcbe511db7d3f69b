"""Rounds in which commands run beside `index`, and either is killed: at any store call, or moment.

The store has a snapshot already. A second job with other words is indexed into it, while it is
asked, evaluated, exported, verified, collected, repaired or retried by another process.
"""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from lamella.cluster.commands.main import main
from lamella.pipeline.store.local import LocalStore
from tests.chaos.rounds import Tally
from tests.chaos.world import Driver, World, Wrong, examine_apart
from tests.faulty import CALLS

OTHER_WORDS = ("words = 8", "words = 6")
"""How the second job differs from that of the world."""

MOST_CALLS = (10, 50, 250)
"""Store calls after which a command dies, at most: some make a dozen in all, some hundreds."""


@dataclass(frozen=True)
class Beside:
    """A command that runs beside an index: its arguments behind the store, and what it needs."""

    arguments: tuple[str, ...]
    damage: str = ""

    def call(self, store: Path, folder: Path, before: Callable[[], None]) -> Driver:
        """Start it in a process of its own."""
        words = [each.replace("FOLDER", str(folder)) for each in self.arguments]

        def work() -> None:
            before()
            sys.argv = ["lamella", *(str(store) if each == "STORE" else each for each in words)]
            main()

        return Driver(work, folder / "log-beside")


SERIAL = ("--engine", "serial")
COMMANDS = {
    "query": Beside(
        ("query", "STORE", "--ids", "all", "-k", "3", "--snapshot", "1", "--into", "asked", *SERIAL)
    ),
    "evaluate": Beside(
        ("evaluate", "STORE", "--protocol", "groups", "--pattern", r"(\d)\d", *SERIAL)
    ),
    "export": Beside(
        ("vocabulary", "export", "STORE", "--into", "FOLDER/words", "--snapshot", "1")
    ),
    "verify": Beside(("verify", "STORE")),
    "gc": Beside(("gc", "STORE", "--older-than", "1h")),
    "repair": Beside(("repair", "STORE", *SERIAL), damage="segments/*/p15/*.postings.arrow"),
    "retry": Beside(("retry", "STORE", *SERIAL)),
}


def second_job(world: World, folder: Path) -> World:
    """Return the world of the second job, indexed once undisturbed into a store of the first."""
    job = folder / "job-2.toml"
    if not job.exists():
        job.write_text(world.job.read_text().replace(*OTHER_WORDS))
    other = replace(world, job=job)
    store = folder / "both"
    if not store.exists():
        shutil.copytree(world.source.parent / "first", store)
        if (driver := other.index(store, folder)).finish() != 0:
            raise Wrong(f"the undisturbed second job failed; {driver.said()}")
    return replace(other, digest=examine_apart(store, folder)["digest"])


def beside_index(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Run a command that is drawn beside an index, and kill one of them, or both, or none."""
    other = second_job(world, world.source.parent)
    name = draw.choice(sorted(COMMANDS))
    command, store = COMMANDS[name], folder / "store"
    shutil.copytree(world.source.parent / "first", store)
    if command.damage:
        path = draw.choice(sorted(store.glob(command.damage)))
        path.write_bytes(path.read_bytes()[:-1])
    index = other.index(store, folder)
    index.wait(draw.uniform(0, 0.8) * world.seconds)
    dies = draw.random() < 0.75
    driver = command.call(
        store, folder, _dying(draw.randrange(draw.choice(MOST_CALLS))) if dies else _living
    )
    if draw.random() < 0.5:
        index.wait(draw.uniform(0, 0.6) * world.seconds)
        if index.kill():
            tally.faults["index killed beside another command"] += 1
    code = driver.finish()
    if code == -signal.SIGKILL:
        tally.faults[f"{name} killed at a store call beside index"] += 1
    elif code not in (0, 1, 75):
        raise Wrong(f"{name} beside index ended with {code}; {driver.said()}")
    else:
        tally.faults[f"{name} beside index"] += 1
    index.finish()
    for again in (other.index(store, folder), command.call(store, folder, _living)):
        if again.finish() != 0:
            raise Wrong(f"the same command again ended with {again.code}; {again.said()}")
    _finish_index(other, store, folder)
    found = examine_apart(store, folder)
    if (found["digest"], found["images"]) != (other.digest, world.images):
        raise Wrong(f"different: {found}, not root digest {other.digest}")
    if found["snapshots"] != 2 or found["damaged"]:
        raise Wrong(f"lost: {found}")


def _finish_index(other: World, store: Path, folder: Path) -> None:
    """Give the index once more: a repair of the first job may have come after it."""
    driver = other.index(store, folder)
    if driver.finish() != 0:
        raise Wrong(f"the index given again failed; {driver.said()}")


def _living() -> None:
    """Do nothing."""


def _dying(calls: int) -> Callable[[], None]:
    """Return what has a process die at a store call, as the kernel kills."""

    def begin() -> None:
        left = calls

        def counted(name: str) -> None:
            original = getattr(LocalStore, name)

            def call(store, *arguments, **named):  # type: ignore[no-untyped-def]
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(store, *arguments, **named)

            mock.patch.object(LocalStore, name, call).start()

        for name in CALLS:
            counted(name)

    return begin
