"""Rankings are the same files however the corpus is cut, and whatever serves its segments.

Files are compared by SHA-256, of runs over three snapshots of one corpus that differ in nothing
but the size of their segments. Rankings do not name their snapshot. A run's record does, and its
inputs are a digest over it: so `run`, `snapshot`, `inputs` and the names of attempts are others in
every cell of the matrix, and nothing else is.
"""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from lamella.cluster.commands.query import Queries
from lamella.cluster.ray.engine import Engine
from lamella.cluster.ray.shard_server import RayServers, ShardServer
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.store.protocol import Store
from lamella.schemas.query import SearchMode, Weighting
from lamella.schemas.rankings import QueryRun
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import index_into, small_job
from tests.end_to_end.commands import query_store

IN_PROCESS = Engine(SerialRunner(), lambda: 1, search_on="cpu")
SEGMENTS = {1: 48, 2: 64, 4: 16}
"""How many images a segment is to have where 6 shards of 48 are cut into 1, 2 and 4."""
ASKED: list[tuple[str, SearchMode]] = [
    ("snapshot", "exact"),
    ("snapshot", "candidates"),
    ("snapshot", "paper"),
    ("pictures", "exact"),
]
ASKED_LAST = {"exact": "exact", "candidates": "proposals", "paper": "proposals"}
"""What servers are asked last for a batch in each mode."""


Expected = dict[tuple[str, SearchMode], QueryRun]


@dataclass(frozen=True)
class Made:
    """The pictures, a store of theirs, and its snapshot of each number of segments."""

    pictures: Path
    store: Path
    snapshots: dict[int, IndexSnapshot]


@pytest.fixture(scope="session")
def made(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = tmp_path_factory.mktemp("matrix") / "store"
    snapshots = {
        segments: index_into(
            store,
            planted,
            job=small_job(corpus__shard_images=8, index__segment_images=images),
        )
        for segments, images in SEGMENTS.items()
    }
    assert [len(each.segments) for each in snapshots.values()] == list(SEGMENTS)
    assert len({each.root_digest for each in snapshots.values()}) == len(SEGMENTS)
    return Made(planted, store, snapshots)


def ask(
    made: Made, engine: Engine, segments: int, asked: str, mode: SearchMode, label: str
) -> QueryRun:
    """Return the run that answers 48 queries in 6 batches over so many segments.

    Indexed pictures are left out of their own answers.
    """
    job = small_job(
        search__k=10,
        search__batch_queries=8,
        search__mode=mode,
        search__candidates=12,
        search__exclude_self=asked == "snapshot",
    )
    queries = Queries(
        str(made.pictures) if asked == "pictures" else asked,
        into=f"{label}-{segments}-{asked}-{mode}",
    )
    number = made.snapshots[segments].number
    answered = query_store(engine, str(made.store), job, queries, number=number, quiet=True)
    assert (answered.queries, len(answered.run.rankings)) == (48, 6)
    return answered.run


def sha256s(run: QueryRun) -> list[str]:
    return [file.sha256 for file in run.rankings]


def equal(made: Made, segments: int, run: QueryRun, wanted: QueryRun) -> None:
    """Compare two runs: files by SHA-256, and what their records say of them."""
    assert run.snapshot == made.snapshots[segments].root_digest
    assert sha256s(run) == sha256s(wanted)
    assert told(run) == told(wanted)


def told(run: QueryRun) -> dict[str, Any]:
    """Return what a run's record says beside its name, its snapshot and its files."""
    return run.model_dump(exclude={"run", "snapshot", "inputs", "rankings", "refusals"})


@pytest.fixture(scope="session")
def expected(made: Made) -> Expected:
    """What this process answers over one segment."""
    runs = {each: ask(made, IN_PROCESS, 1, *each, "expected") for each in ASKED}
    assert [run.certified for run in runs.values()] == [48, 0, 0, 48]
    return runs


@dataclass(frozen=True)
class Served(Engine):
    """An engine whose segments are held by shard servers that are open."""

    servers: RayServers | None = None

    @contextmanager
    def coordinator(
        self, store: Store, snapshot: IndexSnapshot, weighting: Weighting
    ) -> Iterator[Coordinator]:
        assert self.servers is not None
        yield Coordinator(self.servers, snapshot.indexed)


def in_actor(actor: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives for a server, inside its process."""
    return ray.get(actor.__ray_call__.remote(function, *arguments))


def node_of(server: ShardServer) -> str:
    return str(ray.get_runtime_context().get_node_id())


def lay_mine(server: ShardServer, question: str) -> None:
    """Have a server die at the third batch, with the question in its hands."""
    answer, batches = getattr(server._searcher, question), itertools.count(1)

    def answer_or_die(*arguments: Any) -> Any:
        if next(batches) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer(*arguments)

    setattr(server._searcher, question, answer_or_die)


@pytest.mark.ray  # which share what is made here
@pytest.mark.parametrize("segments", [2, 4])
def test_one_process_gives_the_files_of_one_segment(
    made: Made, expected: Expected, segments: int
) -> None:
    for each, wanted in expected.items():
        equal(made, segments, ask(made, IN_PROCESS, segments, *each, "process"), wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_a_server_that_is_killed_changes_no_file(made: Made, expected: Expected) -> None:
    some = {each: expected[each] for each in ASKED[:2]}
    _serve_and_compare(made, some, 3, 4, killed=True)


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("servers", "segments", "killed"),
    [
        (3, 4, True),
        (1, 4, False),
        (1, 1, False),
        (1, 2, True),
        (3, 4, False),
    ],
)
def test_servers_on_one_node_give_the_files_of_one_process(
    made: Made, expected: Expected, servers: int, segments: int, killed: bool
) -> None:
    _serve_and_compare(made, expected, servers, segments, killed)


@pytest.mark.slow
@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize("killed", [True, False])
def test_servers_on_two_nodes_give_the_files_of_one_process(
    made: Made, expected: Expected, killed: bool
) -> None:
    _serve_and_compare(made, expected, 3, 4, killed)


def _serve_and_compare(
    made: Made, expected: Expected, count: int, segments: int, killed: bool
) -> None:
    """Ask servers all that is expected; where one is killed, in the middle of each run."""
    nodes = len([node for node in ray.nodes() if node["Alive"]])
    with RayServers(str(made.store), made.snapshots[segments], servers=count) as servers:
        assert sum(servers.ask("ready")) == 48  # and all are open
        assert len({in_actor(actor, node_of) for actor in servers._actors}) == nodes
        engine = Served(SerialRunner(), lambda: 1, search_on="cpu", servers=servers)
        for (asked, mode), wanted in expected.items():
            last = servers._actors[-1]
            if killed:
                in_actor(last, lay_mine, ASKED_LAST[mode])
            label = f"ray-{nodes}-{count}-{killed:d}-{len(expected)}"
            equal(made, segments, ask(made, engine, segments, asked, mode, label), wanted)
            assert (servers._actors[-1] is not last) == killed
