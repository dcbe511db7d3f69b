"""Every command that a signal to end hits at any moment: code, seconds, what is left, and after.

    python -m pytest -m slow -s tests/end_to_end/test_signals.py

`SIGNAL_MOMENTS` sets how many moments a command and engine get (20), `SIGNAL_COMMANDS` which
commands, by their names and commas. What was found is in build/bench/signals.json.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from lamella.cluster.ray.ray_auth import own_token
from tests.conftest import RaySwitch
from tests.end_to_end.commands import Stores
from tests.end_to_end.signalled import CASES, Case, Place, begin
from tests.struck import Ended, strike
from tests.tiny import seeded

BOUND_S = 20.0
BEGUN_S = 0.2
"""Before, Python itself starts, which ends at Ctrl-C in its own way."""

MOMENTS = int(os.environ.get("SIGNAL_MOMENTS", "20"))
NAMES = [name for name in os.environ.get("SIGNAL_COMMANDS", "").split(",") if name] or list(CASES)
RUNS = [
    (name, engine)
    for name in NAMES
    for engine in (("serial", "ray") if CASES[name].on_ray else ("",))
]
KEPT = Path("build/bench/signals.json")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Moment:
    """What became of one command at one moment."""

    command: str
    engine: str
    signal: str
    moment_s: float
    of_s: float
    sent: bool
    code: int | None
    seconds: float
    left: list[str]
    folders: list[str]
    continued: bool


def told(
    command: str,
    engine: str,
    sent: signal.Signals,
    moment: float,
    whole: Ended,
    ended: Ended,
    *,
    continued: bool,
) -> Moment:
    """Return what became of a command at a moment, and print it."""
    about = Moment(
        command,
        engine,
        sent.name,
        round(moment, 2),
        round(whole.seconds, 2),
        ended.sent,
        ended.code,
        round(ended.seconds, 2),
        ended.left,
        ended.folders,
        continued,
    )
    print(*asdict(about).values(), flush=True)
    return about


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short enough for Ray."""
    with tempfile.TemporaryDirectory(prefix="lm", dir="/tmp") as folder:
        yield Path(folder)


def on(engine: str) -> list[object]:
    """Return the options of an engine: its name, or the address of a cluster to join."""
    if ":" in engine:
        return ["--address", engine]
    return ["--engine", engine] if engine else []


def run(case: Case, stores: Stores, folder: Path, engine: str) -> tuple[Place, Ended]:
    """Run a command undisturbed, in a new place."""
    at = begin(case, stores, folder / "p")
    ended = strike(folder, case.call(at) + on(engine))
    assert ended.code == 0, ended.err
    return at, ended


def struck(
    name: str, engine: str, number: signal.Signals, moment: float, stores: Stores
) -> tuple[Ended, object]:
    """Hit a command at a moment, give it again, and return how it ended and what came of it.

    The second time it runs in one process, which stores the same bytes.
    """
    case = CASES[name]
    with tempfile.TemporaryDirectory(prefix="lm", dir="/tmp") as folder:
        at = begin(case, stores, Path(folder) / "p")
        call = case.call(at)
        # A terminal sends Ctrl-C to all processes of the command, a scheduler to the first one.
        group = number == signal.SIGINT
        ended = strike(Path(folder), call + on(engine), moment, number, group=group)
        again = strike(Path(folder), call + on("serial" if engine else ""))
        assert again.code == 0, (name, engine, moment, ended.err, again.err)
        return ended, case.result(at)


def check(ended: Ended, number: signal.Signals, about: object) -> None:
    """Check that a command ended as it is promised."""
    assert ended.seconds < BOUND_S or not ended.sent, (about, ended)
    assert (ended.left, ended.folders) == ([], []), (about, ended)
    assert "Traceback" not in ended.err, (about, ended)
    # One that was done as the signal came ends as such.
    done = ended.code == 0 and (not ended.sent or ended.seconds < 2)
    assert done or ended.code == 128 + number, (about, ended)
    # As Python itself ends it hears no signal any more, and the kernel ends it without a word.
    if ended.code and ended.err and ended.seconds > 0.1:
        assert ended.err.splitlines()[-1].endswith("the same command continues"), (about, ended)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "number", "moment"),
    [("status", signal.SIGINT, 0.3), ("index", signal.SIGTERM, 3.0)],
)
def test_a_command_that_is_asked_to_end_does(
    stores: Stores, name: str, number: signal.Signals, moment: float
) -> None:
    ended, _ = struck(name, "ray" if CASES[name].on_ray else "", number, moment, stores)
    check(ended, number, (name, number, moment))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(("name", "engine"), RUNS, ids=[" ".join(run).strip() for run in RUNS])
def test_at_any_moment_a_command_ends_and_leaves_nothing_and_continues(
    stores: Stores, place: Path, name: str, engine: str
) -> None:
    case = CASES[name]
    run(case, stores, place, engine)  # fills caches
    shutil.rmtree(place / "p")
    at, whole = run(case, stores, place, engine)
    wanted, chance = case.result(at), seeded(f"{name} {engine}")
    found = []
    for number in range(MOMENTS):
        sent, moment = SIGNALS[number % 3], chance.uniform(BEGUN_S, whole.seconds)
        ended, result = struck(name, engine, sent, moment, stores)
        found.append(told(name, engine, sent, moment, whole, ended, continued=result == wanted))
    keep(found)
    for each in found:
        assert each.continued, each
        assert (each.left, each.folders) == ([], []), each
        assert each.seconds < BOUND_S or not each.sent, each
        assert each.code == 128 + signal.Signals[each.signal] or not each.code, each


@pytest.mark.slow
def test_at_any_moment_a_command_on_a_cluster_that_it_joined_ends_and_its_workers_too(
    ray_switch: RaySwitch, stores: Stores, place: Path
) -> None:
    case, chance, found = CASES["index"], seeded("joined"), []
    ray_switch.close()
    with own_token():
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 10**8}
        )
        try:
            at, whole = run(case, stores, place, cluster.address)
            for number in range(min(MOMENTS, 10)):
                sent, moment = SIGNALS[number % 3], chance.uniform(BEGUN_S, whole.seconds)
                ended, result = struck("index", cluster.address, sent, moment, stores)
                ends = time.monotonic() + 10
                while workers(cluster) and time.monotonic() < ends:
                    time.sleep(0.1)
                ended = replace(ended, left=[*ended.left, *workers(cluster)])
                assert result == case.result(at)
                check(ended, sent, (sent, moment))
                found.append(told("index", "joined", sent, moment, whole, ended, continued=True))
                assert ended.left == []
        finally:
            cluster.shutdown()
    keep(found)


def workers(cluster: Cluster) -> list[str]:
    """Return the names of the workers of ours that run on a cluster of one machine."""
    raylet = cluster.head_node.all_processes["raylet"][0].process.pid
    names = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            before, _, after = path.read_text(errors="replace").rpartition(")")
            if int(after.split()[1]) == raylet:
                names.append(before.partition("(")[2])
    return [name for name in names if name.startswith("ray::Worker")]


def keep(found: list[Moment]) -> None:
    """Add to what is kept, instead of what was found before of the same command and engine."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(KEPT.read_text()) if KEPT.exists() else []
    mine = (found[0].command, found[0].engine)
    others = [each for each in before if (each["command"], each["engine"]) != mine]
    KEPT.write_text(json.dumps([*others, *map(asdict, found)], indent=1))
