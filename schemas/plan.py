"""The forecast of a run, measured on some of its pictures before it begins."""

from pydantic import Field

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored
from lamella.schemas.extraction import Precision


class Figure(Stored):
    """A mean and its standard error over the sample; 0 where nothing varied or was sampled."""

    mean: float = Field(ge=0)
    error: float = Field(default=0.0, ge=0)


class PlannedStage(Stored):
    """A stage under the name that a run gives it.

    Attributes:
        steps: seconds a picture of one thread, by step.
        per_second: pictures, on the machine that was probed.
        seconds: for all pictures, on that machine.
        tasks: how many tasks it has; more workers than tasks are of no use.
        basis: what the figures are based on.
        rounds: of a training; 0 for a stage without rounds, and in plans of before.
    """

    name: str
    steps: dict[str, Figure]
    per_second: Figure
    seconds: Figure
    tasks: int = Field(ge=1)
    basis: str
    rounds: int = Field(default=0, ge=0)


class PlannedBytes(Stored):
    """Bytes that a stage stores of one kind; `kept` is False if they go before the run ends."""

    kind: str
    stage: str
    size_bytes: Figure
    kept: bool = True


class ProbedMachine(Stored):
    """Where the probe ran: `workers` tasks at once of `threads` each, `available_bytes` free."""

    cores: int = Field(ge=1)
    workers: int = Field(ge=1)
    threads: int = Field(ge=1)
    gpus: int = Field(ge=0)
    device: str
    available_bytes: int = Field(ge=0)
    probe_peak_bytes: int = Field(ge=0)


class TriedPrecision(Stored):
    """Passes of some pictures of the sample in one precision, and how far their vectors moved.

    Attributes:
        pictures_per_second: through the network and its descriptors, on all threads.
        ratio: to the precision that the job asks for.
        mean_cosine, least_cosine: by layer, to the vectors in that precision.
        fault: why there is nothing to be measured; empty where there is.
    """

    precision: Precision
    pictures: int = Field(ge=0)
    pictures_per_second: float = Field(ge=0)
    ratio: float = Field(ge=0)
    mean_cosine: dict[str, float]
    least_cosine: dict[str, float]
    fault: str = ""


class Plan(Record):
    """The plan of a job.

    `subject` is a digest of the listing and of every setting that decides what a run costs.
    `pictures` are those that are expected to be indexed of `entries` listed. `memory` has the
    bytes that a worker holds at most, by stage and by what holds them; `requests` those to an
    object store, by stage and kind, at most. Hours are by number of workers, each a core as those
    of the machine, and by number of GPUs, each with its share of the machine's cores; None without
    a GPU to measure. `refusals` say what does not fit, and what else
    would stop the job. `precisions` has the precision that is asked for and those that this CPU has
    in hardware beside it, empty where it has none; `advice` says if one of them is much faster.
    """

    format_version: FormatVersion = FORMAT_VERSION
    subject: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = Field(min_length=1)
    entries: int = Field(ge=0)
    sampled: int = Field(ge=0)
    refused: int = Field(ge=0, description="of the sampled")
    ignored: int = Field(ge=0, description="of the sampled")
    refused_by_reason: dict[str, int] = Field(default_factory=dict)
    max_refused: float = Field(default=1.0, ge=0, le=1, description="share that the job allows")
    pictures: Figure
    shards: int = Field(ge=0)
    segments: int = Field(ge=0)
    machine: ProbedMachine
    stages: tuple[PlannedStage, ...]
    stored: tuple[PlannedBytes, ...]
    memory: dict[str, dict[str, int]]
    requests: dict[str, dict[str, int]]
    hours: Figure
    hours_by_workers: dict[int, Figure]
    hours_by_gpus: dict[int, Figure] | None
    fits: bool
    refusals: tuple[str, ...]
    precisions: tuple[TriedPrecision, ...] = ()
    advice: str = ""
