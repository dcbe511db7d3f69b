"""The end of a round: words go to the mean of their rows, empty words to far rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Float64s, Int64s
from lamella.pipeline.vocabulary.batches import Window, is_turned
from lamella.pipeline.vocabulary.compare import squared_norms_of
from lamella.pipeline.vocabulary.empty_clusters import Spares
from lamella.pipeline.vocabulary.partial import Tally
from lamella.pipeline.vocabulary.word_use import word_use
from lamella.schemas.vocabulary import RoundReport, VocabularySpec

MENDING_ROUNDS = 64
"""The most rounds after the spec's last that only place empty words."""

BLOATED = 64
"""A word with more than this many times the mean number of rows is split."""

LITTLE_USED = 1 / 8
"""Words with less than this share of the mean number of rows may be put beside a bloated one."""

SPLITTING_ROUNDS = 4
"""Full rounds in which words are split; in later ones they only settle."""


@dataclass(frozen=True)
class Measured:
    """What a round measured of its initial words.

    Attributes:
        counts: int64 (K,), rows of the round at each word.
        tally: totals of the rows.
        spares: far rows.
        held_error: mean squared error of rows that are not trained on, if there are any.
    """

    counts: Int64s
    tally: Tally
    spares: Spares
    held_error: float | None = None


@dataclass(frozen=True)
class RoundInfo:
    """The result of a round besides the centroids: its report, and whether training is over.

    `placed` are the words that were put on far rows, (m,), `hosts` the words these rows had, (m,).
    This only happens in rounds over all rows, after which earlier masses no longer count.
    """

    report: RoundReport
    done: bool
    placed: npt.NDArray[np.uint32]
    hosts: npt.NDArray[np.uint32]


def spares_of_round(window: Window, words: int) -> int:
    """Return how many far rows each task of a round keeps for empty and split words.

    None before the full rounds: a word without rows in a part of them is not yet empty. Then an
    eighth of the words, at least 256.
    """
    return max(256, words // 8) if window.full else 0


def move_words(
    centroids: Float32s,
    sums: Float64s,
    counts: Int64s,
    masses: Float64s,
    keep: float,
    unit: bool = False,
) -> tuple[Float32s, Float64s]:
    """Return some words at the mean of their rows, (m, D) float32, and their masses (m,).

    c' = (a n c + s) / (a n + m), n' = a n + m, with a word's mass n so far, the sum s and number m
    of its rows, and a the share of the past that counts. With a = 0, as in every round over all
    rows, this is Lloyd's mean. With a = 1 it is the count-weighted rule of Sculley,
    "Web-scale k-means clustering" (WWW 2010); with a between, Spark MLlib's StreamingKMeans, which
    forgets: here a is 1 less the share of a round, so a word remembers about one turn through all
    rows. A word without rows stays.

    Args:
        centroids: (m, D) float32; sums: (m, D) float64; counts: (m,); masses: (m,) float64.
        keep: a.
        unit: whether moved words are brought to unit length; one without length stays as it is.
    """
    past = keep * masses
    mass = past + counts
    total = past[:, None] * centroids.astype(np.float64) + sums if keep else sums
    moved = np.where(
        (counts > 0)[:, None], total / np.maximum(mass, 1e-300)[:, None], centroids
    ).astype(np.float32)
    if unit:
        lengths = np.sqrt(squared_norms_of(moved))
        moved = (moved / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)
    return moved, mass


def update(
    centroids: Float32s,
    moved: Float32s,
    measured: Measured,
    window: Window,
    reports: Sequence[RoundReport],
    spec: VocabularySpec,
) -> tuple[Float32s, RoundInfo]:
    """Return the centroids after a round, (K, D) float32, and what the round measured.

    Words are as they were moved; in a full round, empty words go to the spares, the lowest word to
    the best spare, and in the first full rounds little-used words go to spares of bloated words.
    Training is over once a full round leaves no word empty and either its objective fell by less
    than the tolerance since the full round before it, or it was the last of the spec. The centroids
    are then returned as they came, so the last report is about the very words that are kept.

    If words are still empty in the spec's last round, more rounds follow in which only those move.
    A word on a row never loses that row to another place, so every such round of an exact assigner
    puts at least one word on a row for good. Words are dropped, and training is over, if there is
    no spare left, because all rows lie on words and so the rows have fewer distinct values than
    words were asked for, or after `MENDING_ROUNDS` such rounds.

    Without a full pass, training is over when rounds over parts have converged; words that no row
    of the last had are kept.

    Args:
        centroids: (K, D) float32, to which the round's rows were assigned.
        moved: (K, D) float32, the same words after `move_words`.
        measured: what the round found.
        window: the rows that the round saw.
        reports: those of the rounds before; their number is the number of this round.
        spec: the requested vocabulary.

    Raises:
        ValueError: counts of other words, or a full round without a row.
    """
    counts, spares, words = measured.counts, measured.spares, len(centroids)
    _check(centroids, measured, window)
    empty = np.flatnonzero(counts == 0)
    objective = measured.tally.objective
    full = [report for report in reports if report.share == 1.0]
    before = reports[-1].objective if reports and reports[-1].share == 1.0 else None
    settled = objective == 0.0 or (
        before is not None and before - objective <= spec.tolerance * before
    )
    past_rounds = len(reports) + 1 - spec.rounds
    hopeless = len(empty) > 0 and (len(spares) == 0 or past_rounds >= MENDING_ROUNDS)
    drop = window.full and hopeless
    done = drop or (window.full and len(empty) == 0 and (settled or past_rounds >= 0))
    if not window.full and not spec.full_pass:
        done = is_turned(reports, spec)

    result = centroids.copy()
    refilled = np.empty(0, np.int64)
    split = places = np.empty(0, np.int64)
    if drop:
        result = centroids[counts > 0]
    elif not done:
        if past_rounds < 0:
            result = moved.copy()
        if window.full:
            refilled = empty[: len(spares)]
            result[refilled] = spares.descriptors[: len(refilled)]
            if past_rounds < 0 and len(full) < SPLITTING_ROUNDS and len(refilled) == len(empty):
                split, places = _split(counts, spares, len(refilled))
                result[split] = spares.descriptors[places]
    changed = 0 if drop else int(np.count_nonzero(np.any(result != centroids, axis=1)))
    report = RoundReport(
        round=len(reports),
        share=window.share,
        objective=objective,
        changed=changed / words,
        empty_words=len(empty),
        imbalance=word_use(counts, words).imbalance,
        recall=measured.tally.recall,
        held_error=measured.held_error,
        refilled=len(refilled),
        split=len(split),
        dropped=len(empty) if drop else 0,
    )
    placed = np.concatenate([refilled, split]).astype(np.uint32)
    hosts = np.concatenate([spares.words[: len(refilled)], spares.words[places]])
    return result, RoundInfo(report, done, placed, hosts)


def _split(counts: Int64s, spares: Spares, used: int) -> tuple[Int64s, Int64s]:
    """Return little-used words to move, and the spares of bloated words to put them on, (s,) each.

    A word with n times the mean rows may get n / BLOATED others beside it, the least used first.
    """
    mean = float(counts.mean())
    bloated = np.flatnonzero(counts > BLOATED * mean)
    room = dict.fromkeys(bloated.tolist(), 0)
    for word in room:
        room[word] = int(counts[word] / (BLOATED * mean))
    places: list[int] = []
    for place in range(used, len(spares)):
        word = int(spares.words[place])
        if room.get(word, 0) > 0:
            room[word] -= 1
            places.append(place)
    little = np.flatnonzero((counts > 0) & (counts < LITTLE_USED * mean))
    little = little[np.argsort(counts[little], kind="stable")][: len(places)]
    return little, np.array(places[: len(little)], np.int64)


def _check(centroids: Float32s, measured: Measured, window: Window) -> None:
    if len(measured.counts) != len(centroids):
        raise ValueError(
            f"one count a word; got {len(measured.counts):,} for {len(centroids):,} words"
        )
    if window.full and measured.tally.rows == 0:
        raise ValueError("a full round has at least 1 row; got 0")
