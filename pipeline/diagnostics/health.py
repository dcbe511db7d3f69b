"""How much each round of a training improved on the one before."""

import itertools
from collections.abc import Sequence

from lamella.schemas.vocabulary import RoundReport


def improvements(reports: Sequence[RoundReport]) -> tuple[float, ...]:
    """Return the relative fall of each full round's objective from the full round before it.

    >>> first = RoundReport(round=3, share=1.0, objective=4.0, changed=1.0, empty_words=0,
    ...                     imbalance=1.0)
    >>> improvements([first, first.model_copy(update={"round": 4, "objective": 3.0})])
    (0.25,)
    """
    full = [report.objective for report in reports if report.share == 1.0]
    return tuple(
        (before - after) / before if before > 0 else 0.0
        for before, after in itertools.pairwise(full)
    )
