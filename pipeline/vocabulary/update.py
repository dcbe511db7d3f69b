"""The end of a round: words go to the mean of their rows, empty words to far rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.vocabulary.batches import share_of_round
from pipeline.vocabulary.compare import Float32s
from pipeline.vocabulary.health import word_use
from pipeline.vocabulary.partial import Partial
from schemas.vocabulary import RoundReport, VocabularySpec

MENDING_ROUNDS = 64
"""Rounds after the last of the spec that only find places for empty words, at most."""


@dataclass(frozen=True)
class RoundInfo:
    """What a round gave beside the centroids: its report, and whether training is over."""

    report: RoundReport
    done: bool


def spares_of_round(number: int, words: int) -> int:
    """Return how many far rows each task of a round keeps for empty words.

    None before the full rounds: a word without rows in a part of them is not yet empty. Then an
    eighth of the words, at least 256.
    """
    return max(256, words // 8) if share_of_round(number) == 1.0 else 0


def update(
    centroids: Float32s,
    merged: Partial,
    reports: Sequence[RoundReport],
    spec: VocabularySpec,
    recall: float = 1.0,
) -> tuple[Float32s, RoundInfo]:
    """Return the centroids after a round, (K, D) float32, and what the round measured.

    Each word goes to the mean of its rows; untouched words stay. In a full round, empty words go
    to the spares, the lowest word to the best spare. Training is over once a full round leaves no
    word empty and either its objective fell by less than the tolerance since the full round before
    it, or it was the last of the spec. The centroids are then returned as they came, so the last
    report is about the very words that are kept.

    If words are still empty in the spec's last round, more rounds follow in which the others stand
    still. A word on a row never loses that row to another place, so every such round of an exact
    assigner puts at least one word on a row for good. Words are dropped, and training is over, if
    there is no spare left, because all rows lie on words and so the rows have fewer distinct values
    than words were asked for, or after `MENDING_ROUNDS` such rounds.

    Args:
        centroids: (K, D) float32, to which the round's rows were assigned.
        merged: the merged partials of all tasks of the round.
        reports: those of the rounds before; their number is the number of this round.
        spec: what was asked for.
        recall: what was measured for the round's assigner.

    Raises:
        ValueError: a partial of other words or dimensions, or a full round without a row.
    """
    number = len(reports)
    share = share_of_round(number)
    _check(centroids, merged, share)
    words = len(centroids)
    empty = np.setdiff1d(np.arange(words, dtype=np.uint32), merged.words)
    objective = merged.squared_error / merged.rows if merged.rows else 0.0
    before = reports[-1].objective if reports and reports[-1].share == 1.0 else None
    settled = objective == 0.0 or (
        before is not None and before - objective <= spec.tolerance * before
    )
    past_rounds = number + 1 - spec.rounds
    full = share == 1.0
    hopeless = len(empty) > 0 and (len(merged.spares) == 0 or past_rounds >= MENDING_ROUNDS)
    drop = full and hopeless
    done = drop or (full and len(empty) == 0 and (settled or past_rounds >= 0))

    result = centroids.copy()
    refilled = 0
    if drop:
        result = centroids[merged.words]
    elif not done:
        if past_rounds < 0:
            means = merged.sums / merged.counts[:, None]
            result[merged.words] = means.astype(np.float32)
        refilled = min(len(empty), len(merged.spares)) if full else 0
        result[empty[:refilled]] = merged.spares.descriptors[:refilled]
    moved = 0 if drop else int(np.count_nonzero(np.any(result != centroids, axis=1)))
    report = RoundReport(
        round=number,
        share=share,
        objective=objective,
        changed=moved / words,
        empty_words=len(empty),
        imbalance=word_use(merged.counts, words).imbalance,
        recall=recall,
        refilled=refilled,
        dropped=len(empty) if drop else 0,
    )
    return result, RoundInfo(report, done)


def _check(centroids: Float32s, merged: Partial, share: float) -> None:
    if merged.sums.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"a partial has the dimensions of the centroids; "
            f"got {merged.sums.shape[1]} for {centroids.shape[1]}"
        )
    if len(merged.words) and int(merged.words[-1]) >= len(centroids):
        raise ValueError(
            f"a partial's words are below the number of centroids; "
            f"got word {int(merged.words[-1])} for {len(centroids)}"
        )
    if share == 1.0 and merged.rows == 0:
        raise ValueError("a full round has at least 1 row; got 0")
