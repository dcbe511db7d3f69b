"""The rankings of a run as names of pictures, whatever they were read from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, MismatchedQueries, one_line


@dataclass(frozen=True)
class Ranked:
    """The rankings of Q queries, each as deep as is known.

    Attributes:
        queries: names of the queries, each once.
        ranked: names of each query's pictures, best first, each once.
        scores: of those pictures, (n,) float64 a query.

    Raises:
        MismatchedQueries: the parts are not of the same queries, or a ranking has more or fewer
            scores than pictures.
        InputError: a query, or a picture of a ranking, stands twice.
    """

    queries: tuple[str, ...]
    ranked: tuple[tuple[str, ...], ...]
    scores: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        counts = [len(self.queries), len(self.ranked), len(self.scores)]
        if len(set(counts)) != 1:
            raise MismatchedQueries(
                "a run has a ranking and its scores for each query; got "
                f"{counts[1]:,} rankings and {counts[2]:,} scores for {counts[0]:,} queries"
            )
        if twice := _twice(self.queries):
            raise InputError(
                f"a query has one ranking in a run; {_quoted(twice)} has two: names are no ids "
                "here, so give each query a name of its own"
            )
        for query, names, scores in zip(self.queries, self.ranked, self.scores, strict=True):
            if len(names) != len(scores):
                raise MismatchedQueries(
                    f"each picture of a ranking has a score; query {_quoted(query)} has "
                    f"{len(names):,} pictures and {len(scores):,} scores"
                )
            if len(set(names)) != len(names):
                raise InputError(
                    f"a picture stands once in a ranking; for query {_quoted(query)} "
                    f"{_quoted(_twice(names))} stands twice: names are no ids here, so give each "
                    "picture a name of its own"
                )

    @property
    def depth(self) -> int:
        """How many pictures the longest ranking has; 0 without any."""
        return max(map(len, self.ranked), default=0)


class RankedRows:
    """Collects rankings, a table at a time; a name is held once, however often it stands.

    Of a hundred thousand rankings of a hundred pictures the names would else take a gigabyte.
    """

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._queries: list[str] = []
        self._ranked: list[tuple[str, ...]] = []
        self._scores: list[NDArray[np.float64]] = []

    def add(
        self,
        starts: NDArray[np.int64],
        queries: Sequence[str],
        names: Sequence[str],
        pictures: NDArray[np.int64],
        scores: NDArray[np.float64],
    ) -> None:
        """Add the rows of some queries; those of each lie together, best first.

        Args:
            starts: (q,) int64, the first row of each query; the first of them is 0.
            queries: (q,) their names.
            names: (d,) distinct names of pictures.
            pictures: (n,) integers, the place in `names` of each row's picture.
            scores: (n,) float64.
        """
        distinct = list(map(self._held.setdefault, names, names))
        each = np.array(distinct, dtype=object)[pictures]
        for query, ranked, found in zip(
            queries, np.split(each, starts[1:]), np.split(scores, starts[1:]), strict=True
        ):
            self._queries.append(query)
            self._ranked.append(tuple(ranked.tolist()))
            self._scores.append(found)

    def ranked(self) -> Ranked:
        """Return all rankings. Raises as `Ranked`."""
        return Ranked(tuple(self._queries), tuple(self._ranked), tuple(self._scores))


def _twice(names: Sequence[str]) -> str:
    """Return the first name that stands a second time; "" where there is none."""
    if len(set(names)) == len(names):
        return ""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return name


def _quoted(name: str) -> str:
    return one_line(repr(name), 200)
