"""Metrics given to Prometheus: served while a job runs, and pushed when it has ended."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, pushadd_to_gateway, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lamella.pipeline import events, meters
from lamella.pipeline.errors import InputError, one_line

HOST = "LAMELLA_METRICS_HOST"
"""The variable with the address to serve on, 127.0.0.1 by default."""

PUSH_TIMEOUT_S = 5.0


class _Values(Collector):
    """Gives the values of `meters` at the time of a scrape."""

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        for metric in meters.METRICS.values():
            if metric.kind == "histogram":
                yield _histogram(metric)
                continue
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            found = family(metric.name, metric.help, labels=metric.labels)
            for labels, value in meters.values(metric).items():
                found.add_metric(labels, value)
            yield found


def _histogram(metric: meters.Metric) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, found in meters.histograms(metric).items():
        bounds = [*map(str, metric.bounds), "+Inf"]
        so_far = [sum(found.counts[: n + 1]) for n in range(len(bounds))]
        family.add_metric(labels, list(zip(bounds, so_far, strict=True)), found.total)
    return family


def registry() -> CollectorRegistry:
    """Return all metrics of this process, for prometheus_client."""
    made = CollectorRegistry()
    made.register(_Values())
    return made


@contextmanager
def served(port: int | None) -> Iterator[None]:
    """Serve the metrics over HTTP inside the block; do nothing without a port.

    Raises:
        InputError: the port cannot be listened on.
    """
    if port is None:
        yield
        return
    host = os.environ.get(HOST) or "127.0.0.1"
    try:
        server, thread = start_http_server(port, host, registry())
    except OSError as error:
        raise InputError(
            f"--metrics-port {port} cannot be served on {host} ({error.strerror or error}): give "
            f"a port that is free, or another address in {HOST}"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def push(url: str, group: Mapping[str, str]) -> None:
    """Push the metrics to a gateway. One that is away is told as an event: the job has ended."""
    try:
        pushadd_to_gateway(url, "lamella", registry(), dict(group), timeout=PUSH_TIMEOUT_S)
    except Exception as error:  # also those of http.client, for an address that is none
        events.warning(
            "metrics-not-pushed",
            f"--push {url}: {one_line(error)}; the job itself is not touched by that: look at the "
            "gateway, Prometheus goes on with what it had",
        )
