"""What `lamella reproduce` keeps of one data set under one network: scores, sweeps and pictures."""

from typing import Literal

from pydantic import Field

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored
from lamella.schemas.report import (
    Bootstrap,
    CrossValidated,
    Interval,
    Metric,
    SweepPoint,
)

DataSetName = Literal["oxford", "holidays", "ukb"]


class LayerScore(Stored):
    """The score of one layer alone. `interval` is None where there are too few queries."""

    layer: str
    score: float = Field(ge=0.0, le=4.0)
    interval: Interval | None = None


class FusedScore(Stored):
    """The scores of two or three layers together, from high to low.

    Attributes:
        direct: of the plain sum of their similarities.
        mapped: with the maps of `t` and `p`, those of the paper.
        gain: `mapped` less `direct`, over the same queries.
        scaled: mapped, and weighted by how similar random pictures are in each layer, which needs
            no right answers; None where the index was not calibrated.
        weights: of `scaled`, empty without it.
        grid: the mean score at each point of the grid over (t, p) of the highest layer, t first;
            empty for three layers.
        best: the best point of that grid, or of the joint grid of three layers: tuned on the very
            queries it is scored on.
        cross_validated: of the same points; None where all queries are of one group.
    """

    layers: tuple[str, ...] = Field(min_length=2)
    t: tuple[float, ...]
    p: tuple[float, ...]
    direct: float = Field(ge=0.0, le=4.0)
    direct_interval: Interval | None = None
    mapped: float = Field(ge=0.0, le=4.0)
    mapped_interval: Interval | None = None
    gain: float = Field(ge=-4.0, le=4.0)
    gain_interval: Interval | None = None
    scaled: float | None = Field(default=None, ge=0.0, le=4.0)
    scaled_interval: Interval | None = None
    weights: tuple[float, ...] = ()
    grid: tuple[float, ...] = ()
    best: SweepPoint
    cross_validated: CrossValidated | None = None


class ShownRanking(Stored):
    """The first pictures of one ranking of the query that is shown.

    Attributes:
        label: the layer, or what was done with all of them.
        score: of the query.
        verdicts: of each picture: right, wrong, junk or query.
        pictures: names of the pictures; not to be trusted.
        thumbnails: each a JPEG in base64, or "" where the picture could not be read.
    """

    label: str
    score: float
    verdicts: tuple[str, ...]
    pictures: tuple[str, ...]
    thumbnails: tuple[str, ...]


class ShownQuery(Stored):
    """A query, its rankings under each layer, direct and mapped, and why it is this one."""

    name: str
    note: str = ""
    thumbnail: str = ""
    rankings: tuple[ShownRanking, ...]


class ShownWord(Stored):
    """The patches that excite a word most, each a JPEG in base64."""

    word: int = Field(ge=0)
    patches: tuple[str, ...]


class Reproduced(Record):
    """The scores of one data set under one network.

    Attributes:
        inputs: the digest of all that decides the figures; it is in the record's path.
        snapshot: the root digest of the snapshot.
        protocol: such as `oxford roi`.
        settings: what else changes the figures, by name, for a reader.
        hashes: the SHA-256 of the data set's files, by what they are.
        words: of each local layer, and `rows` how many descriptors they were trained on.
        shown, patches: Figs. 2 and 1, where they were asked for.
    """

    format_version: FormatVersion = FORMAT_VERSION
    data_set: DataSetName
    network: str
    inputs: str = Field(pattern=r"^[0-9a-f]{64}$")
    snapshot: str = Field(pattern=r"^[0-9a-f]{64}$")
    protocol: str
    metric: Metric
    queries: int = Field(ge=1)
    missing: int = Field(default=0, ge=0)
    indexed: int = Field(ge=0)
    bootstrap: Bootstrap | None = None
    alone: tuple[LayerScore, ...] = Field(min_length=1)
    fused: tuple[FusedScore, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)
    words: dict[str, int] = Field(default_factory=dict)
    rows: dict[str, int] = Field(default_factory=dict)
    shown: ShownQuery | None = None
    patches: dict[str, tuple[ShownWord, ...]] = Field(default_factory=dict)
    elapsed_seconds: float = Field(ge=0.0)
