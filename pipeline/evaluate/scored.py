"""One way of ranking, scored query by query: what is compared, tested and written to Parquet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import MismatchedQueries


@dataclass(frozen=True)
class Scored:
    """The scores of one ranking of each query; it may be a stored run, or a row of a report.

    Attributes:
        label: what a person calls it: "run monday", "snapshot 3, mapped fusion".
        queries: names of the Q queries, each once.
        groups: (Q,) int64; queries that share a right answer have one number.
        scores: by measure, (Q,) float64. The protocol's own measure is the first.
        ranked: names of the first pictures of each query, best first; as deep as is known.
            Pictures that are not scored (junk, sometimes the query) are left out.

    Raises:
        MismatchedQueries: the parts are not of the same queries.
    """

    label: str
    queries: tuple[str, ...]
    groups: NDArray[np.int64]
    scores: dict[str, NDArray[np.float64]]
    ranked: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        lengths = {len(self.groups), len(self.ranked), *map(len, self.scores.values())}
        if lengths != {len(self.queries)} or len(set(self.queries)) != len(self.queries):
            raise MismatchedQueries(
                f"{self.label} has {len(self.queries):,} queries, {len(set(self.queries)):,} of "
                f"them distinct, and scores or rankings of {sorted(lengths)}: score each once"
            )

    @property
    def measure(self) -> str:
        """The protocol's own measure."""
        return next(iter(self.scores))
