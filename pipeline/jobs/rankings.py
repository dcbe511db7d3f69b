"""The rankings of a run as tables: make, read and copy them."""

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
from lamella.pipeline.store.tables import read_parquet, write_parquet_parts
from lamella.pipeline.store.tree import record_of
from lamella.schemas.query import FusionSpec
from lamella.schemas.rankings import QueryRun, query_refusals_schema, rankings_schema

SHOWN_QUERIES = 5
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


def schema_of(run: QueryRun) -> Any:
    """Return the schema of a run's rankings."""
    return rankings_schema([entry.layer for entry in run.fusion.layers])


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


def read_rankings(store: Store, run: QueryRun) -> Any:
    """Return all rankings of a run as one table, which must fit in memory."""
    return pa.concat_tables([schema_of(run).empty_table(), *ranking_tables(store, run)])


def refusal_tables(store: Store, run: QueryRun) -> Iterator[Any]:
    """Yield tables of the query pictures that were refused, in `query_refusals_schema`."""
    for file in run.refusals:
        yield read_committed(store, file, _read_refusals)


def _read_refusals(path: Path) -> Any:
    return read_parquet(path, schema=query_refusals_schema()).cast(query_refusals_schema())


def first_rankings(store: Store, run: QueryRun) -> tuple[Any, int]:
    """Return the first ranks of the first queries as a table, and the number of other queries."""
    tables: list[Any] = [schema_of(run).empty_table()]
    queries: list[int] = []
    for table in ranking_tables(store, run):
        best = table.filter(pc.less_equal(table.column("rank"), SHOWN_RANKS))
        room = SHOWN_QUERIES - len(queries)
        mine = pc.unique(best.column("query")).to_pylist()[:room]
        queries += mine
        tables.append(best.filter(pc.is_in(best.column("query"), pa.array(mine, pa.int64()))))
        if len(queries) == SHOWN_QUERIES:
            break
    return pa.concat_tables(tables), run.answered - len(queries)


def copy_rankings(store: Store, run: QueryRun, path: Path) -> None:
    """Write all rankings of a run to one Parquet file."""
    write_parquet_parts(ranking_tables(store, run), schema_of(run), path)


def write_trec(store: Store, run: QueryRun, path: Path) -> None:
    """Write all rankings of a run as lines `qid Q0 docid rank score tag`, as trec_eval reads them.

    qid is `query`, docid is `image_id`, because names of pictures may have spaces, and the tag is
    the name of the run. Scores have all their digits; ranks count from 1.
    """
    long = pa.large_string()
    fixed = {"Q0": pa.scalar("Q0", long), "tag": pa.scalar(run.run, long)}
    with path.open("w", encoding="utf-8") as file:
        for table in ranking_tables(store, run):
            columns = [
                fixed[name] if name in fixed else pc.cast(table.column(name), long)
                for name in ("query", "Q0", "image_id", "rank", "score", "tag")
            ]
            lines = pc.binary_join_element_wise(*columns, pa.scalar(" ", long))
            file.writelines(f"{line}\n" for line in lines.to_pylist())
