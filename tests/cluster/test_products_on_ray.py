"""The products that settings name reach every process that searches, trains or encodes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import ray

from lamella.cluster.ray.engine import engine
from lamella.cluster.ray.runner import RayRunner
from lamella.cluster.ray.shard_server import RayServers
from lamella.pipeline.errors import InputError
from lamella.pipeline.products import choice
from lamella.schemas.files import DoneRecord
from lamella.schemas.job import EngineSettings
from tests.builders import Item, items, record
from tests.conftest import Indexed


@pytest.fixture(autouse=True)
def nothing_chosen() -> Iterator[None]:
    yield
    choice.forget()


@dataclass(frozen=True)
class Asks:
    """A step whose tasks count whether their process was to use int8."""

    uses_gpu: bool = False
    name: str = "asks"
    stage: str = "asks"
    threads: int | None = None
    at_once: int = 1

    def open(self) -> Callable[[Item], DoneRecord]:
        return lambda task: record(task.key, int8=int(choice.asked() == "int8"))


def asked_in(_: object) -> str:
    return choice.asked()


def test_an_engine_sets_them_in_this_process() -> None:
    with engine(EngineSettings(kind="serial", products="bfloat16")):
        assert choice.asked() == "bfloat16"
    with engine(EngineSettings(kind="serial")):
        assert choice.asked() == "auto"


@pytest.mark.usefixtures("two_cpus")
def test_workers_and_shard_servers_have_them(indexed: Indexed) -> None:
    choice.use("int8")
    with RayRunner() as runner:
        (outcome,) = runner.run(Asks(), items(1))
        assert outcome.record is not None
        assert outcome.record.counts == {"int8": 1}
    with RayServers(str(indexed.store), indexed.snapshot, servers=1) as servers:
        (actor,) = servers._actors
        assert ray.get(actor.__ray_call__.remote(asked_in)) == "int8"


def test_an_open_index_takes_them_or_says_which_there_are(indexed: Indexed) -> None:
    import lamella

    with pytest.raises(InputError, match=r"products are float32, .*; got 'int4'"):
        lamella.open(indexed.store, products="int4")  # type: ignore[arg-type]
    with lamella.open(indexed.store) as index:
        plain = index.query(ids=index.images()["image_id"].to_pylist()[:3], k=5)
    with lamella.open(indexed.store, products="int8") as index:
        assert choice.asked() == "int8"
        found = index.query(ids=index.images()["image_id"].to_pylist()[:3], k=5)
    assert found.to_arrow().equals(plain.to_arrow())
