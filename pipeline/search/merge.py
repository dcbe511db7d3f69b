"""Merge the answers of segments, as if there had been one segment."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import MismatchedQueries
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.segment import Answer
from lamella.schemas.query import FusionSpec


def merge_answers(answers: Sequence[Answer], k: int) -> Answer:
    """Return the k best images of each query over all segments.

    Ordered by score, falling, then by image id, rising, so the answer does not depend on how
    the corpus was cut or on which segment answered first. A query is certified if every segment
    certified it.

    Args:
        answers: one a segment, for the same queries and layers, each with min(k, its images)
            images, or with those of them that may be among the k best of all; no image in two.
        k: how many to keep, at least 1.

    Raises:
        MismatchedQueries: the answers are not for the same number of queries.
        ValueError: no answer, answers in different layers, or k below 1.
    """
    queries = _shared_queries(answers)
    found = [np.nonzero(answer.image_ids >= 0) for answer in answers]
    pairs = list(zip(answers, found, strict=True))
    merged = best_of(
        query_of=np.concatenate([where[0] for where in found]),
        image_ids=np.concatenate([answer.image_ids[where] for answer, where in pairs]),
        scores=np.concatenate([answer.scores[where] for answer, where in pairs]),
        similarities=np.concatenate([answer.similarities[where] for answer, where in pairs]).T,
        queries=queries,
        k=k,
    )
    certified = np.logical_and.reduce([answer.certified for answer in answers])
    return Answer(merged.image_ids, merged.scores, merged.similarities, certified)


def without_own(answer: Answer, image_ids: NDArray[np.int64]) -> Answer:
    """Return the best images of each query besides the query itself, one fewer than there are.

    What was proved of the k + 1 best holds of the k best others.

    Args:
        answer: to Q queries that are indexed images, (Q, k + 1).
        image_ids: (Q,) their ids.
    """
    own = answer.image_ids == image_ids[:, None]
    # A query that is not in its own answer, as without a proof may be, loses the last image.
    order = np.argsort(own, axis=1, kind="stable")[:, :-1]
    return Answer(
        np.take_along_axis(answer.image_ids, order, axis=1),
        np.take_along_axis(answer.scores, order, axis=1),
        np.take_along_axis(answer.similarities, order[:, :, None], axis=1),
        answer.certified,
    )


def common_floors(bounds: Sequence[NDArray[np.float64]], k: int) -> NDArray[np.float64]:
    """Return a lower bound of the k-th best score over all images, (Q,) float64.

    Args:
        bounds: lower bounds of F of different images, (Q, m) each; together k at least.
    """
    together = np.concatenate(bounds, axis=1)
    return np.partition(together, together.shape[1] - k, axis=1)[:, together.shape[1] - k]


def floors_of(spec: FusionSpec, above: float, queries: int) -> NDArray[np.float64]:
    """Return the floors (Q,) of a search for scores of at least `above`.

    Like all bounds they are of F over the greatest weight; rounded down, so that a score which is
    just `above` stays in.
    """
    greatest = max(entry.weight for entry in spec.layers)
    return np.full(queries, np.nextafter(above / greatest * (1 - 1e-12), -np.inf))


def only_above(answer: Answer, above: float) -> Answer:
    """Return an answer without the images whose score is below a number; shapes stay."""
    low = answer.scores < above
    return Answer(
        np.where(low, -1, answer.image_ids),
        np.where(low, -np.inf, answer.scores),
        np.where(low[:, :, None], 0.0, answer.similarities),
        answer.certified,
    )


def fuse_candidates(
    lists: Sequence[Sequence[Answer]],
    spec: FusionSpec,
    k: int,
    n: int,
    images: int,
    mode: Literal["candidates", "paper"],
) -> Answer:
    """Return the k best by F among images proposed by single layers.

    `candidates`: the n best of each layer over all segments. `paper`: those of the first
    (highest) layer only, as Yu et al. 2017 do. Lists are merged before they are cut: n of each
    segment would make the answer depend on how the corpus is cut.

    Args:
        lists: one a segment, each as `top_by_layer(segment, queries, layers of spec, n)`.
        spec: C layers, high to low.
        k: how many to keep, at least 1.
        n: how many images a layer proposes, at least 1.
        images: how many the corpus has. Certified if n is at least that, and not otherwise.
        mode: which layers propose.

    Raises:
        MismatchedQueries: the lists are not for the same number of queries.
        ValueError: lists for other layers than `spec`, or shorter than n.
    """
    for answers in lists:
        if len(answers) != len(spec.layers):
            raise ValueError(
                f"one list a layer of the fusion; got {len(answers)} for {len(spec.layers)}"
            )
        for answer in answers:
            if answer.image_ids.shape[1] < min(n, images):
                raise ValueError(
                    f"each layer proposes {n} images; got lists of {answer.image_ids.shape[1]}"
                )
    proposing = len(spec.layers) if mode == "candidates" else 1
    tops = [merge_answers([answers[c] for answers in lists], n) for c in range(proposing)]
    queries = _shared_queries(tops)
    found = [np.nonzero(top.image_ids >= 0) for top in tops]
    pairs = list(zip(tops, found, strict=True))
    query_of = np.concatenate([where[0] for where in found])
    image_ids = np.concatenate([top.image_ids[where] for top, where in pairs])
    values = np.concatenate([top.similarities[where] for top, where in pairs])
    _, once = np.unique(np.stack([query_of, image_ids]), axis=1, return_index=True)
    scores = fuse(values[once].T, spec)
    return best_of(query_of[once], image_ids[once], scores, values[once].T, queries, k, n >= images)


def _shared_queries(answers: Sequence[Answer]) -> int:
    """Return Q, after checking that all answers share it, and their number of layers.

    Raises:
        MismatchedQueries: they do not share Q.
        ValueError: there is no answer, or they do not share C.
    """
    if not answers:
        raise ValueError("there must be an answer of at least one segment")
    queries = {len(answer) for answer in answers}
    if len(queries) > 1:
        raise MismatchedQueries(
            f"answers must be for the same queries; got answers for {sorted(queries)} queries"
        )
    layers = {answer.similarities.shape[2] for answer in answers}
    if len(layers) > 1:
        raise ValueError(f"answers must be in the same layers; got {sorted(layers)} layers")
    return queries.pop()
