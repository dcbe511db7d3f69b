"""A first index and a night as a service has them: two Ray nodes, S3, Prometheus scraping both.

`SERVICE_OBJECTS` (60) objects are planted in four views each; over night three objects come and one
goes. Every figure of Prometheus is held against what the job itself says.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
from s3fs import S3FileSystem

from lamella.pipeline.planted.generate import generate
from tests.benchmarks.record import write_json
from tests.prometheus import (
    asked,
    awaited,
    free_port,
    needs_prometheus,
    needs_pushgateway,
    prometheus,
    running,
)
from tests.s3 import upload

OBJECTS = int(os.environ.get("SERVICE_OBJECTS", "60"))
COMES, GOES = 3, 1

pytestmark = pytest.mark.bench


def lamella(*given: object) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """Run a command; return what it printed, its events, and its seconds."""
    began = time.perf_counter()
    said = subprocess.run(
        [sys.executable, "-m", "lamella", *map(str, given), "--log", "json", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    events = [json.loads(line) for line in said.stderr.splitlines()]
    return json.loads(said.stdout), events, time.perf_counter() - began


def total(address: str, query: str) -> float:
    return sum(value for _, value in asked(address, query))


@needs_prometheus
@needs_pushgateway
def test_a_night_under_prometheus(bucket: str, two_nodes: None, tmp_path: Path) -> None:
    pictures, new, gateway = tmp_path / "pictures", tmp_path / "new", f"127.0.0.1:{free_port()}"
    generate(pictures, objects=OBJECTS + COMES)
    new.mkdir()
    folders = sorted(pictures.iterdir())
    for each in folders[-COMES:]:
        shutil.move(each, new / each.name)
    source, store = upload(pictures, f"s3://{bucket}/pictures"), f"s3://{bucket}/store"
    agents = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes()]
    engine = ("--address", ray.get_runtime_context().gcs_address, "--push", f"http://{gateway}")
    pushed = ["prometheus-pushgateway", f"--web.listen-address={gateway}"]
    job = tmp_path / "job.toml"
    job.write_text("[gate]\ndrift = 3\n")  # words of so few pictures do not fit new ones well
    with (
        running(pushed, f"http://{gateway}/-/ready"),
        prometheus(tmp_path, [*agents, gateway]) as seen,
    ):
        first = measured(seen, agents, "index", source, "--into", store, "--job", job, *engine)
        upload(new, source)
        for each in folders[:GOES]:
            S3FileSystem(skip_instance_cache=True).rm(f"{source}/{each.name}", recursive=True)
        night = measured(seen, agents, "reindex", store, *engine)
    figures = {"pictures": OBJECTS * 4, "first": first, "night": night}
    print(json.dumps(figures, indent=2))
    write_json("service.json", figures)


def measured(seen: str, agents: list[str], command: str, *given: object) -> Mapping[str, Any]:
    """Run a job; return what it says of itself, and what Prometheus says of it."""
    made, events, seconds = lamella(command, *given)
    done = [each for each in events if each["event"] == "task-done"]
    extracted = [each for each in done if each["stage"] == "extract"]
    indexed = sum(each["indexed"] for each in extracted)
    # The gateway's numbers are those of the last job of a command.
    state = f'lamella_pictures_total{{stage="extract",state="indexed",command="{command}"}}'
    awaited(seen, f"{state} == {indexed}")
    tasks = f'lamella_tasks_total{{outcome="done",command="{command}"}}'
    assert total(seen, tasks) == len(done)
    agent = "max_over_time(ray_lamella_read_bytes_total[30m])"
    nodes = {labels["instance"] for labels, _ in asked(seen, agent)}
    return {
        "seconds": round(seconds, 1),
        "indexed": made["indexed"],
        "through extraction": indexed,
        "tasks": len(done),
        "events": len(events),
        "nodes that Prometheus saw work": len(nodes & set(agents)),
        "read MB": round(
            total(seen, f'lamella_read_bytes_total{{place="source",command="{command}"}}') / 1e6, 1
        ),
        "S3 requests": total(seen, f'lamella_s3_requests_total{{command="{command}"}}'),
        "series of ours": len(asked(seen, '{__name__=~"lamella_.*"}')),
        "series of a scrape": {
            labels["instance"]: value for labels, value in asked(seen, "scrape_samples_scraped")
        },
        "seconds of a scrape": {
            labels["instance"]: round(value, 4)
            for labels, value in asked(seen, "scrape_duration_seconds")
        },
    }
