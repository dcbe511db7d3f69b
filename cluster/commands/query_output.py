"""What a run of queries found, for people, for scripts, and in files."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lamella.cluster.commands.show import SHOWN_REFUSALS, plain, show_rankings
from lamella.pipeline.errors import IncompatibleInputs
from lamella.pipeline.jobs.query_run import Answered
from lamella.pipeline.jobs.rankings import (
    copy_rankings,
    first_rankings,
    known_run,
    ranking_tables,
    refusal_tables,
    write_trec,
)
from lamella.pipeline.jobs.resolve import chosen_snapshot
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import WEIGHTING_OF, JobConfig
from lamella.schemas.rankings import QueryRun


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


@dataclass(frozen=True)
class Said:
    """What a call that only shows a run says of how it was made: a job, layers, a snapshot."""

    job: JobConfig
    layers: list[str] | None = None
    number: int | str | None = None


def show_again(console: Console, url: str, name: str, copies: Copies, said: Said) -> None:
    """Give what a complete run found.

    Raises:
        InputError: there is no such run.
        IncompatibleInputs: it was made in another way than the call says.
    """
    store = open_store(url)
    run = known_run(store, name)
    _check_said(store, run, said)
    _give(console, store, run, copies)


def _check_said(store: Store, run: QueryRun, said: Said) -> None:
    """See that what a call says of a run is so; what it leaves out may be anything."""
    job = said.job
    pairs: dict[str, tuple[object, object]] = {}
    if "k" in job.search.model_fields_set:
        pairs["k"] = (run.k, job.search.k)
    if "mode" in job.search.model_fields_set:
        pairs["mode"] = (run.mode, job.search.mode)
    if "expand" in job.search.model_fields_set:
        pairs["expand"] = (run.expand, job.search.expand)
    if said.number is not None:
        asked = chosen_snapshot(store, said.number)
        pairs["root digest of the snapshot"] = (run.snapshot[:12], asked.root_digest[:12])
    if said.layers is not None:
        names = {entry.layer for entry in run.fusion.layers}
        pairs["layers"] = (", ".join(sorted(names)), ", ".join(sorted(set(said.layers))))
    wanted, layers = job.fusion, run.fusion.layers
    for name, values, made in (
        ("t", wanted.t, tuple(entry.t for entry in layers)),
        ("p", wanted.p, tuple(entry.p for entry in layers)),
        ("weights", wanted.weights, tuple(entry.weight for entry in layers)),
    ):
        if values:
            pairs[name] = (made[: len(values)], values)
    if "profile" in job.model_fields_set:
        pairs["weighting"] = (run.weighting, WEIGHTING_OF[job.profile])
    wrong = [f"{name} was {was}, is {now}" for name, (was, now) in pairs.items() if was != now]
    if wrong:
        raise IncompatibleInputs(
            f"run {run.run} is shown as it was made ({'; '.join(wrong)}): leave that out, or say "
            "what to ask with --queries and another name with --into"
        )


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
        yield from _rows(tables, run.asked)
        yield "]"
    yield "}"


def _rows(tables: Iterator[Any], asked: str) -> Iterator[str]:
    """Yield the rows of tables as JSON; ids are text, for they have more digits than a float."""
    ids = ("image_id", "query") if asked == "images" else ("image_id",)
    comma = ""
    for table in tables:
        for row in table.to_pylist():
            row |= {name: str(row[name]) for name in ids if name in row}
            yield f"{comma}\n{json.dumps(row)}"
            comma = ","
