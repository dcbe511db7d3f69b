"""Measure how far the proposers of an index must look, once, before its snapshot is published."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from lamella.pipeline.errors import MissingFile
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.reaches import DEFAULT_RECALL
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.tune import tune
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.record_rules import tuning_path
from lamella.pipeline.store.records import parse_record, read_record
from lamella.schemas.query import Weighting
from lamella.schemas.snapshot import IndexSnapshot, Tuning

TUNE = "tune"
"""The stage of a job that measures reaches."""

OpenCoordinator = Callable[[Store, IndexSnapshot, Weighting], AbstractContextManager[Coordinator]]
"""Opens the segments of a snapshot, published or not, for questions."""


@contextmanager
def in_this_process(
    store: Store, snapshot: IndexSnapshot, weighting: Weighting
) -> Iterator[Coordinator]:
    """Open a snapshot's segments in this process."""
    servers = LocalServers(SegmentSearcher(store.url, snapshot, None, weighting))
    yield Coordinator(servers, snapshot.indexed, snapshot.proposers)


def tuned(
    store: Store,
    draft: IndexSnapshot,
    k: int,
    opened: OpenCoordinator = in_this_process,
    on_progress: OnProgress = quiet,
) -> IndexSnapshot:
    """Return a draft with the reaches of its proposers; as it is where it has none.

    They are measured once: a record in the store keeps them, for a job that goes on and for a
    snapshot that is made again.

    Args:
        k: how many images the answers have that are to be found.
        opened: opens the draft.
        on_progress: called as the sample is answered, and as reaches are tried.

    Raises:
        LamellaError: a proposer cannot be opened, or a server did not answer.
    """
    if draft.proposers is None:
        return draft
    path = tuning_path(draft.root_digest, k)
    try:
        found = read_record(store, path, Tuning)
    except MissingFile:
        with opened(store, draft, draft.weighting) as coordinator:
            made = tune(
                coordinator,
                draft,
                k,
                lambda *far: on_progress(_progress("answer sample", *far)),
                lambda *far: on_progress(_progress(TUNE, *far)),
            )
        record = Tuning(draft=draft.root_digest, k=k, queries=made.queries, reaches=made.reaches)
        found = parse_record(store, path, Tuning, create_once(store, path, record.to_json()))
    update = {"k": found.k, "queries": found.queries, "reaches": found.reaches}
    proposers = draft.proposers.model_copy(update=update)
    fields = {name: getattr(draft, name) for name in IndexSnapshot.model_fields}
    return IndexSnapshot(**fields | {"proposers": proposers, "root_digest": ""})


def _progress(label: str, done: int, total: int) -> Progress:
    return Progress(label, done, total, done, total, TUNE)


def note_on(snapshot: IndexSnapshot) -> str | None:
    """Return a line for a person where the default target is out of reach, None where it is not."""
    proposers = snapshot.proposers
    if proposers is None or proposers.reaches[-1].recall >= DEFAULT_RECALL:
        return None
    best = proposers.reaches[-1]
    return (
        f"The proposers ({proposers.kind}) find {best.recall:g} of exact answers at most, measured "
        f"on {proposers.queries:,} pictures, and mode candidates asks for {DEFAULT_RECALL:g}: give "
        f"--recall {best.recall:g} or less, or ask in mode exact."
    )
