"""`lamella index`: index a source into a store, with progress."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.corpus.joined import parts_of
from lamella.pipeline.corpus.sources import plain_source
from lamella.pipeline.corpus.stores_within import check_apart
from lamella.pipeline.errors import CorruptFile, NotPromoted
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.index.words_fit import WordsFit, snapshot_fits
from lamella.pipeline.jobs.indexing import Prepared, index_prepared, prepare
from lamella.pipeline.jobs.promoting import last_judgement
from lamella.pipeline.journey import Journey
from lamella.pipeline.plan.actuals import Comparison, Stopwatch, compare
from lamella.pipeline.plan.history import last_plan, subject_of
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.store.storage import check_place, open_store
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.gate import Judgement
from lamella.schemas.job import JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.plan import Plan
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Indexed:
    """A snapshot, and the comparison of the run with its plan; None where there was no plan.

    `passed_over` counts by kind the files of the source that are no pictures. `fits` has one a
    layer whose words came from elsewhere. `judgement` is that of the gate, None where there was
    nothing to judge the snapshot against. `withheld` says why it was not promoted, None if it was.
    """

    snapshot: IndexSnapshot
    passed_over: dict[str, int]
    compared: list[Comparison] | None
    fits: tuple[WordsFit, ...]
    judgement: Judgement | None
    withheld: NotPromoted | None


@dataclass(frozen=True)
class Wishes:
    """How to index what may have been indexed before, as `index_prepared` takes it."""

    force: bool = False
    retrain: bool = False
    rehash: bool = False


def prepare_index(source: str | None, into: str | None, job: JobConfig, *, quiet: bool) -> Prepared:
    """Check settings, source and the place of the store before an engine starts; write nothing.

    Args:
        source: of pictures; None where the job has vectors alone.
        into: the store; None where none will be written, as by a plan.

    Raises:
        InputError, StoreError: they cannot be used.
    """
    if into is not None:
        if source is not None:
            for place in parts_of(source).values() or [source]:
                check_apart(plain_source(place), into)
        check_place(into)
    return listed(partial(prepare, source, job), quiet=quiet)


def listed(prepare_job: Callable[..., Prepared], *, quiet: bool) -> Prepared:
    """Return a job, and show how many files were found so far, for listing may take minutes.

    Args:
        prepare_job: takes `on_entries`, as `list_source` does.
    """
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        lines.stage(Progress("list", 0, 1, 0, 0))
        prepared = prepare_job(
            on_entries=lambda number: lines.stage(Progress("list", 0, 1, number, 0))
        )
        files = len(prepared.listing.entries)
        lines.stage(Progress("list", 1, 1, files, files))
    return prepared


def index_store(
    engine: Engine,
    into: str,
    prepared: Prepared,
    *,
    quiet: bool,
    wishes: Wishes = Wishes(),
) -> Indexed:
    """Return the snapshot of a source in a store; make it if it is absent.

    It is promoted if its gate passes, and no order or hold forbids it; or with `force`.

    Args:
        prepared: as `prepare_index` returned it for this store.
    """
    return _indexed(engine, open_store(into, create=True), prepared, wishes, quiet=quiet)


def reindex_store(
    engine: Engine,
    store: Store,
    prepared: Prepared,
    *,
    quiet: bool,
    wishes: Wishes = Wishes(),
) -> Indexed:
    """Return the snapshot of the source of a store's current snapshot, as it is now.

    Args:
        prepared: the job on record, as `reindexing.prepare_again` returned it.
    """
    return _indexed(engine, store, prepared, wishes, quiet=quiet)


def _indexed(
    engine: Engine,
    store: Store,
    prepared: Prepared,
    wishes: Wishes,
    *,
    quiet: bool,
) -> Indexed:
    made: list[CorpusManifest] = []
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        watch = Stopwatch(engine.runner, lines.stage)
        plan = _plan_of(store, prepared)
        if plan is not None:
            lines.expect_rounds({each.name: each.rounds for each in plan.stages if each.rounds})
        withheld = None
        try:
            snapshot = index_prepared(
                store,
                watch,
                prepared,
                threads=engine.threads,
                watch=Watch(watch.progress, lines.round, made.append, lines.note),
                force=wishes.force,
                retrain=wishes.retrain,
                rehash=wishes.rehash,
                opened=engine.coordinator,
            )
        except NotPromoted as error:
            snapshot, withheld = read_snapshot(store, error.snapshot), error
    (manifest,) = made
    fits = tuple(snapshot_fits(store, snapshot).values())
    judgement = last_judgement(store, snapshot)
    if plan is None:
        return Indexed(snapshot, manifest.passed_over, None, fits, judgement, withheld)
    recorded = read_record(store, snapshot.job, JobRecord)
    stored = Journey(store, recorded).look().size_bytes(store)
    compared = compare(plan, watch.taken, stored, snapshot.indexed)
    return Indexed(snapshot, manifest.passed_over, compared, fits, judgement, withheld)


def _plan_of(store: Store, prepared: Prepared) -> Plan | None:
    try:
        return last_plan(store, prepared.name, subject_of(prepared))
    except CorruptFile:  # `verify` reports it; the run does not need it
        return None
