"""Metrics given to Ray, whose agent on every node of a cluster serves them to Prometheus.

Ray puts `ray_` before each name, and adds labels of its own such as the node.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lamella.pipeline import meters
from lamella.pipeline.meters import Labels, Metric


def tell_ray() -> None:
    """Give Ray all that is added to metrics in this process from now on."""
    meters.listener = _told


@contextmanager
def telling_ray() -> Iterator[None]:
    """Give Ray all that is added to metrics in this process inside the block."""
    tell_ray()
    try:
        yield
    finally:
        meters.listener = None


def _told(metric: Metric, amount: float, labels: Labels, times: int) -> None:
    ours, tags = _of_ray(metric), dict(zip(metric.labels, labels, strict=True))
    if metric.kind == "counter":
        if amount > 0:  # Ray takes no zero
            ours.inc(amount, tags)
    elif metric.kind == "gauge":
        ours.set(amount, tags)
    else:
        for _ in range(times):
            ours.observe(amount, tags)


@functools.cache
def _of_ray(metric: Metric) -> Any:
    from ray.util import metrics

    named = {"name": metric.name, "description": metric.help, "tag_keys": metric.labels}
    if metric.kind == "counter":
        return metrics.Counter(**named)
    if metric.kind == "gauge":
        return metrics.Gauge(**named)
    return metrics.Histogram(boundaries=list(metric.bounds), **named)
