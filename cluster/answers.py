"""What a run of queries found, for people, for scripts, and in files."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.show import SHOWN_REFUSALS, plain, show_rankings
from pipeline.jobs.answering import Answered
from pipeline.jobs.rankings import (
    copy_rankings,
    first_rankings,
    known_run,
    ranking_tables,
    refusal_tables,
    write_trec,
)
from pipeline.store.protocol import Store
from pipeline.store.storage import open_store
from schemas.rankings import QueryRun


@dataclass(frozen=True)
class Copies:
    """Where the rankings go beside the store: Parquet, a TREC run, or JSON in place of tables."""

    parquet: Path | None = None
    trec: Path | None = None
    as_json: bool = False


def hand_out(console: Console, url: str, answered: Answered, copies: Copies) -> None:
    """Give what a call answered, and say how fast it was."""
    store = open_store(url)
    _give(console, store, answered.run, copies)
    if not copies.as_json:
        console.print(plain(answered.summary()))


def show_again(console: Console, url: str, name: str, copies: Copies) -> None:
    """Give what a complete run found.

    Raises:
        InputError: there is no such run.
    """
    store = open_store(url)
    _give(console, store, known_run(store, name), copies)


def _give(console: Console, store: Store, run: QueryRun, copies: Copies) -> None:
    if copies.parquet is not None:
        copy_rankings(store, run, copies.parquet)
    if copies.trec is not None:
        write_trec(store, run, copies.trec)
    if copies.as_json:
        for part in json_of(store, run):
            print(part, end="")
        print()
        return
    table, more = first_rankings(store, run)
    refused = (row for table in refusal_tables(store, run) for row in table.to_pylist())
    show_rankings(console, store, run, table, more, list(itertools.islice(refused, SHOWN_REFUSALS)))


def json_of(store: Store, run: QueryRun) -> Iterator[str]:
    """Yield one JSON object in pieces: `run`, `rankings` and `refusals`, a row at a time."""
    yield f'{{"run": {json.dumps(run.model_dump(mode="json"))}'
    for name, tables in (
        ("rankings", ranking_tables(store, run)),
        ("refusals", refusal_tables(store, run)),
    ):
        yield f', "{name}": ['
        yield from _rows(tables)
        yield "]"
    yield "}"


def _rows(tables: Iterator[Any]) -> Iterator[str]:
    comma = ""
    for table in tables:
        for row in table.to_pylist():
            yield f"{comma}\n{json.dumps(row)}"
            comma = ","
