"""What an open index holds in memory, and the queries of a call as batches of features."""

import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import pyarrow as pa

from lamella.pictures import Picture, given_pictures
from lamella.pipeline.arrays import Int64s
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.pair import Explanation
from lamella.pipeline.jobs.explaining import explain_pair
from lamella.pipeline.jobs.pair_names import chosen_query, chosen_result
from lamella.pipeline.jobs.pictures_again import Opening
from lamella.pipeline.jobs.query_run import Batch
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.resolve import asked_fusion
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.encode import Encoder, find_query_weights, open_encoder
from lamella.pipeline.search.given_queries import (
    VectorsOfQueries,
    check_from_elsewhere,
    with_vectors,
)
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import QueryBatch, SegmentData
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.text import counted
from lamella.schemas.query import Weighting
from lamella.schemas.rankings import query_refusals_schema
from lamella.schemas.snapshot import IndexSnapshot
from lamella.vectors import Vectors, given_vectors, names_of

if TYPE_CHECKING:
    from lamella.pipeline.extract.given import Given

Batches = Iterator[tuple[Int64s, Batch]]
"""The places in the call of the queries that a batch has features of, and the batch."""

AT_ONCE = 64
"""Queries that are encoded, and held, together."""


class Opened:
    """A snapshot's segments and network, opened when they are first needed. For one thread.

    Args:
        limits: what one picture of a query may cost.
    """

    def __init__(
        self,
        store: Store,
        snapshot: IndexSnapshot,
        weights: Path | None,
        threads: int,
        limits: DecodeLimits | None = None,
    ) -> None:
        self.limits = limits or DecodeLimits()
        self.store = store
        self.snapshot = snapshot
        self.images = ImageTable(store, snapshot)
        self._weights = weights
        self._threads = threads
        self._searchers: dict[Weighting, SegmentSearcher] = {}

    def searcher(self, weighting: Weighting | None = None) -> SegmentSearcher:
        """Return what answers for all segments; the snapshot's weighting by default."""
        weighting = weighting or self.snapshot.weighting
        if weighting not in self._searchers:
            self._searchers[weighting] = SegmentSearcher(
                self.store.url, self.snapshot, None, weighting
            )
        return self._searchers[weighting]

    def coordinator(self, weighting: Weighting | None = None) -> Coordinator:
        """Return what answers batches of queries."""
        servers = LocalServers(self.searcher(weighting))
        return Coordinator(servers, self.snapshot.indexed, self.snapshot.proposers)

    @property
    def segments(self) -> list[SegmentData]:
        """All segments."""
        return self.searcher().segments

    @cached_property
    def image_ids(self) -> Int64s:
        """The ids of the images that queries can find, rising."""
        return self.coordinator().image_ids()

    @cached_property
    def encoder(self) -> Encoder:
        """What makes queries of pictures."""
        weights = find_query_weights(self.snapshot, self._weights)
        return open_encoder(self.store, self.snapshot, weights, self._threads)

    def question(
        self,
        search: Mapping[str, Any],
        layers: str | Sequence[str] | None,
        t: float | Sequence[float] | None,
        p: float | Sequence[float] | None,
        w: float | Sequence[float] | None,
        fusion: str | None,
        profile: str | None,
    ) -> Question:
        """Return how queries are to be answered.

        Args:
            search: by name, what is said of `SearchSettings`.

        Raises:
            InputError: a value is out of range.
            UnknownLayer: the snapshot has no such layer.
        """
        settings: dict[str, Any] = {f"search.{name}": value for name, value in search.items()}
        settings |= {"profile": profile, "fusion.preset": fusion}
        for name, given in (("fusion.t", t), ("fusion.p", p), ("fusion.weights", w)):
            settings[name] = [given] if isinstance(given, int | float) else given
        job = load_job(None, settings)
        names = None if layers is None else _texts("layers", layers)
        return Question(*asked_fusion(self.snapshot, job, names), job.search)

    def asked(
        self,
        pictures: Picture | Iterable[Picture] | None,
        ids: int | Iterable[int] | None,
        names: str | Iterable[str] | None,
        layers: Sequence[str],
        vectors: Mapping[str, Vectors] | None = None,
    ) -> tuple[list[str], Batches]:
        """Return the names of the queries of a call, and their features, batch after batch.

        Args:
            layers: of which features of indexed images are read.
            vectors: of the pictures, or asked alone.

        Raises:
            InputError: there is not one kind of query, or something is no query.
        """
        brought = given_vectors(vectors)
        said = {"pictures": pictures, "ids": ids, "names": names}
        given = [name for name, value in said.items() if value is not None]
        if len(given) > 1 or not (given or brought):
            raise InputError(
                f"a call asks by one of pictures, ids and names; got {', '.join(given) or 'none'}: "
                "make a call of each"
            )
        if brought and given != ["pictures"][: len(given)]:
            raise InputError(
                f"vectors are of queries from elsewhere; got some beside {given[0]}, and indexed "
                "images have those that they were indexed with: leave vectors out"
            )
        if pictures is not None or brought:
            return self._from_elsewhere(pictures, layers, brought)
        wanted = self._checked(ids) if ids is not None else self._named(names or ())
        return self.images.names_of(wanted).to_pylist(), self.stored(wanted, layers)

    def stored(self, image_ids: Int64s, layers: Sequence[str]) -> Batches:
        """Yield the features of indexed images."""
        for start in range(0, len(image_ids), AT_ONCE):
            part = image_ids[start : start + AT_ONCE]
            features = self.coordinator().features(part.tolist(), layers)
            nobody = query_refusals_schema().empty_table()
            places = np.arange(start, start + len(part))
            yield places, Batch(part, self.images.names_of(part), features, nobody)

    def explained(
        self,
        query: Picture | SupportsIndex,
        result: str | SupportsIndex,
        question: Question,
        source: str | os.PathLike[str] | None,
    ) -> Explanation:
        """Return why an image has its rank for a query; see `Index.explain`."""
        images = self.images
        if source is not None:
            images = ImageTable(self.store, self.snapshot, pictures=os.fspath(source))
        searcher = self.searcher(question.weighting)
        coordinator = self.coordinator(question.weighting)
        opening = Opening(
            self.snapshot, images, coordinator, lambda: self.encoder, limits=self.limits
        )
        wanted = (
            chosen_result(images, self.snapshot, result)
            if isinstance(result, str)
            else int(self._checked([result])[0])
        )
        asked = self._one_asked(query)
        return explain_pair(opening, searcher, asked, wanted, question.fusion, question.weighting)

    def _one_asked(self, query: Picture | SupportsIndex) -> "int | Given":
        """Return the indexed image or the picture that is the query of a call."""
        if isinstance(query, str):
            return chosen_query(self.images, self.snapshot, query)
        if isinstance(query, int | np.integer):
            return int(self._checked([query])[0])
        given = given_pictures(query)  # type: ignore[arg-type]  # what is no picture is refused
        if len(given) != 1:
            raise InputError(f"one query is explained; got {len(given)}: make a call of each")
        return given[0]

    def _from_elsewhere(
        self,
        pictures: Picture | Iterable[Picture] | None,
        layers: Sequence[str],
        vectors: Mapping[str, VectorsOfQueries],
    ) -> tuple[list[str], Batches]:
        """Return the names and the features of queries that are no indexed images."""
        spec, seen = self.snapshot.extraction, pictures is not None
        check_from_elsewhere(spec, layers, vectors, pictures=seen)
        shown = None if pictures is None else given_pictures(pictures)
        names = names_of(vectors, None if shown is None else [each.name for each in shown])
        batches = _unseen(len(names)) if shown is None else self._encoded(shown)
        used = {layer: each for layer, each in vectors.items() if layer in layers}
        return names, _joined(batches, names, used) if used else batches

    def _encoded(self, pictures: "Sequence[Given]") -> Batches:
        from lamella.pipeline.extract.given import GivenPictures, rows_of_given

        source = GivenPictures(self.limits)
        for start in range(0, len(pictures), AT_ONCE):
            rows = rows_of_given(pictures[start : start + AT_ONCE], self.limits)
            places, layers, refusals = self.encoder.encode(source, rows, start)
            names = pa.array([pictures[place].name for place in places.tolist()], pa.string())
            yield places, Batch(places, names, QueryBatch(layers) if layers else None, refusals)

    def _checked(self, ids: int | Iterable[SupportsIndex]) -> Int64s:
        """Return image ids, all of them of images that queries can find."""
        try:
            wanted = [
                operator.index(each) for each in (ids if isinstance(ids, Iterable) else [ids])
            ]
        except TypeError as error:
            raise InputError(f"ids are whole numbers, one or several: {error}") from None
        known = self.image_ids
        last = int(known[-1]) if len(known) else -1
        inside = np.array([each if 0 <= each <= last else -1 for each in wanted], np.int64)
        absent = np.nonzero(~np.isin(inside, known))[0]
        if len(absent):
            raise InputError(
                f"image {wanted[absent[0]]} is not in snapshot {self.snapshot.number}, which "
                f"has {counted(len(known), 'image')}: it was refused, as images() tells, "
                f"or there is none{_and_more(len(absent))}"
            )
        return inside

    def _named(self, names: str | Iterable[str]) -> Int64s:
        """Return the ids of the first images of these names, all of which queries can find."""
        wanted = _texts("names", names)
        found = self.images.ids_of(set(wanted))
        ids = np.array([found.get(each, -1) for each in wanted], np.int64)
        absent = [wanted[place] for place in np.nonzero(~np.isin(ids, self.image_ids))[0]]
        if absent:
            raise InputError(
                f"snapshot {self.snapshot.number} has no image of name "
                f"{one_line(repr(absent[0]), 200)} that queries can find: images() lists them, "
                f"and says which were refused{_and_more(len(absent))}"
            )
        return ids


def _unseen(queries: int) -> Batches:
    """Yield queries without pictures, of which nothing is known yet."""
    nobody = query_refusals_schema().empty_table()
    for start in range(0, queries, AT_ONCE):
        places = np.arange(start, min(start + AT_ONCE, queries))
        yield places, Batch(places, pa.array([], pa.string()), None, nobody)


def _joined(
    batches: Batches, names: Sequence[str], vectors: Mapping[str, VectorsOfQueries]
) -> Batches:
    """Yield queries with their given vectors; those without one are refused."""
    for places, batch in batches:
        asked = [names[place] for place in places.tolist()]
        kept, features, others = with_vectors(places, asked, batch.features, vectors)
        refusals = pa.concat_tables([batch.refusals, others])
        said = pa.array([names[place] for place in kept.tolist()], pa.string())
        yield kept, Batch(kept, said, features, refusals)


def _texts(what: str, given: str | Iterable[str]) -> list[str]:
    """Return one name or several as a list. Raises InputError where they are none."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Iterable):
        raise InputError(f"{what} takes a name or a list of them; got {texts!r}")
    listed = list(texts)
    if wrong := [each for each in listed if not isinstance(each, str)]:
        raise InputError(
            f"{what} takes a name or a list of them; got {one_line(repr(wrong[0]), 60)}"
        )
    return listed


def _and_more(absent: int) -> str:
    return f"; {absent - 1:,} more are not either" if absent > 1 else ""
