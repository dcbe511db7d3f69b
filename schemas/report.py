"""The result of an evaluation: scores of every ranking, the sweep over (t, p), the settings."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored
from lamella.schemas.query import FusionSpec, SearchMode, Weighting

Metric = Literal["N-S", "mAP"]
RowKind = Literal["alone", "direct", "mapped"]

TOP_SCORE: dict[Metric, float] = {"N-S": 4.0, "mAP": 1.0}
"""The score of a perfect ranking."""


class ScoreRow(Stored):
    """The score of one ranking: a layer alone, the direct sum, or the mapped fusion.

    `lowest` and `highest` are what other orders of equal scores would have given.
    """

    name: str
    kind: RowKind
    layers: tuple[str, ...] = Field(min_length=1)
    t: tuple[float, ...]
    p: tuple[float, ...]
    metric: Metric
    score: float = Field(ge=0.0, le=4.0)
    lowest: float = Field(ge=0.0, le=4.0)
    highest: float = Field(ge=0.0, le=4.0)
    queries: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.layers) == len(self.t) == len(self.p):
            raise ValueError(
                f"a score has one t and one p a layer; got {len(self.t)} and {len(self.p)} "
                f"for {len(self.layers)} layers"
            )
        return self


class SweepPoint(Stored):
    """The mean score with the highest layer mapped at (t, p)."""

    t: float = Field(ge=0.0, le=1.0)
    p: float = Field(ge=0.0, le=1.0)
    score: float = Field(ge=0.0, le=4.0)


class CrossValidated(Stored):
    """The score with (t, p) chosen on one half of the queries and scored on the other.

    Both ways, and the mean over all queries. Queries that share a right answer are in one half.

    Attributes:
        score: the mean over all queries.
        chosen: for each half the (t, p) that the other half chose, and its score on this half.
    """

    score: float = Field(ge=0.0, le=4.0)
    chosen: tuple[SweepPoint, SweepPoint]


class BackgroundSimilarity(Stored):
    """The median similarity, in one layer, of a query and pictures unrelated to it."""

    layer: str
    median: float = Field(ge=0.0, le=1.0)


class RetrievalReport(Record):
    """How well a snapshot answers the queries of a protocol.

    Attributes:
        snapshot: the root digest of the snapshot.
        protocol: such as `ukb` or `oxford roi`.
        rows: each layer alone from high to low, the direct sum, the mapped fusion.
        sweep: every point of the grid, empty where there is one layer.
        best: the best point of the sweep: tuned on the very queries it is scored on.
        cross_validated: the figure to quote; None where the queries cannot be halved.
        settings: what else changes the answer, by name, for a reader.
        missing: right answers that the corpus lacks; they count as missed.
    """

    format_version: FormatVersion = FORMAT_VERSION
    snapshot: str = Field(pattern=r"^[0-9a-f]{64}$")
    protocol: str
    metric: Metric
    fusion: FusionSpec
    weighting: Weighting
    mode: SearchMode
    rows: tuple[ScoreRow, ...] = Field(min_length=3)
    sweep: tuple[SweepPoint, ...] = ()
    best: SweepPoint | None = None
    cross_validated: CrossValidated | None = None
    background: tuple[BackgroundSimilarity, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict)
    queries: int = Field(ge=1)
    missing: int = Field(default=0, ge=0)
    indexed: int = Field(ge=0)
    refused: int = Field(ge=0)
    elapsed_seconds: float = Field(ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [row.kind for row in self.rows]
        expected = ["alone"] * len(self.fusion.layers) + ["direct", "mapped"]
        if kinds != expected:
            raise ValueError(f"the rows of a report are {expected}; got {kinds}")
        if (self.best is None) != (not self.sweep):
            raise ValueError("a sweep has a best point, and there is none without a sweep")
        if self.best is not None and self.best not in self.sweep:
            raise ValueError(f"the best point is one of the sweep; got {self.best}")
        return self

    def row(self, kind: RowKind) -> ScoreRow:
        """Return the last row of a kind: with `alone` the lowest layer's."""
        return next(row for row in reversed(self.rows) if row.kind == kind)

    def best_alone(self) -> ScoreRow:
        """Return the best layer alone; the higher layer where two are equal."""
        return max((row for row in self.rows if row.kind == "alone"), key=lambda row: row.score)

    def below_background(self) -> tuple[BackgroundSimilarity, ...]:
        """Return the layers whose t lies below their background: their map flattens everything."""
        thresholds = {entry.layer: entry.t for entry in self.fusion.layers}
        return tuple(
            entry for entry in self.background if thresholds.get(entry.layer, 1.0) < entry.median
        )
