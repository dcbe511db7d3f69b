"""Open what is scored: a run of a store, or of a file, and the names of the corpus it is about.

Nothing but rankings and image tables is read: no pictures, no segments, no network.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.qrels import (
    from_truth,
    read_qrels,
    to_truth,
    unknown_pictures,
    write_qrels,
)
from lamella.pipeline.evaluate.ranked import Ranked, RankedRows
from lamella.pipeline.evaluate.run_report import check_all_known
from lamella.pipeline.evaluate.trec_runs import read_run
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.index.expired import snapshot_numbers
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.jobs.ranking_copies import whole
from lamella.pipeline.jobs.rankings import ranking_tables, stored_run
from lamella.pipeline.jobs.resolve import chosen_snapshot
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import sha256_of
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import column, write_parquet
from lamella.pipeline.store.tree import record_of
from lamella.schemas.rankings import QueryRun
from lamella.schemas.run_report import ids_schema
from lamella.schemas.snapshot import IndexSnapshot


def ranked_run(store: Store, run: QueryRun, *, progress: OnProgress = quiet) -> Ranked:
    """Return the rankings of a stored run, read a batch of queries at a time.

    Raises:
        InputError: it answers no query, or two queries, or two pictures of a ranking, have the same
            name.
    """
    rows = RankedRows()
    for number, table in enumerate(ranking_tables(store, run), start=1):
        progress(Progress("read", number, len(run.rankings), number, len(run.rankings)))
        if not table.num_rows:
            continue
        asked = column(table, "query")
        starts = np.flatnonzero(np.append(True, asked[1:] != asked[:-1])).astype(np.int64)
        queries = table.column("query_name").take(pa.array(starts)).to_pylist()
        names = table.column("name").combine_chunks().dictionary_encode()
        names = names.chunk(0) if isinstance(names, pa.ChunkedArray) else names
        pictures = names.indices.to_numpy()
        rows.add(starts, queries, names.dictionary.to_pylist(), pictures, column(table, "score"))
    ranked = rows.ranked()
    if not ranked.queries:
        raise InputError(
            f"a run is scored by its rankings; run {run.run} has 0 of {run.queries:,} queries "
            "answered: ask again with pictures that can be read"
        )
    return ranked


def ranked_file(path: Path) -> Ranked:
    """Return the rankings of a TREC run, as `read_run`."""
    return read_run(path)


@dataclass(frozen=True)
class OpenRun:
    """A run and what it was asked of.

    Attributes:
        name: of the run in the store, or of its file.
        snapshot: None where it is not there any more.
        root_digest: of the snapshot that the run says it asked; that of `snapshot` for a file.
        depth: how many pictures a ranking can have.
        complete: that are all pictures of the corpus.
        indexed_queries: queries are pictures of the corpus, as they were indexed.
    """

    name: str
    ranked: Ranked
    snapshot: IndexSnapshot | None
    root_digest: str
    depth: int
    complete: bool
    indexed_queries: bool


def open_run(
    store: Store, wanted: str, number: int | str | None = None, *, progress: OnProgress = quiet
) -> OpenRun:
    """Return a run of the store by its name, or a TREC run by the path of its file.

    Args:
        number: for a file, the snapshot whose pictures it names: a number or a tag; the promoted
            one by default.

    Raises:
        InputError: there is neither, it is empty, or a number is given with a run of the store,
            which knows its snapshot.
    """
    is_name = record_of(tree.RUN.at(run=wanted)) is not None
    run = stored_run(store, wanted) if is_name else None
    if run is None and Path(wanted).exists():
        snapshot = chosen_snapshot(store, number)
        ranked = ranked_file(Path(wanted))
        return OpenRun(
            *(Path(wanted).name, ranked, snapshot, snapshot.root_digest, ranked.depth),
            complete=ranked.depth >= snapshot.indexed,
            indexed_queries=False,
        )
    if run is None:
        raise InputError(
            f"a run is scored that is complete in the store, by its name, or a TREC run, by the "
            f"path of its file; {store.url} has no run {one_line(repr(wanted), 200)}, and there is "
            f"no such file: see `lamella runs {store.url}`, or make one with `lamella query --into`"
        )
    if number is not None:
        raise InputError(
            f"a run of the store knows which snapshot it asked; got --snapshot {number} with run "
            f"{run.run}: leave it out"
        )
    return OpenRun(
        run.run,
        ranked_run(store, run, progress=progress),
        snapshot_of(store, run.snapshot),
        run.snapshot,
        run.longest,
        complete=run.longest >= run.images - run.exclude_self,
        indexed_queries=run.asked == "images",
    )


@dataclass(frozen=True)
class Judgements:
    """A ground truth out of qrels.

    Attributes:
        unknown: judged pictures that the corpus lacks.
        sha256: of the file of qrels; None of what was piped in, which cannot be read twice.
    """

    truth: GroundTruth
    unknown: tuple[str, ...]
    sha256: str | None


def read_judgements(
    path: Path, names: Collection[str] | None, *, indexed_queries: bool, strict: bool
) -> Judgements:
    """Return the ground truth of a file of qrels over a corpus.

    Args:
        names: of all pictures of the corpus; None where they are not known.
        indexed_queries: as in `to_truth`.
        strict: refuse pictures that the corpus lacks.

    Raises:
        InputError: as `read_qrels` and `to_truth`, or a picture is unknown and `strict` is set.
    """
    qrels = read_qrels(path)
    truth = to_truth(qrels, names, indexed_queries=indexed_queries)
    unknown = unknown_pictures(qrels, names) if names is not None else ()
    if strict:
        check_all_known(qrels.source, unknown, names or ())
    return Judgements(truth, unknown, sha256_of(path) if path.is_file() else None)


def write_judgements(truth: GroundTruth, corpus: pa.Table | None, path: Path) -> Path | None:
    """Write a ground truth as qrels; beside them, as FILE.ids.parquet, the ids of their pictures.

    Args:
        corpus: as of `corpus_names`; None where it is not known, and no ids are written.

    Returns:
        Where the ids are.

    Raises:
        OSError: they cannot be written.
    """
    qrels = from_truth(truth)
    with whole(path) as part:
        write_qrels(qrels, part)
    if corpus is None:
        return None
    mentioned = pa.array({*qrels.judgements, *qrels.pictures()}, corpus.schema.field("name").type)
    ids = corpus.filter(pc.is_in(corpus.column("name"), value_set=mentioned))
    beside = path.with_name(f"{path.name}.ids.parquet")
    with whole(beside) as part:
        write_parquet(ids.cast(ids_schema()), part)
    return beside


def snapshot_of(store: Store, root_digest: str) -> IndexSnapshot | None:
    """Return the newest snapshot with a root digest; None where there is none, or it expired."""
    for number in reversed(snapshot_numbers(store)):
        snapshot = read_snapshot(store, number)
        if snapshot.root_digest == root_digest:
            return snapshot
    return None


def corpus_names(store: Store, snapshot: IndexSnapshot) -> pa.Table:
    """Return the indexed pictures of a snapshot, by name: columns name and image_id."""
    images = ImageTable(store, snapshot)
    ids = images.image_ids()
    table = pa.table({"name": images.names_of(ids), "image_id": ids})
    return table.sort_by([("name", "ascending"), ("image_id", "ascending")])
