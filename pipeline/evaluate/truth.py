"""Ground truth of queries, and the score of each query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.measures import precision_of_first
from lamella.pipeline.evaluate.metrics import (
    Ties,
    average_precision,
    average_precision_by_rectangles,
    average_precision_over_ties,
    first_over_ties,
    ns_over_ties,
    ns_score,
    ranks_of,
)

MetricName = Literal["N-S", "mAP", "mAP@100"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class GroundTruthQuery:
    """One query; names are picture names as in the corpus manifest.

    Attributes:
        name: the query picture.
        positives: right answers that the corpus holds.
        junk: pictures that leave the ranking before it is scored, neither right nor wrong.
        remove_self: the query leaves the ranking too.
        box: corners x1, y1, x2, y2 in pixels of the picture as it is given, or None: all of it.
        missing: right answers that the corpus lacks; they count as missed.
        grades: the relevance of pictures that are judged otherwise than right with 1: how relevant
            right answers are, from 2, and 0 for pictures that are known to be wrong. Measures of
            graded relevance see them; all others take every right answer alike.

    Raises:
        InputError: there is no right answer, or a picture is both right and ignored.
    """

    name: str
    positives: frozenset[str]
    junk: frozenset[str] = frozenset()
    remove_self: bool = False
    box: Box | None = None
    missing: frozenset[str] = frozenset()
    grades: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.relevant == 0:
            raise InputError(
                f"a query needs at least 1 right answer; {self.name} has 0: leave it out"
            )
        both = self.positives & self.ignored
        if both:
            raise InputError(
                f"a picture is right or ignored, not both; for query {self.name} "
                f"{min(both)} is both: mend the ground truth"
            )

    @property
    def relevant(self) -> int:
        """How many right answers there are, whether the corpus holds them or not."""
        return len(self.positives) + len(self.missing)

    @property
    def ignored(self) -> frozenset[str]:
        """Pictures that leave the ranking before it is scored."""
        return self.junk | {self.name} if self.remove_self else self.junk


@dataclass(frozen=True)
class Release:
    """How much of a data set a corpus holds.

    Attributes:
        held: pictures of the data set in the corpus.
        pictures: how many the data set has, without the damaged ones.
        queries: how many it has.
        damaged: files of the release that are known to be no pictures; indexing refuses them.
    """

    held: int
    pictures: int
    queries: int
    damaged: int = 0


@dataclass(frozen=True)
class GroundTruth:
    """The queries of a protocol, in the order of their scores.

    Attributes:
        left_out: (name, reason) of queries that are not scored, such as one without right answers.
        release: how much of the data set the corpus holds; None where that is not known.
        measures: names of those that the protocol reports beside its own.
        files: those that it was read from.

    Raises:
        InputError: there are no queries.
    """

    protocol: str
    metric_name: MetricName
    queries: tuple[GroundTruthQuery, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    release: Release | None = None
    measures: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.queries:
            why = ""
            if self.left_out:
                name, reason = self.left_out[0]
                why = f" ({len(self.left_out):,} left out; {name}: {reason})"
            raise InputError(
                f"protocol {self.protocol} needs at least 1 query; the corpus gives 0{why}: "
                "choose another protocol"
            )

    @property
    def left_out_by_reason(self) -> dict[str, list[str]]:
        """Names of the queries that are not scored, by the reason."""
        found: dict[str, list[str]] = {}
        for name, reason in self.left_out:
            found.setdefault(reason, []).append(name)
        return found

    @property
    def missing(self) -> frozenset[str]:
        """Right answers of any query that the corpus lacks."""
        return frozenset().union(*(query.missing for query in self.queries))

    @property
    def named(self) -> frozenset[str]:
        """Pictures of the corpus that the protocol names: queries, right answers, junk."""
        sets = {query.positives for query in self.queries} | {query.junk for query in self.queries}
        return frozenset(query.name for query in self.queries).union(*sets)


@dataclass(frozen=True)
class ResolvedQuery:
    """A query in image ids: positive and ignored ids (int64, rising), and all right answers."""

    positive_ids: NDArray[np.int64]
    ignored_ids: NDArray[np.int64]
    relevant: int

    def unrelated(self, images: int, query_id: int) -> NDArray[np.bool_]:
        """Return (N,) bool: neither right, nor ignored, nor the query itself."""
        mask = np.ones(images, dtype=np.bool_)
        mask[self.positive_ids] = False
        mask[self.ignored_ids] = False
        mask[query_id] = False
        return mask


@dataclass(frozen=True)
class ResolvedTruth:
    """A ground truth over one corpus: image id = place in `names`."""

    truth: GroundTruth
    names: tuple[str, ...]
    queries: tuple[ResolvedQuery, ...]
    query_ids: tuple[int, ...]

    def verdicts(self, query: int, image_ids: NDArray[np.int64]) -> NDArray[np.str_]:
        """Return what each image is for a query: right, wrong, junk (not scored), or query."""
        resolved = self.queries[query]
        found = np.full(len(image_ids), "wrong")
        found[np.isin(image_ids, resolved.ignored_ids)] = "junk"
        found[np.isin(image_ids, resolved.positive_ids)] = "right"
        found[image_ids == self.query_ids[query]] = "query"
        return found


def resolve(truth: GroundTruth, names: Sequence[str]) -> ResolvedTruth:
    """Return the ground truth in image ids.

    Args:
        truth: names its pictures as the corpus does.
        names: of all N pictures, in manifest order; the place is the image id.

    Raises:
        InputError: a name occurs twice, or the ground truth names a picture that is not in the
            corpus.
    """
    ids = {name: image_id for image_id, name in enumerate(names)}
    if len(ids) != len(names):
        twice = next(name for image_id, name in enumerate(names) if ids[name] != image_id)
        raise InputError(f"a picture name stands once in a corpus; {twice} stands twice")

    # Thousands of queries may share one set of ignored pictures: all queries of Copydays do.
    known: dict[frozenset[str], NDArray[np.int64]] = {}

    def ids_of(query: GroundTruthQuery, wanted: frozenset[str]) -> NDArray[np.int64]:
        if wanted not in known:
            if absent := {name for name in wanted if name not in ids}:
                raise InputError(
                    "the ground truth names only pictures of the corpus; query "
                    f"{query.name} names {min(absent)}, not among {len(ids):,}: build it from "
                    "this corpus"
                )
            known[wanted] = np.array(sorted(ids[name] for name in wanted), dtype=np.int64)
        return known[wanted]

    for query in truth.queries:
        ids_of(query, frozenset({query.name}))
    resolved = tuple(
        ResolvedQuery(ids_of(query, query.positives), ids_of(query, query.ignored), query.relevant)
        for query in truth.queries
    )
    query_ids = tuple(ids[query.name] for query in truth.queries)
    return ResolvedTruth(truth, tuple(names), resolved, query_ids)


def score_query(
    metric_name: MetricName,
    query: ResolvedQuery,
    scores: NDArray[np.float64],
    ties: Ties = "image id",
) -> float:
    """Return one query's score from scores (N,): average precision 0 to 1, or N-S 0 to 4."""
    ranks = ranks_of(scores, query.positive_ids, query.ignored_ids, ties)
    match metric_name:
        case "N-S":
            return ns_score(ranks)
        case "mAP":
            return average_precision(ranks, query.relevant)
        case "mAP@100":
            return precision_of_first(ranks, query.relevant, 100)


def score_over_ties(
    metric_name: MetricName, query: ResolvedQuery, scores: NDArray[np.float64]
) -> float:
    """Return one query's expected score over all orders of equal scores (N,)."""
    found = scores, query.positive_ids, query.ignored_ids
    match metric_name:
        case "N-S":
            return ns_over_ties(*found)
        case "mAP":
            return average_precision_over_ties(*found, query.relevant)[1]
        case "mAP@100":
            return first_over_ties(*found, query.relevant, 100)


def rectangles_of(query: ResolvedQuery, scores: NDArray[np.float64]) -> float:
    """Return one query's average precision by rectangles from scores (N,), 0 to 1."""
    ranks = ranks_of(scores, query.positive_ids, query.ignored_ids)
    return average_precision_by_rectangles(ranks, query.relevant)


def score_queries(
    truth: GroundTruth,
    names: Sequence[str],
    scores: NDArray[np.float64],
    ties: Ties = "image id",
) -> NDArray[np.float64]:
    """Return the score (Q,) of each query; their mean is the score of the ranking.

    Args:
        truth: the queries, in the order of the rows.
        names: of all N pictures, in manifest order.
        scores: (Q, N) float64, of every picture for every query.
        ties: how equal scores are ordered; see `ranks_of`.

    Raises:
        MismatchedQueries: scores are not (Q, N).
        InputError: as `resolve`.
    """
    if scores.shape != (len(truth.queries), len(names)):
        raise MismatchedQueries(
            f"scores have a row a query and a column a picture; got {scores.shape}, not "
            f"{(len(truth.queries), len(names))}: rank every query of the ground truth"
        )
    resolved = resolve(truth, names)
    return np.array(
        [
            score_query(truth.metric_name, query, row, ties)
            for query, row in zip(resolved.queries, scores, strict=True)
        ]
    )
