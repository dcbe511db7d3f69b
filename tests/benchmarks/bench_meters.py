"""What metrics and events cost the work that they tell of, and what a scrape costs."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from lamella.cluster.commands import logs
from lamella.cluster.commands.metrics_export import served
from lamella.pipeline import events, meters
from lamella.pipeline.meters import PICTURES
from tests.benchmarks.record import Measurement, write_record
from tests.prometheus import free_port

TIMES, ROUNDS, SCRAPES, VALUES = 20_000, 5, 50, 20

pytestmark = pytest.mark.bench


@pytest.fixture(autouse=True)
def _of_no_one_else() -> Iterator[None]:
    meters.reset()
    yield
    meters.reset()
    logs.begin(None, None)


def rate(call: Callable[[], object], times: int) -> float:
    """Return the calls a second, the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            call()
        best = max(best, times / (time.perf_counter() - began))
    return best


def test_adding(capsys: pytest.CaptureFixture[str]) -> None:
    theirs = Counter("pictures", "Pictures.", ["stage", "state"], registry=CollectorRegistry())
    ours_a_second = rate(lambda: PICTURES.add(1, stage="extract", state="indexed"), TIMES)
    theirs_a_second = rate(lambda: theirs.labels(stage="extract", state="indexed").inc(1), TIMES)
    logs.begin("json", "info")
    told = rate(lambda: events.info("task-done", stage="extract", shard="1", indexed=498), 2_000)
    logs.begin("json", "warning")
    untold = rate(lambda: events.info("task-done", stage="extract", shard="1", indexed=498), TIMES)
    capsys.readouterr()
    found = [
        Measurement(
            "add to a counter with two labels",
            {"adds": TIMES},
            ours_a_second,
            theirs_a_second,
            "prometheus_client",
            "adds/s",
        ),
        Measurement(
            "an event below the level, beside one as JSON",
            {"events": TIMES},
            untold,
            told,
            "the same event told",
            "events/s",
        ),
    ]
    print(*found, sep="\n")
    write_record("meters.json", found)


def test_a_scrape() -> None:
    """Every metric with 20 values of each label."""
    for metric in meters.METRICS.values():
        for number in range(VALUES if metric.labels else 1):
            labels = {name: f"{name} {number}" for name in metric.labels}
            if metric.kind == "counter":
                metric.add(1.0, **labels)
            elif metric.kind == "gauge":
                metric.set(1.0, **labels)
            else:
                metric.observe(1.0, **labels)
    port = free_port()
    with served(port):
        address = f"http://127.0.0.1:{port}/metrics"
        page = urllib.request.urlopen(address).read()
        a_second = rate(lambda: urllib.request.urlopen(address).read(), SCRAPES)
    print(json.dumps({"bytes": len(page), "ms a scrape": 1000 / a_second}))
