"""What workers say and count arrives at the driver, and on a joined cluster at Ray's agents."""

import logging
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import ray

from lamella.cluster.ray.reports import telling_ray
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline import events, meters
from lamella.pipeline.meters import REFUSED
from lamella.schemas.files import DoneRecord


@dataclass(frozen=True)
class Named:
    """A task."""

    key: str


@dataclass(frozen=True)
class Refuses:
    """A step whose tasks refuse one picture each, and say so."""

    name: str = "refuses"
    stage: str = "extract"
    uses_gpu: bool = False
    threads: int | None = None
    at_once: int = 1

    def open(self) -> Callable[[Named], DoneRecord]:
        def run(task: Named) -> DoneRecord:
            REFUSED.add(reason="too-slow")
            events.info("picture-refused", "too-slow", picture=f"{task.key}.jpg")
            return DoneRecord(
                stage="extract", key=task.key, inputs="", files={}, counts={}, commit_id=task.key
            )

        return run


@pytest.fixture(autouse=True)
def _of_no_one_else(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    meters.reset()
    with caplog.at_level(logging.INFO, logger="lamella"):
        yield
    meters.reset()


def ran(tasks: int) -> None:
    with RayRunner() as runner:
        outcomes = list(runner.run(Refuses(), [Named(str(n)) for n in range(tasks)]))
    assert all(outcome.record is not None for outcome in outcomes)


@pytest.mark.usefixtures("two_cpus")
def test_the_driver_hears_its_workers_with_their_node(caplog: pytest.LogCaptureFixture) -> None:
    ran(6)
    assert meters.values(REFUSED) == {("too-slow",): 6}
    told = [record for record in caplog.records if "picture-refused" in record.getMessage()]
    fields = [record.fields for record in told]  # type: ignore[attr-defined]
    assert sorted(each["picture"] for each in fields) == [f"{n}.jpg" for n in range(6)]
    assert {(each["stage"], bool(each["node"])) for each in fields} == {("extract", True)}


@pytest.mark.slow
@pytest.mark.usefixtures("two_nodes")
def test_agents_of_a_joined_cluster_serve_what_workers_and_driver_count() -> None:
    with telling_ray():
        ran(4)
        meters.TASKS.add(4, stage="extract", outcome="done")
    found = scraped("ray_lamella_refused_total", 4)
    assert all('reason="too-slow"' in line for line in found)
    assert meters.values(REFUSED) == {("too-slow",): 4}
    assert scraped("ray_lamella_tasks_total", 4)  # of the driver


def scraped(name: str, total: int) -> list[str]:
    """Return the series of a metric, once those of all nodes have this total: agents are slow."""
    until, found = time.monotonic() + 60, list[str]()
    while time.monotonic() < until:
        found = [
            line
            for node in ray.nodes()
            for line in _lines(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}")
            if line.startswith(f"{name}{{")
        ]
        if sum(float(line.split()[-1]) for line in found) == total:
            return found
        time.sleep(0.2)
    raise AssertionError(f"agents serve {found}, and not {name} with {total}")


def _lines(address: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=5) as reply:
            return str(reply.read().decode()).splitlines()
    except OSError:
        return []
