"""The result of scoring a run: measures with intervals, what could not be scored, and tables."""

from collections.abc import Sequence
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored
from lamella.schemas.report import Bootstrap, Interval


class MeasureScore(Stored):
    """The mean of a measure over the queries of a run.

    Attributes:
        measure: its name, as ir-measures writes it, or one of ours: mAP (trapezoids), N-S, mAP@k,
            mP@k.
        score: the mean.
        interval: of the mean; None where there are too few queries for one.
        first: the measure looks further than the rankings are known, so it is one of their first
            so many pictures; None where it is not.
    """

    measure: str = Field(min_length=1)
    score: float
    interval: Interval | None = None
    first: int | None = Field(default=None, ge=0)


class Named(Stored):
    """How many there are of something, and the first names."""

    count: int = Field(default=0, ge=0)
    first: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.first) > self.count or (self.count and not self.first):
            raise ValueError(f"the first of {self.count} are named; got {len(self.first)} names")
        return self


class RunReport(Record):
    """How well a run answers the queries of a ground truth.

    Attributes:
        run: its name in the store, or that of its file.
        snapshot: the root digest of the snapshot that was asked, or that a file is about.
        truth: whose judgements: a protocol such as `ukb`, or `qrels FILE`.
        qrels: the SHA-256 of the file of qrels; None with a protocol, or of what was piped in.
        depth: how many pictures a ranking can have.
        complete: rankings can have all pictures of the corpus.
        measures: the protocol's own first.
        bootstrap: how intervals were made; None where there are too few queries for any.
        queries: that the means are over.
        left_out: queries of the ground truth that are not scored, by reason.
        unanswered: judged queries that the run has no ranking for; they score 0.
        unjudged: queries of the run without judgements; they are left out.
        own_wrong: queries whose ranking has the query itself, which nobody judged: it counts as
            wrong.
        unknown_judged: judged pictures that the corpus lacks; right ones count as missed.
        unknown_ranked: pictures of the rankings that the corpus lacks; they keep their ranks.
        names_known: whether the names of the corpus are known; where not, none is called unknown.
    """

    format_version: FormatVersion = FORMAT_VERSION
    run: str
    snapshot: str = Field(pattern=r"^[0-9a-f]{64}$")
    truth: str
    qrels: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    depth: int = Field(ge=0)
    complete: bool
    measures: tuple[MeasureScore, ...] = Field(min_length=1)
    bootstrap: Bootstrap | None = None
    queries: int = Field(ge=1)
    left_out: dict[str, Named] = Field(default_factory=dict)
    unanswered: Named = Named()
    unjudged: Named = Named()
    own_wrong: Named = Named()
    unknown_judged: Named = Named()
    unknown_ranked: Named = Named()
    names_known: bool = True
    elapsed_seconds: float = Field(ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any((each.interval is None) != (self.bootstrap is None) for each in self.measures):
            raise ValueError("with a bootstrap every score has an interval, without one none")
        if self.unanswered.count >= self.queries:
            raise ValueError(
                f"some query is answered; got {self.unanswered.count} unanswered of {self.queries}"
            )
        return self


def scores_schema(measures: Sequence[str], *, ties: bool = False) -> Any:
    """Return the schema of scores by query: a row a query and ranking, a column a measure.

    Args:
        ties: have `lowest`, `mean` and `highest` too: the first measure over all orders of equal
            scores.
    """
    over_ties = ("lowest", "mean", "highest") if ties else ()
    return pa.schema(
        [
            pa.field("query", pa.string(), nullable=False),
            pa.field("ranking", pa.string(), nullable=False),
            pa.field("group", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in (*measures, *over_ties)),
        ]
    )


def ids_schema() -> Any:
    """Return the schema of the ids beside qrels: the image id of every name that is indexed."""
    return pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("image_id", pa.int64(), nullable=False),
        ]
    )
