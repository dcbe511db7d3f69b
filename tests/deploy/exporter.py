"""Every metric of `meters`, alive: served as Ray's agents do, pushed as a job does at its end."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

from lamella.cluster.commands.metrics_export import push as push_all
from lamella.pipeline import meters
from lamella.pipeline.meters import METRICS

LABELS = {
    "stage": ("extract",),
    "state": ("indexed", "refused", "answered"),
    "reason": ("truncated",),
    "outcome": ("done", "ok", "retried", "failed"),
    "kind": ("cpu", "gpu"),
    "place": ("source", "s3"),
    "cause": ("store", "source"),
    "operation": ("read", "write"),
    "verdict": ("passed", "failed"),
    "store": ("s3://index/photos",),
    "command": ("reindex",),
    "route": ("/query",),
    "code": ("200",),
}
"""Values that each label may have."""

OF_JOBS = {
    "lamella_snapshot_published_timestamp_seconds": -7200.0,
    "lamella_job_started_timestamp_seconds": -7300.0,
    "lamella_job_ended_timestamp_seconds": -7100.0,
    "lamella_job_succeeded_timestamp_seconds": -7100.0,
    "lamella_job_exit_code": 4.0,
    "lamella_snapshot_number": 7.0,
    "lamella_snapshot_pictures": 605.0,
}
"""What a job says at its end; times are counted from now."""

HISTOGRAMS = [name for name, metric in METRICS.items() if metric.kind == "histogram"]
NAMES = frozenset(
    {*METRICS, *(f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count"))}
) - set(HISTOGRAMS)
"""The one list: a dashboard or an alert that asks for another name asks for nothing."""


def label_sets(metric: meters.Metric) -> list[dict[str, str]]:
    """Return all labels that a metric may have here."""
    chosen = itertools.product(*(LABELS[name] for name in metric.labels))
    return [dict(zip(metric.labels, values, strict=True)) for values in chosen]


@contextmanager
def serve(prefix: str) -> Iterator[int]:
    """Serve what a running job measures inside the block, and yield the port.

    Args:
        prefix: before each name: `ray_`, as Ray's agents have it.
    """
    registry = CollectorRegistry()
    kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
    made = {
        name: kinds[metric.kind](prefix + name, metric.help, metric.labels, registry=registry)
        for name, metric in METRICS.items()
        if name not in OF_JOBS
    }
    answer = make_wsgi_app(registry)

    def grow(environment: object, respond: object) -> object:
        """Answer a scrape; each finds that the job went on."""
        for name, metric in made.items():
            for labels in label_sets(METRICS[name]):
                one = metric.labels(**labels) if labels else metric
                if isinstance(one, Histogram):
                    one.observe(0.2)
                else:
                    one.inc()
        return answer(environment, respond)

    with make_server("127.0.0.1", 0, grow, handler_class=_Quiet) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *said: object) -> None:
        """Write no line for each scrape."""


def push(url: str) -> None:
    """Push what a job says at its end, by the code that jobs push with."""
    meters.reset()
    try:
        for name, value in OF_JOBS.items():
            for labels in label_sets(METRICS[name]):
                METRICS[name].set(value + (time.time() if value < 0 else 0.0), **labels)
        meters.GATE_VERDICTS.add(verdict="failed")
        push_all(url, {"command": "reindex", "store": "s3://index/photos"})
    finally:
        meters.reset()
