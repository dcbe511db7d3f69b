"""Carry settings from data set to data set: chosen on one, scored on the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Carried:
    """One row of the matrix: a setting, and what it scores on each data set.

    Attributes:
        name: the data set that chose it, or what it is called.
        setting: the number of the point, None for a setting that no data set chose.
        scores: by data set.
        losses: by data set, what its own best point scores more; negative where that of no grid,
            such as other weights, is better than any of its points.
    """

    name: str
    setting: int | None
    scores: dict[str, float]
    losses: dict[str, float]


def transfer(
    means: Mapping[str, Sequence[float]], fixed: Mapping[str, Mapping[str, float]] | None = None
) -> tuple[Carried, ...]:
    """Return what the best point of each data set scores on all of them, then what others score.

    The best point is the first of the highest mean. What a data set scores by its own point is
    tuned on the very queries it is scored on, so the diagonal is the least loss, 0, and no figure
    to quote.

    Args:
        means: by data set, the mean score at each of the same points in the same order.
        fixed: settings that no data set chose, such as the published one: their scores by data
            set; a data set may be absent.

    Raises:
        ValueError: the data sets have different numbers of points, or none.

    >>> [row.losses for row in transfer({"a": [0.5, 0.75], "b": [1.0, 0.5]})]
    [{'a': 0.0, 'b': 0.5}, {'a': 0.25, 'b': 0.0}]
    """
    if len({len(row) for row in means.values()}) != 1 or not next(iter(means.values())):
        raise ValueError(
            "settings are carried between data sets that were swept over the same points; got "
            f"{[len(row) for row in means.values()]} points"
        )
    top = {name: max(row) for name, row in means.items()}
    found = []
    for name, row in means.items():
        place = int(np.argmax(row))
        found.append(_carried(name, place, {each: means[each][place] for each in means}, top))
    for name, scores in (fixed or {}).items():
        found.append(_carried(name, None, dict(scores), top))
    return tuple(found)


def _carried(
    name: str, setting: int | None, scores: dict[str, float], top: Mapping[str, float]
) -> Carried:
    return Carried(name, setting, scores, {each: top[each] - scores[each] for each in scores})
