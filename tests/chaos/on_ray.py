"""Rounds on a Ray of two nodes: workers killed and stopped, nodes lost, drivers killed."""

import contextlib
import os
import random
import secrets
import signal
import time
from pathlib import Path

from tests.chaos.rounds import Tally
from tests.chaos.world import Driver, World, Wrong, stage_of

START_S = 120.0
MOVES_S = 0.2


class Nodes:
    """A Ray of a head without CPUs and two nodes with one each, kept by a process of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._address = folder / "address"
        self._done = folder / "done"
        # Inherited by all that are forked from here on: the nodes, and the drivers that join.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        reading, self._orders = os.pipe()
        self.keeper = Driver(lambda: self._keep(reading), folder / "log")
        os.close(reading)
        self._await(self._address)
        self.options = ["--engine", "ray", "--address", self._address.read_text(), "--workers", "2"]
        self.seconds = 0.0

    def measure(self, world: World, folder: Path) -> None:
        """Run the job once undisturbed, so that moments can be drawn from how long it takes."""
        began = time.monotonic()
        if (driver := world.index(folder / "on-ray", folder, engine=self.options)).finish() != 0:
            raise Wrong(f"the undisturbed run on Ray failed; {driver.said()}")
        self.seconds = time.monotonic() - began
        world.check(folder / "on-ray", folder)

    def _keep(self, orders: int) -> None:
        os.close(self._orders)
        from ray.cluster_utils import Cluster

        from lamella.cluster.ray.ray_auth import read_anew

        read_anew()
        node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
        nodes = Cluster(initialize_head=True, head_node_args=node | {"num_cpus": 0})
        try:
            there = [nodes.add_node(**node) for _ in range(2)]
            nodes.wait_for_nodes()
            self._address.write_text(nodes.address)
            while order := os.read(orders, 1):
                lost = there.pop(order[0] % len(there))
                nodes.remove_node(lost, allow_graceful=False)
                there.append(nodes.add_node(**node))
                self._done.touch()
        finally:
            nodes.shutdown()

    def lose_one(self, draw: random.Random) -> None:
        """Kill a node as a power cut does, and add a new one."""
        self._done.unlink(missing_ok=True)
        os.write(self._orders, bytes([draw.randrange(256)]))
        self._await(self._done)

    def close(self) -> None:
        """End the nodes, and whatever processes of theirs are left."""
        os.close(self._orders)
        if not self.keeper.wait(60):
            self.keeper.kill()
        for pid in _pids(b"", os.environ["RAY_AUTH_TOKEN"]):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _await(self, file: Path) -> None:
        deadline = time.monotonic() + START_S
        while not file.exists() or (file == self._address and not file.read_text()):
            if self.keeper.wait(0.05) or time.monotonic() > deadline:
                raise RuntimeError(f"the nodes do not stand: {self.keeper.said()}")


def _pids(title: bytes, token: str) -> list[int]:
    """Return processes with this title that have our token, or whose parent has: no one else's.

    A worker writes its title over its environment; its parent, the raylet, does not.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not (process / "cmdline").read_bytes().startswith(title):
                continue
            parent = Path("/proc", (process / "stat").read_text().rpartition(")")[2].split()[1])
            if any(token.encode() in (each / "environ").read_bytes() for each in (process, parent)):
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


def workers() -> list[int]:
    """Return the processes of our workers that work at present."""
    return _pids(b"ray::Worker", os.environ["RAY_AUTH_TOKEN"])


ON_RAY = ("worker", "stop", "node", "raydriver")
"""The kinds of rounds that need nodes."""


def play_on(
    nodes: Nodes, what: str, world: World, draw: random.Random, folder: Path, tally: Tally
) -> None:
    """Run one index on the nodes, hurt it at random moments, resume it where its driver died."""
    store = folder / "store"
    options = nodes.options
    driver = world.index(store, folder, engine=options)
    for _ in range(draw.randint(1, 3)):
        # The moment is drawn; that a worker stands by then is waited for.
        driver.wait(draw.uniform(0.0, 1.0) * nodes.seconds)
        while what in ("worker", "stop") and not workers() and not driver.wait(MOVES_S):
            pass
        if driver.wait(0):
            break
        stage, standing = stage_of(store), workers()
        if what in ("worker", "stop") and standing:
            kill = signal.SIGKILL if what == "worker" else signal.SIGSTOP
            try:
                os.kill(draw.choice(standing), kill)
            except ProcessLookupError:
                continue
            tally.killed("worker killed" if what == "worker" else "worker stopped", stage)
            if what == "stop":
                break  # each costs a deadline
        elif what == "node":
            nodes.lose_one(draw)
            tally.killed("node killed", stage)
            break
        elif what == "raydriver" and driver.kill():
            tally.killed("driver on Ray killed", stage)
            driver = world.index(store, folder, engine=options)
    if driver.finish() != 0:
        if what != "worker" or "its worker died" not in driver.said():
            raise Wrong(f"failed with {driver.code}; {driver.said()}")
        # Three kills may hit one task, which then fails by name, as it should: the same command.
        tally.faults["task failed by name after three kills"] += 1
        again = world.index(store, folder, engine=options)
        if again.finish() != 0:
            raise Wrong(f"the resumed run failed with {again.code}; {again.said()}")
    world.check(store, folder)
