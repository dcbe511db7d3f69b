"""Measure whether words that were trained on some pictures still fit others.

Two things are measured on descriptors of the other pictures: their distance to their words, against
that of held-out rows of the training pictures; and how differently the words are used. Use differs
between any two sets of pictures, so it is judged against the difference between two halves of the
training pictures, of equal size.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.vocabulary.batches import row_uniforms
from lamella.pipeline.vocabulary.sample import Sample

MOST_ROWS = 20_000
"""Descriptors that are drawn of the other pictures, at most."""

SEED = 0x4452494654
"""Seed of the draws here, so that they are not the rows that words are trained on."""

LARGEST_RISE = 0.15
"""From this relative rise of the squared error on, words should be retrained.

Measured between four small collections (30 to 150 pictures each, layer b11, rows that no word was
fitted to): .02 and .16 to other pictures of the same collection, .17 to .32 to another one.
"""

LARGEST_EXCESS = 0.05
"""From this divergence above the noise floor on, in bits, words should be retrained.

Measured likewise: below 0 within a collection, .01 to .19 between two; 9 of 10 above .05.
"""

CHANGED = 2.0
"""Factor by which the use of a word must have risen or fallen to count as changed."""


@dataclass(frozen=True)
class ChangedWord:
    """A word whose use changed: its share of descriptors in both sets, and bits of divergence."""

    word: int
    before: float
    now: float
    bits: float


@dataclass(frozen=True)
class Drift:
    """How a layer's words fit other pictures.

    Attributes:
        rows, pictures: descriptors drawn of the other pictures, and from how many.
        error: mean squared distance of these rows to their words.
        own_error: that of rows of the training pictures.
        held_out: whether those rows were held out; if not, the rise is overstated.
        rise: of the error, relative to `own_error`.
        unused: words that no row has, of `words`.
        divergence: Jensen-Shannon divergence of the words' use, training and other pictures, bits.
        floor: that of two halves of the training pictures.
        changed: share of words used at least twice or at most half as much.
        changed_floor: that share between the two halves.
        compared: descriptors in each of the sets compared by `divergence` and the fields after it.
        most_changed: the words that contribute most to the divergence.
    """

    layer: str
    words: int
    rows: int
    pictures: int
    error: float
    own_error: float
    held_out: bool
    rise: float
    unused: int
    divergence: float
    floor: float
    changed: float
    changed_floor: float
    compared: int
    most_changed: tuple[ChangedWord, ...]

    @property
    def excess(self) -> float:
        """Bits of divergence above the noise floor."""
        return self.divergence - self.floor

    @property
    def advice(self) -> str:
        """`train anew` where rise or excess reaches its threshold, else `keep`."""
        far = self.rise >= LARGEST_RISE or self.excess >= LARGEST_EXCESS
        return "train anew" if far else "keep"

    @property
    def because(self) -> str:
        """The rule behind the advice, with both values and both thresholds."""
        return (
            f"the error is {self.rise:+.1%} (train anew from {LARGEST_RISE:+.0%}); the divergence "
            f"of use is {self.excess:+.3f} bits from its noise floor (train anew from "
            f"{LARGEST_EXCESS:+.3f})"
        )

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, with the advice and its thresholds."""
        rule = {"largest_rise": LARGEST_RISE, "largest_excess": LARGEST_EXCESS}
        said = {"excess": self.excess, "advice": self.advice, "because": self.because}
        return asdict(self) | said | {"rule": rule}


def divergence_by_word(p: Int64s, q: Int64s) -> NDArray[np.float64]:
    """Return each word's part of the Jensen-Shannon divergence of two uses, in bits; (K,).

    The sum is from 0, equal shares, to 1, no word in common. Parts are 0 or more.

    Args:
        p, q: (K,) descriptors of each word, at least one in each.

    >>> divergence_by_word(np.array([2, 0]), np.array([0, 5])).tolist()
    [0.5, 0.5]
    """
    a, b = p / p.sum(), q / q.sum()
    middle = (a + b) / 2
    parts = np.zeros(len(middle))
    for share in (a, b):
        there = share > 0
        parts[there] += share[there] * np.log2(share[there] / middle[there]) / 2
    return parts


def changed_share(p: Int64s, q: Int64s) -> float:
    """Return the share of words whose use rose or fell by the factor `CHANGED` or more.

    Among words that either set uses. Shares are of counts plus one, so that a word seen once in one
    set and never in the other does not count as an infinite change.
    """
    used = (p + q) > 0
    a, b = (p + 1) / (p.sum() + len(p)), (q + 1) / (q.sum() + len(q))
    ratio = np.maximum(a / b, b / a)[used]
    return float(np.mean(ratio >= CHANGED)) if len(ratio) else 0.0


def equal_draw(sample: Sample, pictures: Int64s, cap: int, seed: int) -> NDArray[np.int64]:
    """Return at most `cap` rows of each of these pictures, those with the smallest hashes."""
    mine = np.flatnonzero(np.isin(sample.image_ids, pictures))
    ids, positions = sample.image_ids[mine], sample.positions[mine]
    order = np.lexsort((row_uniforms(seed, ids, positions), ids))
    starts = np.flatnonzero(np.r_[True, np.diff(ids[order]) != 0])
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return np.sort(mine[order[place < cap]])


def shuffled_pictures(sample: Sample, seed: int) -> Int64s:
    """Return the ids of a sample's pictures in an order that only they and the seed decide."""
    ids = np.unique(sample.image_ids)
    return ids[np.argsort(row_uniforms(seed, ids, np.zeros_like(ids)), kind="stable")]


def measure_drift(
    layer: str,
    words: int,
    own: tuple[Sample, NDArray[np.uint32]],
    other: tuple[Sample, NDArray[np.uint32]],
    *,
    error: float,
    own_error: float,
    held_out: bool,
    listed: int = 5,
) -> Drift:
    """Return the drift from a sample of the training pictures to a sample of other pictures.

    The use of words is compared between sets of equally many pictures, with equally many
    descriptors of each: two halves of the one sample, and as much of the other. The divergence is
    the mean of that from either half.

    Args:
        own, other: descriptors, and the word of each (n,).
        error, own_error, held_out: as in `Drift`.
        listed: how many changed words to name.

    Raises:
        InputError: fewer than two training pictures, or no other picture.
    """
    ids, others = (shuffled_pictures(sample, SEED) for sample, _ in (own, other))
    pictures = min(len(ids) // 2, len(others))
    if pictures < 1:
        raise InputError(
            "drift is measured between two or more pictures that gave descriptors and one or more "
            f"others; layer {layer} has {len(ids)} and {len(others)}"
        )
    sets = [
        (own, ids[:pictures]),
        (own, ids[pictures : 2 * pictures]),
        (other, others[:pictures]),
    ]
    most = max(1, MOST_ROWS // pictures)
    cap = min(most, *(_typical(sample, chosen) for (sample, _), chosen in sets))
    first, second, here = (
        np.bincount(found[equal_draw(sample, chosen, cap, SEED)], minlength=words)
        for (sample, found), chosen in sets
    )
    parts = (divergence_by_word(first, here) + divergence_by_word(second, here)) / 2
    before = (first + second) / (first.sum() + second.sum())
    now = here / here.sum()
    top = np.argsort(-parts, kind="stable")[: min(listed, int(np.count_nonzero(parts)))]
    return Drift(
        layer=layer,
        words=words,
        rows=len(other[1]),
        pictures=len(others),
        error=error,
        own_error=own_error,
        held_out=held_out,
        rise=error / own_error - 1 if own_error > 0 else float(error > 0),
        unused=words - len(np.unique(other[1])),
        divergence=float(parts.sum()),
        floor=float(divergence_by_word(first, second).sum()),
        changed=(changed_share(first, here) + changed_share(second, here)) / 2,
        changed_floor=changed_share(first, second),
        compared=int(here.sum()),
        most_changed=tuple(
            ChangedWord(int(word), float(before[word]), float(now[word]), float(parts[word]))
            for word in top
        ),
    )


def _typical(sample: Sample, pictures: Int64s) -> int:
    """Return the median number of descriptors of these pictures."""
    mine = sample.image_ids[np.isin(sample.image_ids, pictures)]
    return max(1, int(np.median(np.unique(mine, return_counts=True)[1])))
