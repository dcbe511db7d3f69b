"""The rankings of a run as tables: make and read them."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.search.names import ImageTable, as_strings
from lamella.pipeline.search.segment import Answer
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.store.tables import read_parquet
from lamella.pipeline.store.tree import record_of
from lamella.schemas.query import FusionSpec
from lamella.schemas.rankings import QueryRun, query_refusals_schema, rankings_schema

SHOWN_QUERIES = 20
SHOWN_RANKS = 10


def ranking_table(
    ids: NDArray[np.int64], names: Any, answer: Answer, fusion: FusionSpec, images: ImageTable
) -> Any:
    """Return an answer as a table in `rankings_schema`, best first within a query.

    Args:
        ids: (Q,) int64, the value of column `query` for each query.
        names: (Q,) a pyarrow column of strings for column `query_name`.
        images: the names of indexed images.
    """
    query_of, places = np.nonzero(answer.image_ids >= 0)
    found = answer.image_ids[query_of, places]
    layers = [entry.layer for entry in fusion.layers]
    asked = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    columns: dict[str, Any] = {
        "query": ids[query_of],
        "query_name": as_strings(asked.cast(pa.large_string()).take(pa.array(query_of))),
        "rank": (places + 1).astype(np.int32),
        "image_id": found,
        "name": images.names_of(found),
        "score": answer.scores[query_of, places],
        "certified": answer.certified[query_of],
    }
    for number, layer in enumerate(layers):
        columns[f"S.{layer}"] = answer.similarities[query_of, places, number]
    schema = rankings_schema(layers)
    return pa.table(columns).select(schema.names).cast(schema)


def schema_of(run: QueryRun, images: ImageTable | None = None) -> Any:
    """Return the schema of a run's rankings, as they are stored or, with images, shown."""
    schema = rankings_schema([entry.layer for entry in run.fusion.layers])
    return schema if images is None else images.with_kept(schema.empty_table()).schema


def check_run_name(name: str) -> None:
    """Check that a name is valid for a run: it becomes the name of a folder.

    Raises:
        InputError: it is not valid.
    """
    if tree.slug(name) != name:
        raise InputError(
            f"a run's name has at most 40 letters, digits, dots, dashes and underscores, and "
            f"neither begins nor ends with a dot or dash; got {one_line(repr(name), 60)}: try "
            f"{tree.slug(name)!r}"
        )


def stored_run(store: Store, name: str) -> QueryRun | None:
    """Return a run that is complete, or None where there is none of this name."""
    path = tree.RUN.at(run=name)
    return read_record(store, path, QueryRun) if store.exists(path) else None


def known_run(store: Store, name: str) -> QueryRun:
    """Return a run that is complete.

    Raises:
        InputError: there is none of this name, or the name is not valid.
    """
    if record_of(tree.RUN.at(run=name)) is None:
        check_run_name(name)
    run = stored_run(store, name)
    if run is None:
        raise InputError(
            f"{store.url} has no complete run {name!r}: name one that `lamella query --into` made, "
            "or say what to ask with --queries"
        )
    return run


def ranking_tables(store: Store, run: QueryRun) -> Iterator[Any]:
    """Yield the rankings of a run, in `rankings_schema`, a batch of queries at a time."""
    for file in run.rankings:
        yield read_committed(store, file, lambda path: read_parquet(path, schema=schema_of(run)))


def shown_tables(store: Store, run: QueryRun, images: ImageTable | None) -> Iterator[Any]:
    """Yield the rankings of a run with the kept columns of the images, in `schema_of(run, images)`.

    A run does not hold them: they are those of the snapshot that was asked.
    """
    for table in ranking_tables(store, run):
        yield table if images is None else images.with_kept(table)


def as_plain(table: Any) -> Any:
    """Return a table as JSON can hold it: days and times as text, null for NaN and infinity."""
    for place, field in enumerate(table.schema):
        values = table.column(place)
        if pa.types.is_temporal(field.type):
            table = table.set_column(place, field.name, values.cast(pa.string()))
        elif pa.types.is_floating(field.type):
            known = pc.if_else(pc.is_finite(values), values, pa.scalar(None, field.type))
            table = table.set_column(place, field.name, known)
    return table


def read_rankings(store: Store, run: QueryRun) -> Any:
    """Return all rankings of a run as one table, which must fit in memory."""
    return pa.concat_tables([schema_of(run).empty_table(), *ranking_tables(store, run)])


def refusal_tables(store: Store, run: QueryRun) -> Iterator[Any]:
    """Yield tables of the query pictures that were refused, in `query_refusals_schema`."""
    for file in run.refusals:
        yield read_committed(store, file, _read_refusals)


def _read_refusals(path: Path) -> Any:
    return read_parquet(path, schema=query_refusals_schema()).cast(query_refusals_schema())


def refused_by(store: Store, run: QueryRun) -> dict[str, int]:
    """Return how many query pictures were refused for each reason, the commonest first."""
    reasons: Counter[str] = Counter()
    for table in refusal_tables(store, run):
        reasons.update(table.column("reason").to_pylist())
    return dict(reasons.most_common())


def first_rankings(store: Store, run: QueryRun) -> Any:
    """Return what a person is shown of a run, as a table.

    Of one query these are its first ranks, of several the best image of each of the first queries;
    of an indexed image the best other one, where there is one.
    """
    if run.answered == 1:
        table = read_rankings(store, run)
        return table.filter(pc.less_equal(table.column("rank"), SHOWN_RANKS))
    tables: list[Any] = [schema_of(run).empty_table()]
    shown = 0
    for table in ranking_tables(store, run):
        best = table.filter(pc.less_equal(table.column("rank"), 2))
        first = best.slice(0, 2 * (SHOWN_QUERIES - shown)).to_pylist()
        for _, rows in itertools.groupby(first, key=lambda row: row["query"]):
            if shown < SHOWN_QUERIES:
                tables.append(pa.Table.from_pylist([_best(list(rows), run)], schema_of(run)))
                shown += 1
        if shown == SHOWN_QUERIES:
            break
    return pa.concat_tables(tables)


def _best(rows: list[dict[str, Any]], run: QueryRun) -> dict[str, Any]:
    """Return the first row of a query's two that is not the query itself."""
    if run.asked == "images":
        rows = [row for row in rows if row["image_id"] != row["query"]] or rows
    return rows[0]
