"""Copies of the rankings of a run, for other programs: Parquet, CSV, JSON, TREC runs."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.trec import as_words
from lamella.pipeline.jobs.rankings import (
    as_plain,
    ranking_tables,
    refusal_tables,
    refused_by,
    schema_of,
    shown_tables,
)
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import write_parquet_parts
from lamella.schemas.rankings import QueryRun

KINDS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".json": "json"}
"""What a copy holds, by the end of its name."""


def check_kind(path: Path) -> None:
    """Check that the name of a copy says what it is to hold.

    Raises:
        InputError: it does not.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError(
            f"--out takes a file that ends in .parquet, .csv or .json; got {one_line(path.name)}: "
            "give it one of these ends"
        )


def copy_rankings(
    store: Store,
    run: QueryRun,
    path: Path,
    *,
    kept: bool = True,
    images: ImageTable | None = None,
) -> None:
    """Write all rankings of a run to one file, of the kind that its name says.

    A file of JSON has what `json_of` gives. A file that is there is replaced once the copy is
    whole.

    Args:
        images: of which kept columns are written too.

    Raises:
        InputError: the name says no kind.
        OSError: it cannot be written.
    """
    check_kind(path)
    kind = KINDS[path.suffix.lower()]
    with whole(path) as part:
        if kind == "parquet":
            tables = shown_tables(store, run, images)
            write_parquet_parts(tables, schema_of(run, images), part)
        elif kind == "csv":
            schema = schema_of(run, images)
            with part.open("wb") as file, pa_csv.CSVWriter(file, schema) as writer:
                for table in shown_tables(store, run, images):
                    writer.write_table(table)
        else:
            with part.open("w", encoding="utf-8") as text:
                text.writelines(json_of(store, run, kept=kept, images=images))
                text.write("\n")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, beside a file, which becomes the file when the block has ended."""
    if path.exists() and not path.is_file():  # such as /dev/stdout
        yield path
        return
    part = path.resolve().with_name(f".lamella-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield part
        os.replace(part, path.resolve())
    finally:
        part.unlink(missing_ok=True)


def json_of(
    store: Store,
    run: QueryRun,
    *,
    kept: bool = True,
    error: Mapping[str, Any] | None = None,
    images: ImageTable | None = None,
) -> Iterator[str]:
    """Yield one JSON object in pieces: `run`, `rankings` and `refusals`, a row at a time.

    Args:
        kept: the run stays in the store; else there is no file to be named.
        error: why the command fails all the same, as `error`.
        images: of which kept columns are in the rankings too.
    """
    said = run.model_dump(mode="json") | {"refused_by_reason": refused_by(store, run)}
    said["stored"] = f"{store.url}/{tree.RUN.at(run=run.run)}" if kept else None
    if not kept:
        said |= {"rankings": [], "refusals": []}
    yield f'{{"run": {json.dumps(said)}'
    for name, tables in (
        ("rankings", shown_tables(store, run, images)),
        ("refusals", refusal_tables(store, run)),
    ):
        yield f', "{name}": ['
        yield from _rows(tables, run.asked)
        yield "]"
    if error is not None:
        yield f', "error": {json.dumps(error)}'
    yield "}"


def _rows(tables: Iterator[Any], asked: str) -> Iterator[str]:
    """Yield the rows of tables as JSON; ids are text, for they have more digits than a float."""
    ids = ("image_id", "query") if asked == "images" else ("image_id",)
    comma = ""
    for table in tables:
        for row in as_plain(table).to_pylist():
            row |= {name: str(row[name]) for name in ids if name in row}
            yield f"{comma}\n{json.dumps(row)}"
            comma = ","


def write_trec(store: Store, run: QueryRun, path: Path, *, ids: bool = False) -> None:
    """Write all rankings of a run as lines `qid Q0 docid rank score tag`, as trec_eval reads them.

    qid and docid are the names of pictures, in which white space and `%` are percent-encoded; the
    tag is the name of the run. Scores have all their digits; ranks count from 1.

    Args:
        ids: have `query` and `image_id` instead of the names.

    Raises:
        InputError: two queries, or two pictures in a ranking, have the same name.
        OSError: it cannot be written.
    """
    long = pa.large_string()
    fixed = {"Q0": pa.scalar("Q0", long), "tag": pa.scalar(run.run, long)}
    columns = ("query", "Q0", "image_id") if ids else ("query_name", "Q0", "name")
    seen: dict[str, int] = {}
    with whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for table in ranking_tables(store, run):
            if not ids:
                _check_names(table, seen)
            values = [
                fixed[name] if name in fixed else as_words(table.column(name).cast(long))
                for name in (*columns, "rank", "score", "tag")
            ]
            lines = pc.binary_join_element_wise(*values, pa.scalar(" ", long))
            file.writelines(f"{line}\n" for line in lines.to_pylist())


def _check_names(table: Any, seen: dict[str, int]) -> None:
    """Check that names stand for one query each, and for one picture each in every ranking."""
    cure = "names are no ids here: give --trec-ids as well"
    asked = table.group_by(["query", "query_name"]).aggregate([])
    for query, name in zip(
        asked["query"].to_pylist(), asked["query_name"].to_pylist(), strict=True
    ):
        if seen.setdefault(name, query) != query:
            raise InputError(f"two queries have the name {one_line(repr(name), 200)}: {cure}")
    counted = table.group_by(["query", "name"]).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if twice.num_rows:
        name = one_line(repr(twice["name"][0].as_py()), 200)
        raise InputError(f"two pictures of a ranking have the name {name}: {cure}")
