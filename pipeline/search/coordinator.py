"""The coordinator: asks every shard server, merges answers, fuses layers, ranks images.

It does not know whether servers are in this process or on other machines: all it needs is `ask`,
which puts one question to all of them and returns the answers in a fixed order.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.search.expand import check_expandable, expand
from lamella.pipeline.search.fast import answer_fast
from lamella.pipeline.search.merge import (
    common_floors,
    floors_of,
    fuse_candidates,
    merge_answers,
    only_above,
)
from lamella.pipeline.search.reaches import reach_for
from lamella.pipeline.search.searcher import SegmentSearcher, join_queries, take_queries
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.schemas.query import FusionSpec, SearchMode
from lamella.schemas.snapshot import Proposers, Reach

EXPANDED_AT_ONCE = 64
"""Queries whose best pictures are in memory together."""


class Servers(Protocol):
    """All shard servers of a snapshot."""

    def __len__(self) -> int:
        """The number of servers."""
        ...

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        """Return the result of this method of each `SegmentSearcher`, in order.

        Raises:
            ShardUnavailable: one did not answer, so there is no whole answer.
        """
        ...


class LocalServers:
    """One server, in this process."""

    def __init__(self, searcher: SegmentSearcher) -> None:
        self._searcher = searcher

    def __len__(self) -> int:
        return 1

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        return [getattr(self._searcher, question)(*arguments)]


class Coordinator:
    """Answers batches of queries over all segments of a snapshot.

    Args:
        servers: all of the snapshot's.
        images: how many images the snapshot has.
        proposers: of the snapshot, None where it has none.
    """

    def __init__(self, servers: Servers, images: int, proposers: Proposers | None = None) -> None:
        self._servers = servers
        self.images = images
        self._proposers = proposers
        self._weights: dict[str, Float64s] | None = None

    def answer(
        self,
        queries: QueryBatch,
        spec: FusionSpec,
        k: int,
        *,
        mode: SearchMode = "exact",
        candidates: int = 1_000,
        recall: float | None = None,
        above: float | None = None,
        where: str | None = None,
    ) -> Answer:
        """Return the k best images of each query.

        Args:
            mode: `exact` is certified equal to scoring every image; `candidates` fuses the best
                of each layer, `paper` those of the first layer alone. Where the snapshot has
                proposers, `candidates` finds these without a scan.
            candidates: how many a layer proposes, over all segments, after a scan.
            recall: what share of the exact answer proposers are to find; see `reach_for`.
            above: the least score of an answer; there may then be fewer than k. In exact mode a
                high one makes the search cheaper.
            where: a filter, as `search.where` reads it: only images that it is true of are ranked,
                as exactly as all are without. There may be fewer than k.

        Raises:
            InputError: `where` is no filter of this index, or no reach has so much recall.
        """
        k = min(k, max(self.images, 1))
        if mode == "candidates" and self._proposers is not None:
            answer = self.answer_by(reach_for(self._proposers, recall, k), queries, spec, k, where)
        elif mode == "exact":
            floors = None if above is None else floors_of(spec, above, len(queries))
            if len(self._servers) > 1:
                # The common bar of all servers is far higher than that of one server alone.
                common = common_floors(self._servers.ask("bounds", queries, spec, k, where), k)
                floors = common if floors is None else np.maximum(common, floors)
            found = self._servers.ask("exact", queries, spec, k, floors, where)
            answer = merge_answers(found, k)
        else:
            n = min(max(candidates, k), max(self.images, 1))
            layers = [entry.layer for entry in spec.layers]
            answers = self._servers.ask("proposals", queries, layers, n, where)
            lists = [part for each in answers for part in each]
            answer = fuse_candidates(lists, spec, k, n, self.images, mode)
        return answer if above is None else only_above(answer, above)

    def answer_by(
        self,
        reach: Reach,
        queries: QueryBatch,
        spec: FusionSpec,
        k: int,
        where: str | None = None,
    ) -> Answer:
        """Return the k best images of each query that proposers find within a reach.

        Where a filter allows no more images than a layer proposes, all of them are looked at: the
        answer is the exact one.

        Raises:
            InputError: `where` is no filter of this index.
            LamellaError: proposers cannot be opened, as of `open_proposers`.
        """
        every = max(self.images, 1)
        k = min(k, every)
        proposed, decided = (min(max(n, k), every) for n in (reach.proposed, reach.decided))
        if where is not None and sum(self._servers.ask("allowed_images", where)) <= proposed:
            return self.answer(queries, spec, k, where=where)
        wide = reach.model_copy(update={"proposed": proposed, "decided": decided})
        return answer_fast(self._servers.ask, queries, spec, k, wide, where)

    def expanded(
        self, queries: QueryBatch, spec: FusionSpec, n: int, where: str | None = None
    ) -> QueryBatch:
        """Return each query as the mean of itself and its n best pictures, in the fused layers.

        The best are those of an exact search, whichever mode the expanded queries are answered in,
        and of the images that `where` is true of, as in `answer`. A query takes fewer where there
        are fewer. With n = 0 queries stay as they are.

        Raises:
            InputError: a layer has no mean, or `where` is no filter of this index.
        """
        layers = [entry.layer for entry in spec.layers]
        if n == 0 or self.images == 0 or len(queries) == 0:
            return queries
        check_expandable(queries, layers)
        best = self.answer(queries, spec, n, where=where).image_ids
        if self._weights is None:
            self._weights = self._servers.ask("word_weights")[0]
        parts = []
        for start in range(0, len(queries), EXPANDED_AT_ONCE):
            rows = range(start, min(start + EXPANDED_AT_ONCE, len(queries)))
            mine = best[rows.start : rows.stop]
            ids = np.unique(mine[mine >= 0])
            places = np.where(mine >= 0, np.searchsorted(ids, mine), -1)
            if len(ids):
                found = self.features(ids.tolist(), layers)
            else:  # a filter may allow no image
                fused = QueryBatch({name: queries.layers[name] for name in layers})
                found = take_queries(fused, [])
            part = expand(take_queries(queries, rows), found, places, self._weights)
            parts.append(dict(part.layers))
        return join_queries(parts)

    def image_ids(self) -> NDArray[np.int64]:
        """Return the ids of all images of the snapshot, (n,) rising."""
        return np.sort(np.concatenate(self._servers.ask("image_ids")))

    def similarities(
        self, queries: QueryBatch, layers: Sequence[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return all image ids (n,), rising, and every similarity, (C, Q, n) float64."""
        answers = self._servers.ask("similarities", queries, layers)
        ids = np.concatenate([answer[0] for answer in answers])
        table = np.concatenate([answer[1] for answer in answers], axis=2)
        order = np.argsort(ids)
        return ids[order], table[:, :, order]

    def features(self, image_ids: Sequence[int], layers: Sequence[str]) -> QueryBatch:
        """Return indexed images as queries, in the order named.

        Raises:
            InputError: an image is not in the snapshot.
        """
        held: list[int] = []
        parts: list[dict[str, Any]] = []
        for ids, batch in self._servers.ask("features", list(image_ids), list(layers)):
            held += ids
            if batch is not None:
                parts.append(dict(batch.layers))
        place = {image_id: row for row, image_id in enumerate(held)}
        absent = [image_id for image_id in image_ids if image_id not in place]
        if absent:
            raise InputError(
                f"image {absent[0]} is not in the snapshot: it was refused, or there is none"
            )
        return take_queries(join_queries(parts), [place[image_id] for image_id in image_ids])
