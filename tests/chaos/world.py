"""The world of the chaos harness: a small corpus, real processes that index it, and the verdict.

Drivers are forked from this process, which has imported everything and run nothing, so that a
round takes about a second: each is a process of its own that runs the `lamella` command.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamella.cluster.commands.main import main
from lamella.pipeline.index.promotions import current_snapshot, latest_number
from lamella.pipeline.store import tree
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.verify import verify_store
from tests.tiny import tiny_pictures

# What a driver would import first thing; shared by all that are forked.
import torch  # noqa: F401  # isort: skip

STAGES = (
    *("looks", "corpora", "activations", "vocabularies", "bags", "segments", "totals"),
    *("snapshots", "promotions"),
)
LONGEST_S = 120.0
"""No driver takes so long unless it hangs."""

JOB = """
[corpus]
shard_images = 3
max_refused = 0.5
[network.preprocess]
short_edge = 32
crop = 32
[vocabulary]
words = 8
rounds = 3
[index]
segment_images = 5
[engine]
task_timeout_s = 20
"""


class Wrong(AssertionError):
    """A promise was broken: something is lost, damaged, different, or hangs."""


class Driver:
    """A forked process that calls something; its output goes to a file."""

    def __init__(self, work: Callable[[], None], log: Path) -> None:
        self.log = log
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work)

    def _run(self, work: Callable[[], None]) -> None:
        code = 70
        try:
            os.setsid()
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            try:
                work()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:
                import traceback

                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def wait(self, seconds: float) -> bool:
        """Say whether it has ended, after at most so many seconds."""
        deadline = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(0.002)
        return True

    def kill(self) -> bool:
        """Kill it as the kernel does, if it still runs; say whether it did."""
        if self.code is not None or self.wait(0):
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.wait(10)
        return True

    def finish(self) -> int:
        """Return its exit code. Raises Wrong where it hangs."""
        if not self.wait(LONGEST_S):
            self.kill()
            raise Wrong(f"still running after {LONGEST_S:g} s; {self.said()}")
        assert self.code is not None
        return self.code

    def said(self) -> str:
        """Return the end of its output."""
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-12:])


@dataclass(frozen=True)
class World:
    """A corpus, its job, and what an undisturbed run of it gave."""

    source: Path
    job: Path
    digest: str = ""
    images: int = 0
    seconds: float = 0.0

    def index(
        self,
        store: str | Path,
        folder: Path,
        before: Callable[[], None] = lambda: None,
        engine: Sequence[str] = ("--engine", "serial"),
    ) -> Driver:
        """Start `lamella index`; `before` is called in its process first."""

        def work() -> None:
            before()
            sys.argv = ["lamella", "index", str(self.source), "--into", str(store)]
            sys.argv += ["--job", str(self.job), *engine]
            main()

        return Driver(work, folder / "log")

    def check(
        self, store: str | Path, folder: Path, before: Callable[[], None] = lambda: None
    ) -> None:
        """Read the store back as a new process sees it, and compare.

        Raises:
            Wrong: another digest, more or less than one snapshot, or any file that is not as its
                record says.
        """
        found = examine_apart(store, folder, before)
        if found["digest"] != self.digest:
            raise Wrong(f"different: root digest {found['digest']}, not {self.digest}")
        if found["images"] != self.images:
            raise Wrong(f"lost: {found['images']} pictures accounted for, not {self.images}")
        if found["snapshots"] != 1:
            raise Wrong(f"different: {found['snapshots']} snapshots of one root digest")
        if found["damaged"]:
            raise Wrong(f"lost: {found['damaged']}")


def examine(store: str) -> dict[str, object]:
    """Return what a store holds after reading back every file of it."""
    opened = open_store(store)
    snapshot = current_snapshot(opened)
    return {
        "digest": snapshot.root_digest if snapshot else None,
        "images": snapshot.indexed + snapshot.refused if snapshot else 0,
        "snapshots": latest_number(opened, tree.SNAPSHOT),
        "damaged": [f"{each.path} {each.problem}" for each in verify_store(opened).damage],
    }


def stage_of(store: Path) -> str:
    """Return how far a store in a folder has come: its latest stage, `nothing` before the first."""
    there = [stage for stage in STAGES if (store / stage).is_dir()]
    return there[-1] if there else "nothing"


def make_world(folder: Path) -> World:
    """Make the corpus, and run its job twice undisturbed: for its digest, and for its time."""
    folder.mkdir(parents=True, exist_ok=True)
    job = folder / "job.toml"
    job.write_text(JOB)
    world = World(tiny_pictures(folder / "pictures", 14, broken=2), job)
    for name in ("first", "second"):
        began = time.monotonic()
        driver = world.index(folder / name, folder)
        if driver.finish() != 0:
            raise Wrong(f"the undisturbed run failed; {driver.said()}")
        seconds = time.monotonic() - began
        found = examine_apart(folder / name, folder)
        world = World(world.source, world.job, found["digest"], found["images"], seconds)
        world.check(folder / name, folder)
    return world


def examine_apart(
    store: str | Path, folder: Path, before: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Return what `examine` finds, from a process of its own. Raises Wrong where it cannot."""
    answer = folder / "examined.json"

    def work() -> None:
        before()
        answer.write_text(json.dumps(examine(str(store))))

    reader = Driver(work, folder / "log")
    if reader.finish() != 0:
        raise Wrong(f"lost: the store cannot be read; {reader.said()}")
    return dict(json.loads(answer.read_text()))


def sees_damage(world: World, folder: Path) -> None:
    """Damage copies of an undisturbed store; the check must say so, or it is worth nothing.

    Raises:
        Wrong: it does not.
    """
    for hurt in (_flip_a_byte, _lose_a_file):
        store = folder / hurt.__name__
        shutil.copytree(folder / "first", store)
        hurt(store)
        try:
            world.check(store, folder)
        except Wrong:
            continue
        raise Wrong(f"the check of this harness does not see {hurt.__name__}")
    other = replace(world, digest="f" * 64)
    try:
        other.check(folder / "first", folder)
    except Wrong:
        return
    raise Wrong("the check of this harness does not see another digest")


def _flip_a_byte(store: Path) -> None:
    path = max(store.glob("segments/**/*.arrow"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _lose_a_file(store: Path) -> None:
    min(store.glob("segments/**/*.arrow")).unlink()
