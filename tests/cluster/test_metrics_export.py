"""Metrics as Prometheus gets them: scraped while a job runs, and pushed when it has ended."""

import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from lamella.cluster.commands.metrics_export import push, registry, served
from lamella.cluster.commands.observed import job
from lamella.pipeline import meters
from lamella.pipeline.errors import InputError
from tests.command_line import lamella
from tests.end_to_end.commands import Stores
from tests.prometheus import (
    asked,
    awaited,
    free_port,
    needs_prometheus,
    needs_pushgateway,
    prometheus,
    running,
)


@pytest.fixture(autouse=True)
def _of_no_one_else() -> Iterator[None]:
    meters.reset()
    yield
    meters.reset()


def every_metric(value: float) -> None:
    """Give every metric one value, under labels that are odd."""
    for metric in meters.METRICS.values():
        labels = dict.fromkeys(metric.labels, "a b/c")
        if metric.kind == "counter":
            metric.add(value, **labels)
        elif metric.kind == "gauge":
            metric.set(value, **labels)
        else:
            metric.observe(value, **labels)


@needs_prometheus
def test_promtool_finds_nothing_to_mend_in_names_and_types() -> None:
    every_metric(1.0)
    page = generate_latest(registry())
    said = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


@needs_prometheus
def test_a_real_prometheus_has_every_metric_of_a_running_job(tmp_path: Path) -> None:
    every_metric(0.002)
    port = free_port()
    with served(port), prometheus(tmp_path, [f"127.0.0.1:{port}"]) as address:
        awaited(address, "lamella_query_seconds_bucket")
        for metric in meters.METRICS.values():
            name = f"{metric.name}_sum" if metric.kind == "histogram" else metric.name
            ((labels, value),) = asked(address, name)
            assert value == 0.002
            assert {labels[each] for each in metric.labels} <= {"a b/c"}
        # Bounds are those of the values that are at most so large.
        ((_, below),) = asked(address, 'lamella_query_seconds_bucket{le="0.001"}')
        ((_, within),) = asked(address, 'lamella_query_seconds_bucket{le="0.003"}')
        assert (below, within) == (0, 1)


@needs_pushgateway
def test_a_job_that_ends_pushes_what_it_did(stores: Stores, tmp_path: Path) -> None:
    store = shutil.copytree(stores.one, tmp_path / "store")
    port = free_port()
    gateway = f"127.0.0.1:{port}"
    command = ["prometheus-pushgateway", f"--web.listen-address={gateway}"]
    with running(command, f"http://{gateway}/-/ready"):
        said = lamella("reindex", store, "--engine", "serial", "--push", f"http://{gateway}")
        assert (said.returncode, said.stderr.count("not-pushed")) == (0, 0)
        lamella("reindex", store, "--engine", "serial", "--pictures", "/nowhere", "--push", gateway)
        with urllib.request.urlopen(f"http://{gateway}/metrics") as reply:
            lines = reply.read().decode().splitlines()
    (published,) = (line for line in lines if line.startswith("lamella_snapshot_number{"))
    assert published.endswith(" 1")
    assert f'store="{store}"' in published
    (code,) = (line for line in lines if line.startswith("lamella_job_exit_code{"))
    assert 'command="reindex"' in code
    assert code.endswith(" 2")  # of the second, which failed
    (last,) = (
        line for line in lines if line.startswith("lamella_job_succeeded_timestamp_seconds{")
    )
    assert float(last.split()[-1]) > 1.7e9  # the first one's stays


def test_a_gateway_that_is_away_is_told_and_the_job_is_done_all_the_same(
    stores: Stores, tmp_path: Path
) -> None:
    store = shutil.copytree(stores.one, tmp_path / "store")
    gateway = f"http://127.0.0.1:{free_port()}"
    said = lamella("reindex", store, "--engine", "serial", "--push", gateway)
    assert said.returncode == 0
    assert f"metrics-not-pushed: --push {gateway}" in said.stderr
    assert "Connection refused" in said.stderr


def test_an_address_that_is_none_is_told_likewise(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("a\0b", "http://a b", "\udcff"):
        push(address, {})
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert all("metrics-not-pushed: --push" in each for each in told)


def test_a_port_in_use_is_a_wrong_call_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"--metrics-port {port} .* 127\.0\.0\.1 .*free"),
            job("index", "/store", port, None),
        ):
            raise AssertionError("the job has begun")


def test_the_port_is_free_when_the_job_has_ended() -> None:
    port = free_port()
    for _ in range(2):
        with (
            job("index", "/store", port, None),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply,
        ):
            assert "lamella_job_started_timestamp_seconds" in reply.read().decode()
