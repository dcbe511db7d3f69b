"""`lamella query`: pictures or image ids against a store's snapshot, with progress."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.several import list_piped, list_several
from lamella.pipeline.errors import IncompatibleInputs, InputError, one_line
from lamella.pipeline.jobs.query_run import Answered, Place
from lamella.pipeline.jobs.querying import query_images, query_pictures, query_vectors
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.resolve import asked_fusion, chosen_snapshot
from lamella.pipeline.jobs.vectors import open_layers, vector_settings
from lamella.pipeline.search.given_queries import ByName, check_from_elsewhere
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import EngineSettings, JobConfig, VectorSettings
from lamella.schemas.snapshot import IndexSnapshot

ALL = "snapshot"
"""Asks for every indexed picture, in the place of a source."""

PIPED = "-"
"""Stands for what comes on standard input: a picture, a list of pictures, names or ids."""

FEW = 64
"""One process answers so many pictures before a Ray of our own would have started, and so soon that
there is nothing to continue: their answers are not kept unless a run is named."""


@dataclass(frozen=True)
class Queries:
    """What is asked: pictures, or indexed images by ids (`3,17`, or `all`) or by names; and the run
    that answers it. `-` stands for what is piped in. `vectors` as of `vector_settings`: of the
    pictures, or without any, asked by themselves.
    """

    pictures: str | Sequence[str] | None = None
    ids: str | None = None
    names: str | None = None
    into: str | None = None
    column: str | None = None
    vectors: Sequence[str] = ()


@dataclass(frozen=True)
class Prepared:
    """Queries that were looked at, of a snapshot: a listing, or image ids; None is all.

    With `vectors` they are of the listing's pictures, or asked by themselves.
    `scratch` is a folder for answers that are not kept; without one all are.
    """

    store: Store
    snapshot: IndexSnapshot
    question: Question
    asked: Listing | list[int] | None
    into: str | None
    scratch: Path | None = None
    vectors: Mapping[str, GivenVectors] = field(default_factory=dict)

    @property
    def by_vectors(self) -> bool:
        """Whether vectors are asked by themselves."""
        return bool(self.vectors) and self.asked is None

    @property
    def kept(self) -> bool:
        """Whether the store keeps the answers: where a run is named, and of many queries."""
        return self.scratch is None or self.into is not None or len(self) > FEW

    def answers(self) -> Store | None:
        """Return where answers go that are not kept; None where the store keeps them."""
        return None if self.kept else open_store(f"{self.scratch}/answers", create=True)

    def __len__(self) -> int:
        """How many pictures are asked for, at most."""
        if self.by_vectors:
            return len(next(iter(self.vectors.values())))
        if self.asked is None:
            return self.snapshot.indexed
        return len(self.asked.entries if isinstance(self.asked, Listing) else self.asked)

    def engine(self, settings: EngineSettings) -> EngineSettings:
        """Return the engine's settings: this process for few pictures, unless others are said."""
        said = settings.model_fields_set & {"kind", "address", "workers", "cpus_per_worker"}
        if said or "RAY_ADDRESS" in os.environ or len(self) > FEW:
            return settings
        update = {"kind": "serial"}
        if "search_on" not in settings.model_fields_set:
            update["search_on"] = "cpu"  # to fill a card takes longer than few answers do
        return settings.model_copy(update=update)


def prepare_queries(
    url: str,
    job: JobConfig,
    queries: Queries,
    *,
    number: int | str | None = None,
    layers: list[str] | None = None,
    named_network: bool = False,
    scratch: Path | None = None,
) -> Prepared:
    """Return what is asked of which snapshot, before an engine is started for it.

    Args:
        scratch: an empty folder for what is piped in, and for answers that are not kept.

    Raises:
        IncompatibleInputs: the job file is for another network than the snapshot.
        InputError: there is no snapshot, or the queries cannot be used.
    """
    store = open_store(url)
    snapshot = chosen_snapshot(store, number)
    if named_network and job.network.name != snapshot.extraction.network:
        raise IncompatibleInputs(
            f"the job file is for {job.network.name}, snapshot {snapshot.number} "
            f"({snapshot.root_digest[:12]}) was made with {snapshot.extraction.network}: "
            "query with the job it was made by, or choose another --snapshot"
        )
    question = Question(*asked_fusion(snapshot, job, layers), job.search)
    question.target(snapshot)
    question.check_filter(ImageTable(store, snapshot))
    given = queries.pictures
    pictures = [given] if isinstance(given, str) else list(given or ())
    asked: Listing | list[int] | None = None
    from_elsewhere = bool(pictures) and pictures != [ALL]
    by_vectors = not pictures and queries.ids is None and queries.names is None
    vectors: dict[str, GivenVectors] = {}
    if queries.vectors:
        if not (from_elsewhere or by_vectors):
            raise InputError(
                "--vectors gives vectors for query pictures from elsewhere, or is asked alone; "
                "indexed pictures have those that they were indexed with: leave it out"
            )
        said = vector_settings(queries.vectors)
        vectors = open_layers([VectorSettings.model_validate(each) for each in said])
    if from_elsewhere or by_vectors:
        question.check("pictures")
        fused = [entry.layer for entry in question.fusion.layers]
        named = {name: ByName(each) for name, each in vectors.items()}
        check_from_elsewhere(snapshot.extraction, fused, named, pictures=from_elsewhere)
    if from_elsewhere:
        asked = _listed(pictures, queries.column, scratch)
    elif not pictures and queries.ids not in (None, "all"):
        asked = _image_ids(queries.ids)
    elif queries.names is not None:
        asked = _named(store, snapshot, queries.names)
    return Prepared(store, snapshot, question, asked, queries.into, scratch, vectors)


def answer_queries(
    engine: Engine, prepared: Prepared, *, weights: Path | None = None, quiet: bool = False
) -> Answered:
    """Return the run that answers queries.

    Raises:
        IncompatibleInputs: the run was made from something else.
        InputError: the queries hold no picture, or an image that is not in the snapshot.
    """
    store, snapshot, question = prepared.store, prepared.snapshot, prepared.question
    asked, into = prepared.asked, prepared.into
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        runner, threads = engine.runner, engine.threads
        place = Place(store, snapshot, runner, threads, lines.stage, scratch=prepared.answers())
        with engine.coordinator(store, snapshot, question.weighting) as coordinator:
            vectors = prepared.vectors
            if isinstance(asked, Listing):
                return query_pictures(
                    *(place, coordinator, asked, question),
                    into=into,
                    weights=weights,
                    vectors=vectors,
                )
            if prepared.by_vectors:
                return query_vectors(place, coordinator, vectors, question, into=into)
            return query_images(place, coordinator, asked, question, into=into)


def _listed(pictures: Sequence[str], column: str | None, scratch: Path | None) -> Listing:
    """Return the listing of the pictures given, or of those that are piped in."""
    if pictures == [PIPED] and scratch is not None:
        with _piped():
            return list_piped(sys.stdin.buffer, scratch)
    for alone in (PIPED, ALL):
        if alone in pictures:
            raise InputError(f"`{alone}` is asked alone; to name a file, write ./{alone}")
    return list_several(pictures, column)


@contextmanager
def _piped() -> Iterator[None]:
    """Check that standard input is not a person at a keyboard, who would wonder what it waits for.

    Raises:
        InputError: it is, or it is closed, or cannot be read.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "`-` reads standard input, and nothing is piped in: find . -name '*.jpg' | lamella "
            "query STORE -"
        )
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise InputError(f"standard input cannot be read: {one_line(error)}") from error


def _lines() -> list[str]:
    """Return what is piped in, a line each."""
    with _piped():
        return [line for line in sys.stdin.read().splitlines() if line]


def _named(store: Store, snapshot: IndexSnapshot, text: str) -> list[int]:
    """Return the ids of indexed images given by name: one name, several with commas between, or
    piped in, one a line.
    """
    names = _lines() if text == PIPED else text.split(",")
    found = ImageTable(store, snapshot).ids_of({text, *names})
    if text in found and text != PIPED:
        return [found[text]]
    if absent := [name for name in names if name not in found]:
        raise InputError(
            f"snapshot {snapshot.number} has no indexed image of name "
            f"{one_line(repr(absent[0]), 200)}: names are "
            "relative to the source, and `images()` in Python lists them"
        )
    return [found[name] for name in names]


def _image_ids(text: str) -> list[int]:
    parts = _lines() if text == PIPED else text.split(",")
    try:
        return [int(part) for part in parts]
    except ValueError:
        said = one_line(repr(",".join(parts)), 60)
        raise InputError(f"--ids takes image ids such as 3,17, or all; got {said}") from None
