"""How a vocabulary is asked for, what each round of its training saw, and what is stored of it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Record, Stored, digest_of
from schemas.files import FileRef

AssignerKind = Literal["exact", "hnsw"]

FULL_ROUND = 2
"""Number of the first round over all rows: the shares before it are 1/4 and 1/2."""


class VocabularySpec(Stored):
    """What decides the visual words of a layer, beside the descriptors themselves.

    `words` left out is chosen from the number of descriptors. `rounds` is the most that may move
    words to the mean of their rows; a few more may follow that only find places for empty words.
    `tolerance` is the relative fall of the mean squared error over a full round below which
    training ends.
    """

    words: int | None = Field(default=None, ge=1, le=1 << 24)
    descriptors_per_image: int = Field(default=200, ge=1, le=1_000_000)
    rounds: int = Field(default=40, gt=FULL_ROUND, le=1_000)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    tolerance: float = Field(default=5e-4, ge=0.0, lt=1.0, allow_inf_nan=False)
    assigner: Literal["auto", "exact", "hnsw"] = "auto"


class RoundReport(Stored):
    """What one round measured of the words it began with, and what it did to them.

    No seconds: what is stored does not depend on the machine's speed.

    Attributes:
        round: number of the round, from 0.
        share: the share of rows that took part.
        objective: mean squared distance of those rows to their words.
        changed: share of words that the round moved; 0 in the last.
        empty_words: words with no row of the round.
        imbalance: words times the chance that two rows share a word; 1 is even use.
        recall: share of a fixed sample for which the assigner found the nearest word.
        refilled: empty words that were put on a far row.
        dropped: empty words that were given up, which happens only in the last round.
    """

    round: int = Field(ge=0)
    share: float = Field(gt=0.0, le=1.0)
    objective: float = Field(ge=0.0, allow_inf_nan=False)
    changed: float = Field(ge=0.0, le=1.0)
    empty_words: int = Field(ge=0)
    imbalance: float = Field(ge=0.0, allow_inf_nan=False)
    recall: float = Field(default=1.0, ge=0.0, le=1.0)
    refilled: int = Field(default=0, ge=0)
    dropped: int = Field(default=0, ge=0)


class Vocabulary(Record):
    """The visual words of one layer: where they are, and how they came about.

    `words` is below `words_requested` where the rows hold too few distinct descriptors.
    `spec` and `extraction` are digests.

    Raises:
        ValueError: more words than requested, or a file with another number of words.
    """

    layer: str = Field(min_length=1)
    words: int = Field(ge=1)
    words_requested: int = Field(ge=1)
    dimensions: int = Field(ge=1)
    spec: str
    extraction: str
    rounds: tuple[RoundReport, ...]
    centroids: FileRef | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.words > self.words_requested:
            raise ValueError(
                f"a vocabulary has at most the words requested; "
                f"got {self.words:,} words for {self.words_requested:,} requested"
            )
        if self.centroids is not None and self.centroids.rows != self.words:
            raise ValueError(
                f"the file of centroids has one row a word; "
                f"got {self.centroids.rows:,} rows for {self.words:,} words"
            )
        return self

    def identity(self) -> str:
        """Return a digest of what the vocabulary is, whichever attempt wrote its file."""
        value = self.model_dump(mode="json", exclude={"centroids"})
        value["centroids"] = self.centroids.content() if self.centroids else None
        return digest_of(value)
