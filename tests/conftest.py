"""Shared and dear: a small planted corpus, its index, tiny stores, and one Ray at a time."""

import functools
import gc
import logging
import os
import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.pipeline.planted.generate import generate
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import index_into
from tests.s3 import S3Server, environ, environment, make_bucket
from tests.tiny import LONG_AGO_NS, nothing_reaches_the_disk

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

    from tests.end_to_end.commands import Stores

# Workers and children that run a function of a test find it here, wherever they stand.
ROOT = str(Path(__file__).parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))


@dataclass(frozen=True)
class Indexed:
    """A source, the store it was indexed into by one thread, and the snapshot."""

    source: Path
    store: Path
    snapshot: IndexSnapshot


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 pictures: 12 objects in 4 views."""
    folder = tmp_path_factory.mktemp("planted") / "pictures"
    generate(folder, objects=12, views=4)
    for path in folder.rglob("*.jpg"):  # what is written right before a listing is read again
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return folder


@pytest.fixture(scope="session")
def indexed(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """The planted corpus, indexed in this process by one thread. Read it, copy it, keep it."""
    store = tmp_path_factory.mktemp("indexed") / "store"
    return Indexed(planted, store, index_into(store, planted, threads=1))


@pytest.fixture(scope="session")
def _all_stores(tmp_path_factory: pytest.TempPathFactory) -> "Stores":
    from tests.end_to_end.commands import make_stores

    return make_stores(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def stores(_all_stores: "Stores") -> Iterator["Stores"]:
    """Tiny stores, to be read and copied; and commands over their like are quick meanwhile."""
    from tests.end_to_end.commands import contents, tiny_runs

    before = contents(_all_stores)
    with tiny_runs():
        yield _all_stores
    assert contents(_all_stores) == before, "a test of this file wrote where all tests read"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on this machine, with the environment that reaches it."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        with environ(environment(server.endpoint)):
            yield server
    finally:
        server.kill()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copies of stored files go to a folder of the tests, never to a person's."""
    with environ({"LAMELLA_CACHE": str(tmp_path_factory.mktemp("cache"))}):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_beats() -> Iterator[None]:
    """What a command leaves in a store must not depend on whether it took 10 s on this machine."""
    with environ({"LAMELLA_BEAT_S": "0"}):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """The machine stays up, and a flush of a disk takes longer than all else that a write does.

    That writes call for it is seen to in contracts/test_store.py.
    """
    with nothing_reaches_the_disk():
        yield


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server, request: pytest.FixtureRequest) -> str:
    """A bucket for the tests of one module."""
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    return make_bucket(f"{name}-{secrets.token_hex(4)}")


@contextmanager
def _two_cpus() -> Iterator[None]:
    from lamella.cluster.ray.connect import connected

    with connected(cpus=2):
        yield


@contextmanager
def _four_cpus() -> Iterator[None]:
    from lamella.cluster.ray.connect import connected

    with connected(cpus=4):
        yield


@contextmanager
def _two_gpus() -> Iterator[None]:
    import ray

    import lamella.cluster.ray.connect  # noqa: F401 - sets what Ray reads when it is imported
    from lamella.cluster.ray.ray_auth import own_token

    with own_token():
        ray.init(
            address="local",  # whatever other Ray there is on this machine
            num_cpus=4,
            num_gpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=100 * 1024**2,
        )
        try:
            yield
        finally:
            ray.shutdown()


def _wait_until_each_node_works() -> None:
    """Ray lists a node before it sends anything there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(lambda: None)
    strategies = [
        NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()
    ]
    ray.get([look.options(scheduling_strategy=each).remote() for each in strategies], timeout=60)


NODE = {"num_cpus": 1, "object_store_memory": 100 * 1024**2, "include_dashboard": False}
"""What a Ray node of one CPU is started with. A dashboard would be ten more processes."""


@contextmanager
def _two_nodes() -> Iterator[None]:
    from ray.cluster_utils import Cluster

    from lamella.cluster.ray.connect import connected
    from lamella.cluster.ray.ray_auth import own_token

    with own_token():
        nodes = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            nodes.add_node(**NODE)
            nodes.wait_for_nodes()
            with connected(nodes.address):
                _wait_until_each_node_works()
                yield
        finally:
            nodes.shutdown()


_KINDS = {
    "two cpus": _two_cpus,
    "four cpus": _four_cpus,
    "two gpus": _two_gpus,
    "two nodes": _two_nodes,
}


class RaySwitch:
    """Keeps one Ray of one kind; a process can be connected to no more."""

    def __init__(self) -> None:
        self._kind = ""
        self._open: AbstractContextManager[None] | None = None

    def use(self, kind: str) -> None:
        """Be connected to a Ray of this kind, ending the one at hand if it is another."""
        if kind != self._kind:
            self.close()
            self._open = _KINDS[kind]()
            self._open.__enter__()
            self._kind = kind

    def close(self) -> None:
        """End the Ray at hand."""
        self._kind = ""
        if self._open is not None:
            ended, self._open = self._open, None
            ended.__exit__(None, None, None)


_switch = RaySwitch()


@pytest.fixture(scope="session")
def ray_switch() -> Iterator[RaySwitch]:
    yield _switch
    _switch.close()


@pytest.fixture
def two_cpus(ray_switch: RaySwitch) -> None:
    """A Ray of this machine with two CPUs and no GPU."""
    ray_switch.use("two cpus")


@pytest.fixture
def four_cpus(ray_switch: RaySwitch) -> None:
    """A Ray of this machine that counts four CPUs, however many there are."""
    ray_switch.use("four cpus")


@pytest.fixture
def two_gpus(ray_switch: RaySwitch) -> None:
    """A Ray of this machine that declares two GPUs, whether it has them or not."""
    ray_switch.use("two gpus")


@pytest.fixture
def two_nodes(ray_switch: RaySwitch) -> None:
    """Two Ray nodes with a CPU each, on this machine."""
    ray_switch.use("two nodes")


@pytest.fixture
def cluster(ray_switch: RaySwitch) -> Iterator["Cluster"]:
    """A cluster to which this process is connected, of which one machine has one CPU to give."""
    from ray.cluster_utils import Cluster

    from lamella.cluster.ray.connect import connected
    from lamella.cluster.ray.ray_auth import own_token

    ray_switch.close()
    with own_token():
        nodes = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0})
        try:
            nodes.add_node(**NODE)
            nodes.wait_for_nodes()
            with connected(nodes.address):
                yield nodes
        finally:
            nodes.shutdown()


KINDS_IN_ORDER = ("", "two_cpus", "four_cpus", "two_gpus", "two_nodes")


def _ray_of(item: pytest.Item) -> str | None:
    """Return the kind of Ray that a test shares, `""` where it starts its own, None for no Ray."""
    names = getattr(item, "fixturenames", ())
    for kind in KINDS_IN_ORDER[1:]:
        if kind in names:
            return kind
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec is not None else ()
    if any(isinstance(value, str) and value == "ray" for value in values):
        return "two_cpus"
    return "" if "ray_switch" in names or item.get_closest_marker("ray") else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while all is imported, nor later in what is: it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that share a Ray follow each other: starting one takes seconds."""
    items.sort(key=lambda item: _place(_ray_of(item)))


def _place(ray: str | None) -> int:
    return len(KINDS_IN_ORDER) if ray is None else KINDS_IN_ORDER.index(ray)


SAYS_RAY = re.compile(
    r"\b(cluster: Cluster|two_cpus|four_cpus|two_gpus|two_nodes|ray_switch|mark\.ray)\b"
)


@functools.cache
def _is_on_ray(file: Path) -> bool:
    return SAYS_RAY.search(file.read_text()) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the Ray at hand before a file that uses none: its processes take time even when idle."""
    if _ray_of(item) is None and not _is_on_ray(item.path):
        _switch.close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run on several processes: one runs all files with tests on Ray, first of all."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "on Ray" if _is_on_ray(config.rootpath / file) else file

    return ByFile(config, log)
