"""`lamella query`: pictures or image ids against a store's snapshot, with progress."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.errors import IncompatibleInputs, InputError, UnknownLayer, one_line
from lamella.pipeline.index.publish import current_snapshot, read_snapshot
from lamella.pipeline.jobs.query_run import Answered, Place, Question
from lamella.pipeline.jobs.querying import query_images, query_pictures
from lamella.pipeline.jobs.resolve import resolve_fusion
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import WEIGHTING_OF, JobConfig
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.snapshot import IndexSnapshot

ALL = "snapshot"
"""Asks for every indexed picture, in the place of a source."""


@dataclass(frozen=True)
class Queries:
    """What is asked, by pictures or by ids: `3,17`, or `all`; and the run that answers it."""

    pictures: str | None = None
    ids: str | None = None
    into: str | None = None


def query_store(
    engine: Engine,
    url: str,
    job: JobConfig,
    queries: Queries,
    *,
    number: int | None = None,
    weights: Path | None = None,
    layers: list[str] | None = None,
    named_network: bool = False,
    quiet: bool = False,
) -> Answered:
    """Return the run that answers queries.

    Raises:
        IncompatibleInputs: the job file is for another network than the snapshot, or the run was
            made from something else.
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
    fusion, weighting = asked_fusion(snapshot, job, layers)
    question = Question(fusion, weighting, job.search)
    ids = None if queries.ids in (None, "all") else _image_ids(queries.ids)
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        place = Place(store, snapshot, engine.runner, engine.threads, lines.stage)
        with engine.coordinator(store, snapshot, weighting) as coordinator:
            if queries.pictures in (None, ALL):
                return query_images(place, coordinator, ids, question, into=queries.into)
            return query_pictures(
                place, coordinator, queries.pictures, question, into=queries.into, weights=weights
            )


def chosen_snapshot(store: Store, number: int | None) -> IndexSnapshot:
    """Return a snapshot by number, or the promoted one.

    Raises:
        InputError: there is none.
    """
    if number is not None:
        return read_snapshot(store, number)
    snapshot = current_snapshot(store)
    if snapshot is None:
        raise InputError(f"{store.url} holds no snapshot yet: make one with `lamella index`")
    return snapshot


def asked_fusion(
    snapshot: IndexSnapshot, job: JobConfig, names: list[str] | None = None
) -> tuple[FusionSpec, Weighting]:
    """Return the fusion and weighting asked for, the snapshot's own where nothing is said.

    Args:
        names: the layers to fuse, in any order; all of the snapshot by default.

    Raises:
        UnknownLayer: the snapshot has no layer of a name.
        InputError: t or p do not fit the layers.
    """
    layers = snapshot.extraction.layers
    known = [layer.name for layer in layers]
    if unknown := [name for name in names or () if name not in known]:
        raise UnknownLayer(
            f"snapshot {snapshot.number} has no layer {unknown[0]!r}: it has {', '.join(known)}"
        )
    chosen = tuple(layer for layer in layers if names is None or layer.name in names)
    fusion = snapshot.fusion
    if job.fusion.t or job.fusion.p or chosen != layers:
        fusion = resolve_fusion(snapshot.extraction.network, chosen, job.fusion)
    said = "profile" in job.model_fields_set
    return fusion, WEIGHTING_OF[job.profile] if said else snapshot.weighting


def _image_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        said = one_line(repr(text), 60)
        raise InputError(f"--ids takes image ids such as 3,17, or all; got {said}") from None
