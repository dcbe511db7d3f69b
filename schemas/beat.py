"""The record of a beat: a job that runs says that it lives, and how far it is."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored

Unit = Literal["pictures", "files", "queries", "rows", "tasks", "bytes"]
"""What a stage counts."""

JOB_ID = r"^\d{8}T\d{6}Z-[0-9a-f]{8}$"
"""The name of a job: when it began, and eight random digits. Events carry it too."""


def _time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"a time has its distance to UTC; got {text!r}")
    return text


class StageBeat(Stored):
    """How far a stage is.

    `total` is 0 while nobody knows it. `per_second` is the speed over the last minutes, and with
    `seconds_left` it is null until a first unit has ended. `note` says in words what the units do
    not, such as the round of a training.
    """

    name: str = Field(min_length=1, max_length=200)
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    unit: Unit = "pictures"
    per_second: float | None = Field(default=None, ge=0)
    seconds_left: float | None = Field(default=None, ge=0)
    note: str = Field(default="", max_length=200)


class Problem(Stored):
    """The last event of a job at level warning or error."""

    at: str
    level: Literal["warning", "error"]
    event: str = Field(max_length=100)
    reason: str = Field(default="", max_length=600)

    _at = field_validator("at")(_time)


class Beat(Record):
    """What a job says of itself, about once a minute; the last beat of one that ended has its code.

    Times are by the clock of the job's machine, which may be wrong: `told_at` is that of this beat,
    and the store's own time of the file says when that was. `every_s` is the time to the next beat.
    `refused` counts by reason what tasks of this job have refused, `workers` those that are ready
    by kind: `cpu`, or `gpu` with a card.
    """

    format_version: FormatVersion = FORMAT_VERSION
    job: str = Field(pattern=JOB_ID)
    number: int = Field(ge=1)
    command: str = Field(min_length=1, max_length=100)
    host: str = Field(max_length=255)
    process: int = Field(ge=1)
    begun_at: str
    told_at: str
    every_s: float = Field(gt=0)
    stages: tuple[StageBeat, ...] = ()
    refused: dict[str, int] = Field(default_factory=dict)
    workers: dict[str, int] = Field(default_factory=dict)
    waiting: int = Field(default=0, ge=0)
    running: int = Field(default=0, ge=0)
    problem: Problem | None = None
    code: int | None = None

    _begun_at = field_validator("begun_at")(_time)
    _told_at = field_validator("told_at")(_time)

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if any(count < 0 for count in (*self.refused.values(), *self.workers.values())):
            raise ValueError("a count is at least 0")
        return self

    def seconds_since(self, at: str) -> float:
        """Return the seconds from a time in this beat until it was told, at least 0.

        Both are by the same clock, so it does not matter whether that is right.
        """
        told, then = map(datetime.fromisoformat, (self.told_at, at))
        return max((told - then).total_seconds(), 0.0)

    def seconds_running(self) -> float:
        """Return how long the job had run when it told this."""
        return self.seconds_since(self.begun_at)
