"""Judge whether words from elsewhere fit the pictures of an index.

Words of other kinds of pictures are far from all descriptors: most of these then share a few words,
and the layer ranks badly. Words of few pictures fit no new ones well either. So the mean squared
distance of the new descriptors to their words is compared with that of held-out rows of the
pictures the words were trained on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lamella.pipeline.index.shards import finder_of, shards_of
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.measured import ERROR_UNIT
from lamella.schemas.corpus import ShardRef
from lamella.schemas.files import ERROR, MEASURED, DoneRecord
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary

LARGEST_RATIO = 1.45
"""From this ratio of the errors on, words do not fit; FIGURES.md has the measurements."""


@dataclass(frozen=True)
class WordsFit:
    """How far a layer's descriptors lie from words that came from elsewhere.

    Attributes:
        rows: descriptors that were measured.
        error: their mean squared distance to their words.
        own_error: that of held-out rows of the pictures the words were trained on; None where the
            words say none, as those that other tools made.
    """

    layer: str
    rows: int
    error: float
    own_error: float | None

    @property
    def ratio(self) -> float | None:
        """The error over `own_error`, None where there is none."""
        return None if self.own_error is None else self.error / self.own_error

    @property
    def far(self) -> bool:
        """Whether the ratio is so high that the words do not fit."""
        return self.ratio is not None and self.ratio >= LARGEST_RATIO

    @property
    def well(self) -> bool:
        """Whether the ratio is known, and not high."""
        return self.ratio is not None and not self.far

    @property
    def text(self) -> str:
        """Both errors, their ratio, and what to do where it is high."""
        measured = f"{self.error:.4f} on {self.rows:,} descriptors"
        if self.own_error is None or self.ratio is None:
            return (
                f"The words of {self.layer} come without an error of their own pictures, so there "
                f"is nothing to compare with: the mean squared error here is {measured}."
            )
        errors = (
            f"the mean squared error here is {measured}, on the pictures that the words were "
            f"trained on it was {self.own_error:.4f}, a ratio of {self.ratio:.2f}"
        )
        if not self.far:
            return f"The words of {self.layer} fit these pictures: {errors}."
        return (
            f"The words of {self.layer} do not fit these pictures: {errors} (too high from "
            f"{LARGEST_RATIO:.2f}). Train words on these pictures: leave --vocabulary "
            "(vocabulary_from) out; or take words of pictures like these, and of many of them."
        )

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, with the ratio, the rule and the sentence."""
        said = {"ratio": self.ratio, "largest_ratio": LARGEST_RATIO, "far": self.far}
        return asdict(self) | said | {"text": self.text}


def fits_of(
    vocabularies: Mapping[str, Vocabulary], records: Iterable[DoneRecord]
) -> dict[str, WordsFit]:
    """Return by layer how words that were imported fit the descriptors of these records.

    Records of earlier versions have no error and are left out; a layer where none has any is too.
    """
    imported = {layer: each for layer, each in vocabularies.items() if each.imported}
    return _measured(imported, records)


def _measured(
    vocabularies: Mapping[str, Vocabulary], records: Iterable[DoneRecord]
) -> dict[str, WordsFit]:
    found = {}
    done = list(records)
    for layer, vocabulary in vocabularies.items():
        rows = sum(record.counts.get(f"{MEASURED}{layer}", 0) for record in done)
        if not rows:
            continue
        error = sum(record.counts.get(f"{ERROR}{layer}", 0) for record in done)
        health = vocabulary.health
        own = health.held_error if health is not None and health.held_rows else None
        found[layer] = WordsFit(layer, rows, error * ERROR_UNIT / rows, own or None)
    return found


def snapshot_fits(store: Store, snapshot: IndexSnapshot) -> dict[str, WordsFit]:
    """Return what `fits_of` does for the pictures of a snapshot, from the records of its bags.

    Raises:
        CorruptFile: a record is damaged.
    """
    if not any(vocabulary.imported for vocabulary in snapshot.vocabularies.values()):
        return {}
    return fits_of(snapshot.vocabularies, _records(store, snapshot, shards_of(store, snapshot)))


def shards_fits(
    store: Store,
    snapshot: IndexSnapshot,
    shards: Iterable[ShardRef],
    vocabularies: Mapping[str, Vocabulary],
) -> dict[str, WordsFit]:
    """Return by layer how these words of a snapshot, wherever they came from, fit some shards.

    Raises:
        CorruptFile: a record is damaged.
    """
    return _measured(vocabularies, _records(store, snapshot, shards)) if vocabularies else {}


def _records(store: Store, snapshot: IndexSnapshot, shards: Iterable[ShardRef]) -> list[DoneRecord]:
    """Return the records of the bags of some shards of a snapshot, those that are there."""
    found = finder_of(store, snapshot)([shard for shard in shards if shard.images])
    return [records[1] for records in found if records is not None]
