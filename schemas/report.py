"""The result of an evaluation: scores of every ranking, the sweep over (t, p), the settings."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored
from lamella.schemas.query import FusionSpec, SearchMode, Weighting

Protocol = Literal[
    "ukb", "oxford", "paris", "holidays", "roxford", "rparis", "copydays", "gldv2", "groups"
]
Difficulty = Literal["easy", "medium", "hard"]
AskedDifficulty = Literal["easy", "medium", "hard", "all"]
BoxMode = Literal["roi", "full"]
Metric = Literal["N-S", "mAP", "mAP@100"]
RowKind = Literal["alone", "direct", "mapped"]
FusionKind = Literal["direct", "mapped"]
Verdict = Literal["gain", "loss", "no difference"]

TOP_SCORE: dict[Metric, float] = {"N-S": 4.0, "mAP": 1.0, "mAP@100": 1.0}
"""The score of a perfect ranking."""


LARGEST_P = 0.05
"""A difference with a larger corrected p is called none."""


class Interval(Stored):
    """A confidence interval: of a mean score, or of the difference of two."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"an interval does not end below its start; got {self}")
        return self


class Bootstrap(Stored):
    """How the intervals of a report were made; `pipeline/evaluate/intervals.py` has the method.

    Attributes:
        unit: what is drawn: whole groups of queries that share a right answer, or single queries
            where there are too few groups.
        units: how many of them there are, so how many each resample draws.
        resamples: how often they are drawn.
        seed: of the draws.
        level: the share of such intervals that hold the true mean.
    """

    unit: Literal["group", "query"]
    units: int = Field(ge=2)
    resamples: int = Field(ge=1)
    seed: int = Field(ge=0)
    level: float = Field(gt=0.0, lt=1.0)


class Gain(Stored):
    """A fusion's score less that of another ranking, over the same queries.

    Attributes:
        fusion: the mapped fusion or the direct sum.
        over: the name of the other ranking's row.
        difference: positive where the fusion is better.
        interval: of the difference, from the same resamples of both rankings.
        p: two-sided, of a paired randomisation test; None in reports made before there was one.
        corrected_p: p corrected by Holm for all gains of the report.
    """

    fusion: FusionKind
    over: str
    difference: float = Field(ge=-4.0, le=4.0)
    interval: Interval
    p: float | None = Field(default=None, ge=0.0, le=1.0)
    corrected_p: float | None = Field(default=None, ge=0.0, le=1.0)

    @property
    def verdict(self) -> Verdict:
        """What the queries show, as `verdict_of` says."""
        return verdict_of(self.interval, self.corrected_p)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        untested = ["p", "corrected_p"] if self.p is None else []
        return _without(dump(self), untested)


def verdict_of(interval: Interval, corrected_p: float | None) -> Verdict:
    """Return what the queries show of a difference.

    It is a gain or a loss where its interval excludes zero, and its corrected p, where it was
    tested, is at most `LARGEST_P`: the interval says how large it is, the test that it is none
    of the differences that many comparisons give by chance.
    """
    if corrected_p is not None and corrected_p > LARGEST_P:
        return "no difference"
    if interval.low > 0.0:
        return "gain"
    return "loss" if interval.high < 0.0 else "no difference"


class ScoreRow(Stored):
    """The score of one ranking: a layer alone, the direct sum, or the mapped fusion.

    `lowest` and `highest` are what other orders of equal scores would have given, `expected` the
    mean over all orders; None in reports made before it was there. `interval` is None where there
    are too few queries for one, and in reports made before there were any.

    mAP is by trapezoids, as the protocols of Oxford and Holidays define it. `rectangles` is mean
    average precision as trec_eval and ir-measures (`AP`) define it, which is a little higher; None
    with other metrics, and in reports made before it was there.

    `measures` are those that a protocol reports beside its metric, by name, such as `mP@10`.
    """

    name: str
    kind: RowKind
    layers: tuple[str, ...] = Field(min_length=1)
    t: tuple[float, ...]
    p: tuple[float, ...]
    weights: tuple[float, ...] = Field(
        default_factory=lambda row: (1.0,) * len(row.get("layers", ()))
    )
    metric: Metric
    score: float = Field(ge=0.0, le=4.0)
    interval: Interval | None = None
    lowest: float = Field(ge=0.0, le=4.0)
    highest: float = Field(ge=0.0, le=4.0)
    expected: float | None = Field(default=None, ge=0.0, le=4.0)
    rectangles: float | None = Field(default=None, ge=0.0, le=1.0)
    measures: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(default_factory=dict)
    queries: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.layers) == len(self.t) == len(self.p) == len(self.weights):
            raise ValueError(
                f"a score has one t, one p and one weight a layer; got {len(self.t)}, "
                f"{len(self.p)} and {len(self.weights)} for {len(self.layers)} layers"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unweighted = ["weights"] if set(self.weights) == {1.0} else []
        unsaid = [name for name in ("expected", "rectangles") if getattr(self, name) is None]
        return _without(dump(self), [*_empty(self, "interval", "measures"), *unweighted, *unsaid])


class MapSetting(Stored):
    """t and p of one layer's map."""

    t: float = Field(ge=0.0, le=1.0)
    p: float = Field(ge=0.0, le=1.0)


class SweepPoint(Stored):
    """The mean score with the highest layer mapped at (t, p).

    `lower` has the maps of the second layer and further ones, but the lowest, where these were
    swept too; it is empty where they are those of the report's fusion.
    """

    t: float = Field(ge=0.0, le=1.0)
    p: float = Field(ge=0.0, le=1.0)
    lower: tuple[MapSetting, ...] = ()
    score: float = Field(ge=0.0, le=4.0)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(dump(self), _empty(self, "lower"))


class JointSweep(Stored):
    """The sweep over the maps of all layers but the lowest, with three layers and more.

    Attributes:
        points: how many settings were scored.
        left_out: settings of the same axes that were not, to bound their number.
        best: the best of them: tuned on the very queries it is scored on.
    """

    points: int = Field(ge=1)
    left_out: int = Field(default=0, ge=0)
    best: SweepPoint


class CrossValidated(Stored):
    """The score of settings chosen on other queries than those they are scored on.

    Queries that share a right answer are in one fold. There are at most ten folds, and in reports
    made before there were more than two, two halves. The settings are those of the joint sweep
    where there is one.

    Attributes:
        score: the mean over all queries.
        chosen: for each fold the setting that the other folds chose, and its score on this fold.
        interval: of the score, with the settings as they were chosen; None as in a row.
    """

    score: float = Field(ge=0.0, le=4.0)
    chosen: tuple[SweepPoint, ...] = Field(min_length=2)
    interval: Interval | None = None

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(dump(self), _empty(self, "interval"))


class BackgroundSimilarity(Stored):
    """The median similarity, in one layer, of a query and pictures unrelated to it."""

    layer: str
    median: float = Field(ge=0.0, le=1.0)


class LeftOut(Stored):
    """Queries that are not scored, for one reason: how many, and the first of their names."""

    reason: str
    queries: int = Field(ge=1)
    first: tuple[str, ...]


class DataSet(Stored):
    """Which pictures and which ground truth were scored, so that releases can be told apart.

    A list of SHA-256 is hashed as `sha256sum` prints it: a line `SHA-256  NAME` each, by name.

    Attributes:
        truth_files: how many files the ground truth was read from; 0 where names are enough.
        truth_sha256: of the one file, or of the list of several; empty without any.
        pictures: how many indexed pictures the protocol names: queries, right answers, junk.
        pictures_sha256: of the list of their bytes, by stem. Another release, such as one with
            faces blurred, has the same names and another digest.
        held: how many pictures of the data set are indexed; None where that is not known.
        released: how many it has, without the damaged ones.
        released_queries: how many queries it has; 0 where that is not known.
        damaged: files of the release that are known to hold no picture.
        missing: the first of the right answers that are not indexed.
        left_out: queries that are not scored.
    """

    truth_files: int = Field(default=0, ge=0)
    truth_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    pictures: int = Field(ge=1)
    pictures_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    held: int | None = Field(default=None, ge=0)
    released: int | None = Field(default=None, ge=0)
    released_queries: int = Field(default=0, ge=0)
    damaged: int = Field(default=0, ge=0)
    missing: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class RetrievalReport(Record):
    """How well a snapshot answers the queries of a protocol.

    Attributes:
        snapshot: the root digest of the snapshot.
        protocol: such as `ukb` or `oxford roi`.
        rows: each layer alone from high to low, the direct sum, the mapped fusion.
        gains: the mapped fusion over every other row, in their order, then the direct sum over
            each layer alone; empty with one layer.
        bootstrap: how intervals were made. None where there are none: too few queries, or a
            report made before there were any, which has no gains either.
        sweep: every point of the grid over the highest layer's map, empty where there is one layer.
        best: the best point of the sweep: tuned on the very queries it is scored on.
        joint: the sweep over all layers' maps; None with fewer than three layers, and in reports
            made before there was one.
        cross_validated: the figure to quote; None where all queries are of one group.
        settings: what else changes the answer, by name, for a reader.
        missing: right answers that the corpus lacks; they count as missed.
        data_set: what was scored, by its hashes; None in reports made before it was there.
    """

    format_version: FormatVersion = FORMAT_VERSION
    snapshot: str = Field(pattern=r"^[0-9a-f]{64}$")
    protocol: str
    metric: Metric
    fusion: FusionSpec
    weighting: Weighting
    mode: SearchMode
    rows: tuple[ScoreRow, ...] = Field(min_length=3)
    gains: tuple[Gain, ...] = ()
    bootstrap: Bootstrap | None = None
    sweep: tuple[SweepPoint, ...] = ()
    best: SweepPoint | None = None
    joint: JointSweep | None = None
    cross_validated: CrossValidated | None = None
    background: tuple[BackgroundSimilarity, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict)
    queries: int = Field(ge=1)
    missing: int = Field(default=0, ge=0)
    data_set: DataSet | None = None
    indexed: int = Field(ge=0)
    refused: int = Field(ge=0)
    elapsed_seconds: float = Field(ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [row.kind for row in self.rows]
        expected = ["alone"] * len(self.fusion.layers) + ["direct", "mapped"]
        if kinds != expected:
            raise ValueError(f"the rows of a report are {expected}; got {kinds}")
        others = [row.name for row in self.rows[:-1]]
        pairs = [
            *(("mapped", name) for name in others),
            *(("direct", name) for name in others[:-1]),
        ]
        if self.gains and [(gain.fusion, gain.over) for gain in self.gains] != pairs:
            raise ValueError(f"the gains of a report are {pairs}; got {self.gains}")
        intervals = [row.interval for row in self.rows]
        if self.cross_validated is not None:
            intervals.append(self.cross_validated.interval)
        without = self.bootstrap is None
        if any((interval is None) != without for interval in intervals) or (self.gains and without):
            raise ValueError("with a bootstrap every score has an interval, without one none")
        if (self.best is None) != (not self.sweep):
            raise ValueError("a sweep has a best point, and there is none without a sweep")
        if self.best is not None and self.best not in self.sweep:
            raise ValueError(f"the best point is one of the sweep; got {self.best}")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(dump(self), _empty(self, "gains", "bootstrap", "joint", "data_set"))

    def row(self, kind: RowKind) -> ScoreRow:
        """Return the last row of a kind: with `alone` the lowest layer's."""
        return next(row for row in reversed(self.rows) if row.kind == kind)

    def best_alone(self) -> ScoreRow:
        """Return the best layer alone; the higher layer where two are equal."""
        return max((row for row in self.rows if row.kind == "alone"), key=lambda row: row.score)

    def gain_over(self, row: ScoreRow, fusion: FusionKind = "mapped") -> Gain | None:
        """Return a fusion's gain over another row; None if the report has none."""
        pair = (fusion, row.name)
        return next((gain for gain in self.gains if (gain.fusion, gain.over) == pair), None)

    def below_background(self) -> tuple[BackgroundSimilarity, ...]:
        """Return the layers whose t lies below their background: their map flattens everything."""
        thresholds = {entry.layer: entry.t for entry in self.fusion.layers}
        return tuple(
            entry for entry in self.background if thresholds.get(entry.layer, 1.0) < entry.median
        )


def _empty(value: Stored, *names: str) -> list[str]:
    return [name for name in names if not getattr(value, name)]


def _without(dumped: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Leave fields out that older versions lacked: their reports keep their digests and paths."""
    return {name: value for name, value in dumped.items() if name not in set(names)}
