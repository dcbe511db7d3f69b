"""`lamella index`: a source into a store, with progress."""

from rich.console import Console

from cluster.engine import Engine
from cluster.progress import ProgressLines
from pipeline.jobs.indexing import Watch, index_source
from pipeline.store.storage import open_store
from schemas.job import JobConfig
from schemas.snapshot import IndexSnapshot


def index_store(
    engine: Engine, into: str, source: str, job: JobConfig, *, quiet: bool
) -> IndexSnapshot:
    """Return the snapshot of a source in a store, made where it is absent."""
    store = open_store(into, create=True)
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        return index_source(
            store,
            engine.runner,
            source,
            job,
            threads=engine.threads,
            watch=Watch(lines.stage, lines.round),
        )
