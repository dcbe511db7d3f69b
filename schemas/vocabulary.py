"""The spec of a vocabulary, the report of each round of its training, and its record."""

from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from lamella.schemas.base import Record, Stored, digest_of
from lamella.schemas.files import FileRef

AssignerKind = Literal["exact", "cells"]
EncodingKind = Literal["bag", "asmk"]
ResidualKind = Literal["float16", "bits"]


class ProjectionSpec(Stored):
    """PCA of the descriptors: to how many dimensions, and whether each is scaled to variance 1.

    Left out, there are as many dimensions as the descriptors span, and 256 at most.
    """

    dimensions: int | None = Field(default=None, ge=1, le=65_536)
    whiten: bool = False


class EncodingSpec(Stored):
    """How a picture's descriptors become what is indexed of a local layer.

    As a `bag` of words: a descriptor counts once for each of its `nearest` words (soft assignment,
    Philbin et al. 2008), and a word that is counted c times has the weight c ** power, a burst of
    like descriptors then counting less (Jegou, Douze and Schmid 2009). With a power below 1 weights
    are integers in steps of 1 / `WEIGHT_SCALE`, so that their sums stay exact.

    As `asmk`, aggregated selective match kernels (Tolias, Avrithis and Jegou 2013): what is left of
    the descriptors of a word once the word is taken off, summed, and stored at unit length in
    float16 or as the signs alone (`bits`). `nearest` holds for it too; `power` does not.
    """

    kind: EncodingKind = "bag"
    nearest: int = Field(default=1, ge=1, le=16)
    power: float = Field(default=1.0, gt=0.0, le=1.0, allow_inf_nan=False)
    residuals: ResidualKind = "float16"


WEIGHT_SCALE = 16
"""What a word's weight 1 is stored as where `power` is below 1: with a power of 1/2 a byte holds
the weight of a word that is counted up to 254 times."""


class VocabularySpec(Stored):
    """What decides the visual words of a layer, besides the descriptors themselves.

    `words` left out is chosen from the number of descriptors. Each picture gives at most
    `descriptors_per_image`, and fewer where all together would give more than `descriptors`.
    `rounds` is the most that may move words; a few more may follow that only find places for empty
    words. `tolerance` is the relative fall of the mean squared error below which training ends.
    `batch` is the share of the rows that a round sees at most; below 1 the rounds see one part of
    the rows after another, and `full_pass` has the last rounds see all.

    Words of whitened descriptors have unit length, like the descriptors (spherical k-means, Dhillon
    and Modha 2001). Whitened descriptors are nearly at right angles to each other, so the mean of
    some that have little in common is short, and a short word is near to every descriptor.
    """

    words: int | None = Field(default=None, ge=1, le=1 << 24)
    descriptors_per_image: int = Field(default=200, ge=1, le=1_000_000)
    descriptors: int = Field(default=4_000_000, ge=1, le=1 << 40)
    rounds: int = Field(default=40, ge=3, le=1_000)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    tolerance: float = Field(default=1e-3, ge=0.0, lt=1.0, allow_inf_nan=False)
    batch: float = Field(default=1.0, gt=0.0, le=1.0, allow_inf_nan=False)
    full_pass: bool = True
    assigner: Literal["auto", "exact", "cells"] = "auto"
    projection: ProjectionSpec | None = None

    @field_validator("projection", mode="before")
    @classmethod
    def _without_projection(cls, value: object) -> object:
        """Take "none" for none: TOML has no word of its own for it."""
        return None if value == "none" else value

    @property
    def unit_words(self) -> bool:
        """Whether words have unit length."""
        return self.projection is not None and self.projection.whiten


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
        recall: share of about 1,000 rows of the round whose word is the nearest of all.
        held_error: mean squared distance of rows that are not trained on; None without such rows.
        refilled: empty words that were put on a far row.
        split: little-used words that were put beside a bloated one.
        dropped: empty words that were given up, which happens only in the last round.
    """

    round: int = Field(ge=0)
    share: float = Field(gt=0.0, le=1.0)
    objective: float = Field(ge=0.0, allow_inf_nan=False)
    changed: float = Field(ge=0.0, le=1.0)
    empty_words: int = Field(ge=0)
    imbalance: float = Field(ge=0.0, allow_inf_nan=False)
    recall: float = Field(default=1.0, ge=0.0, le=1.0)
    held_error: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    refilled: int = Field(default=0, ge=0)
    split: int = Field(default=0, ge=0)
    dropped: int = Field(default=0, ge=0)


class VocabularyHealth(Stored):
    """The quality of finished words, and how evenly the training rows use them.

    Attributes:
        held_rows: rows that were not trained on and were measured here.
        held_error: their mean squared distance to their words; 0 without rows.
        recall: share of them for which the assigner found the nearest word; 1 without rows.
        entropy: of a training row's word, in bits; evenness is its share of the greatest one.
        dead: words without a training row.
        largest_share: share of the training rows at the most used word.
        imbalance: words times the chance that two rows share a word; 1 is even use.
    """

    held_rows: int = Field(ge=0)
    held_error: float = Field(ge=0.0)
    recall: float = Field(ge=0.0, le=1.0)
    entropy: float = Field(ge=0.0)
    evenness: float = Field(ge=0.0)
    dead: int = Field(ge=0)
    largest_share: float = Field(ge=0.0, le=1.0)
    imbalance: float = Field(ge=0.0)


OWN_FILES = ("centroids", "counts", "cells", "neighbours", "projection", "held")
"""The fields of a vocabulary that are a file each."""


class Vocabulary(Record):
    """The visual words of one layer: their files and their origin.

    `words` is below `words_requested` where the rows hold too few distinct descriptors.
    `spec`, `extraction` and `recipe` are digests; the recipe is that of a descriptor: network,
    weights, preprocessing and layer. Descriptors are compared with all words, or, where `cells`
    are named, with those of the `probes` nearest cells, and then with the `neighbours` of the
    nearest of these. `encoding` is how an index describes pictures with the words; it is set where
    they are used, and not in the record of a training. `imported` words come from outside: they
    have no training here and belong to no extraction.

    Raises:
        ValueError: more words than requested, a file with another number of words, or cells
            without probes.
    """

    layer: str = Field(min_length=1)
    words: int = Field(ge=1)
    words_requested: int = Field(ge=1)
    dimensions: int = Field(ge=1)
    spec: str
    extraction: str
    recipe: str = ""
    imported: bool = False
    encoding: EncodingSpec = EncodingSpec()
    rounds: tuple[RoundReport, ...]
    health: VocabularyHealth | None = None
    centroids: FileRef | None = None
    counts: FileRef | None = None
    cells: FileRef | None = None
    neighbours: FileRef | None = None
    probes: int = Field(default=0, ge=0)
    projection: FileRef | None = None
    sample: tuple[FileRef, ...] = ()
    held: FileRef | None = None
    freed: bool = Field(
        default=False, description="whether the rows it was trained on were freed on purpose"
    )

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
        if self.encoding.nearest > self.words:
            raise ValueError(
                f"a descriptor counts for at most all words; got {self.encoding.nearest} nearest "
                f"of {self.words:,} (encoding.nearest)"
            )
        if (self.cells is None) != (self.probes == 0):
            raise ValueError(f"cells and probes go together; got {self.probes} probes")
        return self

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what there once was not, where it says nothing: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        if self.encoding == EncodingSpec():
            value.pop("encoding", None)
        if not self.freed:
            value.pop("freed", None)
        return value

    def files(self) -> tuple[FileRef, ...]:
        """Return the files that the vocabulary is made of."""
        own = [getattr(self, name) for name in OWN_FILES]
        return (*(file for file in own if file is not None), *self.sample)

    def trained(self) -> "Vocabulary":
        """Return the vocabulary without what an index makes of it."""
        return self.model_copy(update={"encoding": EncodingSpec()})

    def identity(self) -> str:
        """Return a digest of what the vocabulary is, whichever attempt wrote its files.

        Not of what it was trained on: that may be forgotten or freed, and the words stay the same.
        """
        value = self.model_dump(mode="json", exclude={"sample", "held", "freed"})
        for name in OWN_FILES:
            if name in value:
                file = getattr(self, name)
                value[name] = file.content() if file else None
        return digest_of(value)
