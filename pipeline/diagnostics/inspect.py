"""Inspect the words of a snapshot: their training round by round, and their use by the corpus."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.index.files import read_bags
from lamella.pipeline.index.words_fit import WordsFit, snapshot_fits
from lamella.pipeline.names import known_names, meant, shown
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.vocabulary.word_use import WordUse, word_use
from lamella.schemas.files import FileRef
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import RoundReport, Vocabulary

SAMPLE_FREED = "the sample that the words were trained on was freed by `lamella gc --intermediate`"

BURSTY_PICTURES = 5
"""A word in fewer pictures than this is not called bursty: the mean would say little."""


@dataclass(frozen=True)
class RoundLine:
    """One line about a round.

    `fall` is the relative fall of the objective from the full round before it; None before there
    are two. `held_error` is None where no rows were held out.
    """

    round: int
    share: float
    objective: float
    fall: float | None
    held_error: float | None
    changed: float
    empty_words: int
    refilled: int
    split: int
    dropped: int
    imbalance: float
    recall: float


@dataclass(frozen=True, eq=False)
class CorpusUse:
    """How the indexed pictures use the words.

    Attributes:
        counts: (K,) int64, descriptors of each word.
        pictures: (K,) int64, pictures that have the word.
        images: how many pictures there are.
    """

    counts: Int64s
    pictures: Int64s
    images: int

    def burstiness(self) -> NDArray[np.float64]:
        """Return each word's mean count in the pictures that have it, (K,); 0 where none has.

        >>> CorpusUse(np.array([6, 2, 0]), np.array([2, 2, 0]), 3).burstiness().tolist()
        [3.0, 1.0, 0.0]
        """
        return self.counts / np.maximum(self.pictures, 1)

    def most_used(self, most: int) -> tuple[int, ...]:
        """Return the words with the most descriptors, falling, the lower word among equals."""
        used = int(np.count_nonzero(self.counts))
        return tuple(np.argsort(-self.counts, kind="stable")[: min(most, used)].tolist())

    def most_bursty(self, most: int) -> tuple[int, ...]:
        """Return the burstiest words of those in `BURSTY_PICTURES` pictures, or in all if fewer."""
        burstiness = self.burstiness()
        burstiness[self.pictures < max(1, min(BURSTY_PICTURES, self.images))] = 0.0
        found = int(np.count_nonzero(burstiness))
        return tuple(np.argsort(-burstiness, kind="stable")[: min(most, found)].tolist())

    def drawn(self, most: int, seed: int, but: Sequence[int] = ()) -> tuple[int, ...]:
        """Return words that some picture has, drawn evenly, rising; none of `but`."""
        words = np.setdiff1d(np.flatnonzero(self.counts), np.asarray(but, np.int64))
        draw = np.random.default_rng(seed).permutation(words)[:most]
        return tuple(np.sort(draw).tolist())


@dataclass(frozen=True)
class WordLine:
    """One line about a word: its descriptors, their share of all, its pictures, its burstiness."""

    word: int
    count: int
    share: float
    pictures: int
    burstiness: float


@dataclass(frozen=True, eq=False)
class LayerHealth:
    """All that `vocabulary show` says about a layer's words.

    `held_error` is None where no rows were held out. `recall` is that of the stored words, or None
    where they were not trained here. `fit` is None where they were, or where an earlier version
    indexed the pictures. `sample_freed` says that the sample of the training was freed.
    """

    layer: str
    vocabulary: Vocabulary
    rounds: tuple[RoundLine, ...]
    held_rows: int
    held_error: float | None
    recall: float | None
    use: CorpusUse
    summary: WordUse
    most_used: tuple[WordLine, ...]
    most_bursty: tuple[WordLine, ...]
    fit: WordsFit | None = None
    sample_freed: bool = False

    @property
    def mean_burstiness(self) -> float:
        """The mean count of a word in a picture that has it, over all words and pictures."""
        return float(self.use.counts.sum() / max(int(self.use.pictures.sum()), 1))

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, with the listed words only."""
        summary = asdict(self.summary)
        return {
            "layer": self.layer,
            "words": self.vocabulary.words,
            "words_requested": self.vocabulary.words_requested,
            "dimensions": self.vocabulary.dimensions,
            "rounds": [asdict(line) for line in self.rounds],
            "held_rows": self.held_rows,
            "held_error": self.held_error,
            "recall": self.recall,
            "fit": self.fit and self.fit.plain(),
            "sample_freed": self.sample_freed,
            "corpus": {
                "images": self.use.images,
                "descriptors": summary.pop("rows"),
                "dead": summary.pop("empty"),
                **{name: summary[name] for name in ("entropy", "evenness")},
                **{name: summary[name] for name in ("largest_share", "imbalance")},
                "mean_burstiness": self.mean_burstiness,
            },
            "most_used": [asdict(line) for line in self.most_used],
            "most_bursty": [asdict(line) for line in self.most_bursty],
        }


@dataclass(frozen=True)
class Kept:
    """What is stored of a training besides its words; empty where words were imported.

    `held_error` and `recall` are None where no rows were held out. `freed` says that the sample is
    gone because `gc --intermediate` freed it.
    """

    sample: tuple[FileRef, ...]
    held_rows: int
    held_error: float | None
    recall: float | None
    freed: bool = False


def kept_of(store: Store, vocabulary: Vocabulary) -> Kept:
    """Return what the record of a vocabulary's training says, and what is left of it."""
    health = vocabulary.health
    training = vocabulary if vocabulary.sample else _training_of(store, vocabulary)
    sample, freed = training.sample, training.freed
    if health is None or health.held_rows == 0:
        return Kept(sample, 0, None, None, freed)
    return Kept(sample, health.held_rows, health.held_error, health.recall, freed)


def _training_of(store: Store, vocabulary: Vocabulary) -> Vocabulary:
    """Return the record of a training, which knows its sample; a snapshot's vocabulary does not."""
    if vocabulary.centroids is None:
        return vocabulary
    path = tree.VOCABULARY.at(**tree.parts_of(vocabulary.centroids.path))
    return read_record(store, path, Vocabulary) if store.exists(path) else vocabulary


def round_lines(reports: Sequence[RoundReport]) -> tuple[RoundLine, ...]:
    """Return one line about each round."""
    lines: list[RoundLine] = []
    before: float | None = None
    for report in reports:
        full = report.share == 1.0
        fall = (before - report.objective) / before if full and before else None
        before = report.objective if full else None
        lines.append(
            RoundLine(
                round=report.round,
                share=report.share,
                objective=report.objective,
                fall=fall,
                held_error=report.held_error,
                changed=report.changed,
                empty_words=report.empty_words,
                refilled=report.refilled,
                split=report.split,
                dropped=report.dropped,
                imbalance=report.imbalance,
                recall=report.recall,
            )
        )
    return tuple(lines)


def local_layers(snapshot: IndexSnapshot, layer: str | None = None) -> tuple[str, ...]:
    """Return the layers of a snapshot that have visual words, high to low, or the given one.

    Raises:
        UnknownLayer: the given layer has none.
        InputError: no layer has.
    """
    layers = snapshot.extraction.layers
    known = [each.name for each in layers if each.name in snapshot.vocabularies]
    if not known:
        raise InputError(
            f"snapshot {snapshot.number} has no local layer, so no visual words: index with one, "
            "such as --layers head,b11"
        )
    if layer is None:
        return tuple(known)
    if (named := meant(layer, known)) is None:
        raise UnknownLayer(
            f"snapshot {snapshot.number} has no visual words of a layer {shown(layer)}: it has "
            f"those of {known_names(layer, known)}"
        )
    return (named,)


def corpus_use(
    store: Store, snapshot: IndexSnapshot, layer: str, on_progress: OnProgress = quiet
) -> CorpusUse:
    """Return how the pictures of a snapshot use a layer's words, read segment by segment."""
    words = snapshot.vocabularies[layer].words
    counts, pictures = np.zeros(words, np.int64), np.zeros(words, np.int64)
    images = 0
    for number, (has, counted, there) in enumerate(_bags(store, snapshot, layer, words)):
        counts += counted
        pictures += has
        images += there
        done = number + 1
        on_progress(
            Progress(f"use {layer}", done, len(snapshot.segments), images, snapshot.indexed)
        )
    return CorpusUse(counts, pictures, images)


def _bags(
    store: Store, snapshot: IndexSnapshot, layer: str, words: int
) -> Iterator[tuple[Int64s, Int64s, int]]:
    """Yield for each segment pictures and descriptors by word, (K,), and the pictures in it."""
    for segment in snapshot.segments:
        _, bags = read_committed(store, segment.files[f"{layer}.bags"], read_bags)
        bags.check_words(words)
        has = np.bincount(bags.words, minlength=words).astype(np.int64)
        # Sums of whole numbers below 2**53 are exact in float64.
        counted = np.bincount(bags.words, bags.counts, minlength=words).astype(np.int64)
        yield has, counted, len(bags)


def inspect_layer(
    store: Store,
    snapshot: IndexSnapshot,
    layer: str,
    *,
    listed: int = 8,
    on_progress: OnProgress = quiet,
) -> LayerHealth:
    """Return the health of a layer's words, with `listed` most used and most bursty words."""
    vocabulary = snapshot.vocabularies[layer]
    kept = kept_of(store, vocabulary)
    lines = round_lines(vocabulary.rounds)
    use = corpus_use(store, snapshot, layer, on_progress)
    last = lines[-1].recall if lines else None
    return LayerHealth(
        layer=layer,
        vocabulary=vocabulary,
        rounds=lines,
        held_rows=kept.held_rows,
        held_error=kept.held_error,
        recall=last if kept.recall is None else kept.recall,
        use=use,
        summary=word_use(use.counts),
        most_used=word_lines(use, use.most_used(listed)),
        most_bursty=word_lines(use, use.most_bursty(listed)),
        fit=snapshot_fits(store, snapshot).get(layer),
        sample_freed=kept.freed,
    )


def word_lines(use: CorpusUse, words: Sequence[int]) -> tuple[WordLine, ...]:
    """Return one line about each of these words."""
    burstiness, total = use.burstiness(), max(int(use.counts.sum()), 1)
    return tuple(
        WordLine(
            word=word,
            count=int(use.counts[word]),
            share=int(use.counts[word]) / total,
            pictures=int(use.pictures[word]),
            burstiness=float(burstiness[word]),
        )
        for word in words
    )
