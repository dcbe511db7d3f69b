"""`lamella index`: index a source into a store, with progress."""

from dataclasses import dataclass

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.index.words_fit import WordsFit, snapshot_fits
from lamella.pipeline.jobs.indexing import index_prepared, prepare
from lamella.pipeline.journey import Journey
from lamella.pipeline.plan.actuals import Comparison, Stopwatch, compare
from lamella.pipeline.plan.history import last_plan, subject_of
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.records import read_record
from lamella.pipeline.store.storage import open_store
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.job import JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Indexed:
    """A snapshot, and the comparison of the run with its plan; None where there was no plan.

    `passed_over` counts by kind the files of the source that are no pictures. `fits` has one a
    layer whose words came from elsewhere.
    """

    snapshot: IndexSnapshot
    passed_over: dict[str, int]
    compared: list[Comparison] | None
    fits: tuple[WordsFit, ...]


def index_store(engine: Engine, into: str, source: str, job: JobConfig, *, quiet: bool) -> Indexed:
    """Return the snapshot of a source in a store; make it if it is absent."""
    store = open_store(into, create=True)
    made: list[CorpusManifest] = []
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        prepared = prepare(source, job)
        watch = Stopwatch(engine.runner, lines.stage)
        snapshot = index_prepared(
            store,
            watch,
            prepared,
            threads=engine.threads,
            watch=Watch(watch.progress, lines.round, made.append, lines.note),
        )
    (manifest,) = made
    fits = tuple(snapshot_fits(store, snapshot).values())
    try:
        plan = last_plan(store, prepared.name, subject_of(prepared))
    except CorruptFile:  # `verify` reports it; the run does not need it
        plan = None
    if plan is None:
        return Indexed(snapshot, manifest.passed_over, None, fits)
    recorded = read_record(store, snapshot.job, JobRecord)
    stored = Journey(store, recorded).look().size_bytes(store)
    compared = compare(plan, watch.taken, stored, snapshot.indexed)
    return Indexed(snapshot, manifest.passed_over, compared, fits)
