"""Asks a store of six pictures, and notes what is asked of its segments."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamella.pipeline.jobs.query_run import Answered, Place
from lamella.pipeline.jobs.querying import query_images, query_pictures
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.rankings import read_rankings, refusal_tables
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.job import SearchSettings
from lamella.schemas.query import SearchMode
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import Killed
from tests.tiny import ids_by_name


@dataclass
class Tiny:
    """The pictures, a store of theirs, and what answers for it."""

    pictures: Path
    store: Path
    snapshot: IndexSnapshot

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """What is indexed of the six pictures, by name; the last one is cut short."""
        return ids_by_name(self.store, self.snapshot)

    def of(self, *numbers: int) -> list[int]:
        """Return the ids of pictures by their numbers."""
        return [self.ids[f"{number:02d}.png"] for number in numbers]


class Watched(Coordinator):
    """Notes what it is asked, in order, and dies before an answer where it is told to."""

    def __init__(self, tiny: Tiny, snapshot: IndexSnapshot, die_before: int = -1) -> None:
        searcher = SegmentSearcher(str(tiny.store), snapshot)
        super().__init__(LocalServers(searcher), snapshot.indexed)
        self.asked: list[tuple[str, int]] = []
        self._die_before = die_before

    def features(self, image_ids: Sequence[int], layers: Sequence[str]) -> QueryBatch:
        self.asked.append(("fetch", len(image_ids)))
        return super().features(image_ids, layers)

    def answer(self, queries: QueryBatch, *arguments: Any, **named: Any) -> Answer:
        if sum(what == "answer" for what, _ in self.asked) == self._die_before:
            raise Killed("between two batches")
        self.asked.append(("answer", len(queries)))
        return super().answer(queries, *arguments, **named)


@dataclass
class Asker:
    """Asks a tiny store, and notes what was asked of its segments."""

    tiny: Tiny
    snapshot: IndexSnapshot | None = None
    k: int = 3
    size: int = 2
    die_before: int = -1
    mode: SearchMode = "exact"
    candidates: int = 1_000
    expand: int = 0
    exclude_self: bool = False
    above: float | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    stands: list[Progress] = field(default_factory=list)

    def _open(self) -> tuple[Place, Watched, Question]:
        snapshot = self.snapshot or self.tiny.snapshot
        store = LocalStore(self.tiny.store)
        place = Place(store, snapshot, SerialRunner(), 1, self.stands.append)
        coordinator = Watched(self.tiny, snapshot, self.die_before)
        self.asked = coordinator.asked
        search = SearchSettings(
            k=self.k,
            batch_queries=self.size,
            mode=self.mode,
            candidates=self.candidates,
            expand=self.expand,
            exclude_self=self.exclude_self,
            above=self.above,
        )
        return place, coordinator, Question(snapshot.fusion, snapshot.weighting, search)

    def images(self, ids: Sequence[int] | None = None, into: str | None = None) -> Answered:
        place, coordinator, question = self._open()
        return query_images(place, coordinator, ids, question, into=into)

    def pictures(self, source: Path | str, into: str | None = None) -> Answered:
        place, coordinator, question = self._open()
        return query_pictures(place, coordinator, str(source), question, into=into)


def rows(tiny: Tiny, answered: Answered) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_rankings(LocalStore(tiny.store), answered.run).to_pylist()
    return found


def refused(tiny: Tiny, answered: Answered) -> list[tuple[int, str, str]]:
    tables = refusal_tables(LocalStore(tiny.store), answered.run)
    return [(r["query"], r["name"], r["reason"]) for t in tables for r in t.to_pylist()]
