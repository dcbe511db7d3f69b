"""What processes on other machines say and count: a report with each reply, heard by the driver.

On a cluster that was joined, each process also gives its metrics to Ray, whose agent on every node
serves them to Prometheus. Ray puts `ray_` before each name and adds labels such as the node.
"""

import functools
import logging
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lamella.pipeline import events, meters
from lamella.pipeline.meters import Labels, Metric


@dataclass(frozen=True)
class Report:
    """Events since the last report, and what was added to counters since then."""

    told: tuple[Mapping[str, Any], ...] = ()
    added: meters.Added = field(default_factory=dict)

    def hear(self) -> None:
        """Give the events to this process's handlers, and add the counts to its own."""
        events.replay(self.told)
        meters.merge(self.added)


@dataclass(frozen=True)
class Reporting:
    """How a process of a job reports: the least level of events, and whether Ray is told too."""

    level: int = logging.WARNING
    to_ray: bool = False

    @classmethod
    def like_here(cls) -> "Reporting":
        """Return what the driver, this process, wants of its workers."""
        return cls(events.LOGGER.getEffectiveLevel(), meters.listener is _tell_ray)

    def begun(self) -> "Reports":
        """Begin to report, in the process of a worker or a server."""
        events.always(node=platform.node())
        if self.to_ray:
            meters.listener = _tell_ray
        return Reports(events.collect(self.level))


@dataclass(frozen=True)
class Reports:
    """Gathers the reports of this process."""

    collector: events.Collector

    def take(self) -> Report:
        """Return what is new since the last report."""
        return Report(self.collector.take(), meters.take())


@contextmanager
def telling_ray() -> Iterator[None]:
    """Give Ray all that is added to metrics inside the block, here and in the job's workers."""
    meters.listener = _tell_ray
    try:
        yield
    finally:
        meters.listener = None


def _tell_ray(metric: Metric, amount: float, labels: Labels, times: int) -> None:
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
