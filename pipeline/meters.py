"""Metrics of a running job, under the names that Prometheus knows them by.

Any code adds to the metrics below. What a worker adds travels to the driver with the reply to its
task (`take`, `merge`), so the driver has the totals of the whole job. The driver serves and pushes
them (`cluster/commands/metrics_export.py`); on a joined Ray cluster Ray's own agents serve them too
(`cluster/ray/ray_meters.py`).

A task that is tried twice adds twice. `PICTURES` and `TASKS` are added by the driver, once.
"""

import bisect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Labels = tuple[str, ...]
Added = Mapping[tuple[str, Labels], float]
"""What was added to counters, by metric and the values of its labels."""


@dataclass(frozen=True)
class Metric:
    """A metric: its name and kind, what it tells, and the names of its labels.

    Attributes:
        bounds: of a histogram, the upper bounds of its buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()

    def add(self, number: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        _changed(self, number, self._values(labels))

    def set(self, value: float, **labels: str) -> None:
        """Set a gauge."""
        _changed(self, value, self._values(labels))

    def observe(self, value: float, times: int = 1, /, **labels: str) -> None:
        """Count a value in a histogram, as often as it was met."""
        _changed(self, value, self._values(labels), times)

    def _values(self, labels: Mapping[str, str]) -> Labels:
        if labels.keys() != set(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(labels)}")
        return tuple(labels[name] for name in self.labels)


@dataclass
class Histogram:
    """How often values were met: at most each bound but above the one before, then above all."""

    counts: list[int]
    total: float = 0.0


METRICS: dict[str, Metric] = {}
"""All metrics, by name."""


def _metric(metric: Metric) -> Metric:
    METRICS[metric.name] = metric
    return metric


def _counter(name: str, help: str, *labels: str) -> Metric:
    return _metric(Metric(f"lamella_{name}", "counter", help, labels))


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return _metric(Metric(f"lamella_{name}", "gauge", help, labels))


PICTURES = _counter(
    "pictures_total", "Pictures that a stage is done with, by the state it left them in.",
    "stage", "state",
)  # fmt: skip
REFUSED = _counter("refused_total", "Pictures refused by tasks of this job, by reason.", "reason")
TASKS = _counter("tasks_total", "Tasks: done, retried or failed.", "stage", "outcome")
TASKS_WAITING = _gauge("tasks_waiting", "Tasks that wait for a worker.", "stage")
TASKS_RUNNING = _gauge("tasks_running", "Tasks that run.", "stage")
WORKERS = _gauge("workers", "Workers that are ready, with a card (gpu) or without (cpu).", "kind")
WORKERS_LOST = _counter("workers_lost_total", "Workers that died, hung or did not start.")
READ_BYTES = _counter(
    "read_bytes_total",
    "Bytes read: of pictures (source), of objects in S3 for any use (s3).",
    "place",
)
STORED_BYTES = _counter("stored_bytes_total", "Bytes of files that tasks stored.")
WAITING = _counter(
    "waiting_seconds_total",
    "Seconds that threads waited: for the source's next picture, for a store that does not "
    "answer, for the first worker.",
    "cause",
)
GPU_BUSY = _counter("gpu_busy_seconds_total", "Seconds in which a card computed passes.")
GPU_HELD = _counter("gpu_held_seconds_total", "Seconds in which a worker with a card had a task.")
S3_REQUESTS = _counter(
    "s3_requests_total", "Requests to S3: ok, retried or failed.", "operation", "outcome"
)
QUERIES = _counter("queries_total", "Queries, by whether they were answered.", "state")
QUERY_SECONDS = _metric(
    Metric(
        "lamella_query_seconds",
        "histogram",
        "Seconds a query: those of its batch, divided by the batch's queries.",
        bounds=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    )
)
REQUESTS = _counter(
    "requests_total", "Requests that `lamella serve` answered, by route and status.",
    "route", "code",
)  # fmt: skip
REQUEST_SECONDS = _metric(
    Metric(
        "lamella_request_seconds",
        "histogram",
        "Seconds from the head of a request to the end of its answer.",
        ("route",),
        bounds=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    )
)
REQUESTS_WAITING = _gauge("requests_waiting", "Requests in the queue of `lamella serve`.")
REQUESTS_REJECTED = _counter(
    "requests_rejected_total", "Requests that were turned away because the queue was full."
)
QUERIES_TOGETHER = _metric(
    Metric(
        "lamella_queries_together",
        "histogram",
        "Queries that `lamella serve` answered in one call of its index.",
        bounds=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
    )
)
GATE_VERDICTS = _counter(
    "gate_verdicts_total", "Snapshots by what their gate said: passed, failed or unjudged.",
    "verdict",
)  # fmt: skip
SNAPSHOT_PUBLISHED = _gauge(
    "snapshot_published_timestamp_seconds",
    "Unix time at which the current snapshot was made.",
    "store",
)
SNAPSHOT_NUMBER = _gauge("snapshot_number", "Number of the current snapshot.", "store")
SNAPSHOT_PICTURES = _gauge("snapshot_pictures", "Pictures in the current snapshot.", "store")
JOB_STARTED = _gauge(
    "job_started_timestamp_seconds", "Unix time at which the job began.", "command"
)
JOB_SUCCEEDED = _gauge(
    "job_succeeded_timestamp_seconds", "Unix time at which the command last ended well.", "command"
)
JOB_ENDED = _gauge("job_ended_timestamp_seconds", "Unix time at which the job ended.", "command")
JOB_EXIT_CODE = _gauge("job_exit_code", "Exit code of the job.", "command")


@dataclass
class _Totals:
    """The values of this process."""

    numbers: dict[tuple[str, Labels], float] = field(default_factory=dict)
    histograms: dict[tuple[str, Labels], Histogram] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_totals = _Totals()

listener: Callable[[Metric, float, Labels, int], None] | None = None
"""Told each change of this process: metric, amount or value, values of labels, times."""


def _changed(metric: Metric, amount: float, labels: Labels, times: int = 1) -> None:
    key = metric.name, labels
    with _totals.lock:
        if metric.kind == "histogram":
            found = _totals.histograms.setdefault(key, Histogram([0] * (len(metric.bounds) + 1)))
            found.counts[bisect.bisect_left(metric.bounds, amount)] += times
            found.total += amount * times
        elif metric.kind == "gauge":
            _totals.numbers[key] = amount
        else:
            _totals.numbers[key] = _totals.numbers.get(key, 0.0) + amount
    if listener is not None:
        listener(metric, amount, labels, times)


def take() -> Added:
    """Return what was added to counters in this process since the last call, and start anew."""
    with _totals.lock:
        taken = {
            key: value
            for key, value in _totals.numbers.items()
            if METRICS[key[0]].kind == "counter"
        }
        for key in taken:
            del _totals.numbers[key]
    return taken


def merge(added: Added) -> None:
    """Add what a worker has added; the listener is not told, for the worker's own was."""
    with _totals.lock:
        for key, number in added.items():
            _totals.numbers[key] = _totals.numbers.get(key, 0.0) + number


def values(metric: Metric) -> dict[Labels, float]:
    """Return the values of a counter or a gauge, by the values of its labels."""
    with _totals.lock:
        return {
            labels: value
            for (name, labels), value in _totals.numbers.items()
            if name == metric.name
        }


def histograms(metric: Metric) -> dict[Labels, Histogram]:
    """Return copies of the histograms of a metric, by the values of its labels."""
    with _totals.lock:
        return {
            labels: Histogram(list(found.counts), found.total)
            for (name, labels), found in _totals.histograms.items()
            if name == metric.name
        }


def reset() -> None:
    """Forget all values, as at the begin of a command."""
    with _totals.lock:
        _totals.numbers.clear()
        _totals.histograms.clear()
