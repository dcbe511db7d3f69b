"""Bulk queries as a job: pictures or indexed images in, rankings in Parquet out, resumable."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus.decode import DecodeLimits
from pipeline.corpus.sources import list_source
from pipeline.errors import InputError
from pipeline.run.drive import OnProgress, Progress, complete, quiet
from pipeline.run.stage import Runner
from pipeline.search.coordinator import Coordinator
from pipeline.search.encode import (
    QueryStage,
    QueryTask,
    Row,
    find_query_weights,
    probe_queries,
    read_queries,
    read_refusals,
)
from pipeline.search.names import ImageTable
from pipeline.search.segment import Answer, QueryBatch
from pipeline.store import layout
from pipeline.store.commit import attempt, open_committed, read_done
from pipeline.store.storage import Store
from pipeline.store.tables import read_parquet, write_parquet
from schemas.base import digest_of
from schemas.files import DoneRecord
from schemas.job import SearchSettings
from schemas.query import FusionSpec, Weighting
from schemas.rankings import QueryRun, rankings_schema
from schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Question:
    """How queries are to be answered; part of a run's name."""

    fusion: FusionSpec
    weighting: Weighting
    search: SearchSettings

    def facts(self) -> dict[str, Any]:
        """Return what decides the answers."""
        return {
            "fusion": self.fusion.model_dump(mode="json"),
            "weighting": self.weighting,
            "search": self.search.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Place:
    """Where a job works: its store, its snapshot, its workers and their threads."""

    store: Store
    snapshot: IndexSnapshot
    runner: Runner
    threads: int
    progress: OnProgress = quiet


def encode_queries(
    place: Place,
    rows: Sequence[Row],
    root: str,
    weights: Path | None,
    limits: DecodeLimits,
    size: int,
) -> list[DoneRecord]:
    """Return the records of query pictures sent through the network, `size` of them a batch.

    Raises:
        InputError: there are no pictures, or the network's weights are not to be had.
        StageFailed: batches failed; the others are kept.
    """
    if not rows:
        raise InputError(f"{root} holds no query pictures")
    snapshot = place.snapshot
    facts = [
        [row["name"], row["sha256"].hex() if row["sha256"] else None, row.get("box")]
        for row in rows
    ]
    inputs = digest_of([snapshot.root_digest, facts, size])
    folder = f"{layout.run(layout.keyed('queries', inputs))}/queries"
    stage = QueryStage(
        place.store.url,
        folder,
        inputs,
        root,
        limits,
        snapshot,
        find_query_weights(snapshot, weights),
        place.threads,
    )
    tasks = [
        QueryTask(layout.shard_key(number), start, tuple(rows[start : start + size]))
        for number, start in enumerate(range(0, len(rows), size))
    ]
    return complete(
        place.store,
        place.runner,
        stage,
        tasks,
        folder,
        inputs,
        units=lambda task: len(task.rows),
        on_progress=place.progress,
    )


def query_pictures(
    place: Place,
    coordinator: Coordinator,
    source: str,
    question: Question,
    *,
    weights: Path | None = None,
    limits: DecodeLimits | None = None,
) -> QueryRun:
    """Return the run that answers every picture of a source.

    Raises:
        InputError: the source cannot be used.
        StageFailed, ShardUnavailable: a batch could not be encoded, or answered.
    """
    limits = limits or DecodeLimits()
    listing = list_source(source)
    rows = probe_queries(listing, limits)
    size = question.search.batch_queries
    records = encode_queries(place, rows, listing.root, weights, limits, size)
    names = {number: str(row["name"]) for number, row in enumerate(rows)}
    refusals = [each for record in records for each in read_refusals(place.store, record)]
    inputs = digest_of([records[0].inputs, question.facts()])
    batches = [read_queries(place.store, record, place.snapshot) for record in records]
    return _answer(place, coordinator, inputs, batches, names, refusals, question)


def query_images(
    place: Place, coordinator: Coordinator, image_ids: Sequence[int], question: Question
) -> QueryRun:
    """Return the run that answers indexed images.

    Raises:
        InputError: an image is not in the snapshot.
        ShardUnavailable: a batch could not be answered.
    """
    table = ImageTable(place.store, place.snapshot)
    layers = [entry.layer for entry in question.fusion.layers]
    size = question.search.batch_queries
    ids = list(image_ids)
    inputs = digest_of([place.snapshot.root_digest, ids, question.facts()])
    batches = [
        (np.asarray(part, np.int64), coordinator.features(part, layers))
        for part in (ids[start : start + size] for start in range(0, len(ids), size))
    ]
    names = {image_id: table.name(image_id) for image_id in ids}
    return _answer(place, coordinator, inputs, batches, names, [], question)


def _answer(
    place: Place,
    coordinator: Coordinator,
    inputs: str,
    batches: Sequence[tuple[Any, QueryBatch | None]],
    names: dict[int, str],
    refusals: Sequence[Row],
    question: Question,
) -> QueryRun:
    """Answer batch after batch, each with its done record, and sum up."""
    run = layout.keyed("query", inputs)
    folder = f"{layout.run(run)}/rankings"
    table = ImageTable(place.store, place.snapshot)
    search = question.search
    records: list[DoneRecord] = []
    total = sum(len(ids) for ids, _ in batches)
    answered = 0
    for number, (ids, queries) in enumerate(batches):
        place.progress(Progress("query", number, len(batches), answered, total))
        key = layout.shard_key(number)
        record = read_done(place.store, folder, key)
        if record is None and queries is not None:
            answer = coordinator.answer(
                queries, question.fusion, search.k, mode=search.mode, candidates=search.candidates
            )
            rankings = ranking_table(ids, names, answer, question.fusion, table)
            with attempt(place.store, folder, "query", key, inputs) as work:
                fill = functools.partial(write_parquet, rankings)
                work.write("rankings", folder, "parquet", fill)
                record = work.finish(queries=len(ids), certified=int(answer.certified.sum()))
        if record is not None:
            records.append(record)
        answered += len(ids)
    place.progress(Progress("query", len(batches), len(batches), total, total))
    return QueryRun(
        run=run,
        snapshot=place.snapshot.root_digest,
        fusion=question.fusion,
        weighting=question.weighting,
        mode=search.mode,
        k=search.k,
        queries=len(names),
        answered=answered,
        refused=len(refusals),
        certified=sum(record.counts["certified"] for record in records),
        rankings=tuple(record.files["rankings"] for record in records),
        refusals=tuple(refusals),
    )


def ranking_table(
    ids: Any, names: dict[int, str], answer: Answer, fusion: FusionSpec, images: ImageTable
) -> Any:
    """Return an answer as a table in `rankings_schema`, best first within a query."""
    query_of, places = np.nonzero(answer.image_ids >= 0)
    found = answer.image_ids[query_of, places]
    layers = [entry.layer for entry in fusion.layers]
    columns: dict[str, Any] = {
        "query": np.asarray(ids)[query_of],
        "query_name": [names[int(ids[query])] for query in query_of],
        "rank": (places + 1).astype(np.int32),
        "image_id": found,
        "name": [images.name(int(image_id)) for image_id in found],
        "score": answer.scores[query_of, places],
        "certified": answer.certified[query_of],
    }
    for number, layer in enumerate(layers):
        columns[f"S.{layer}"] = answer.similarities[query_of, places, number]
    return pa.table(columns).select(rankings_schema(layers).names).cast(rankings_schema(layers))


def read_rankings(store: Store, run: QueryRun) -> Any:
    """Return all rankings of a run as one table in `rankings_schema`."""
    schema = rankings_schema([entry.layer for entry in run.fusion.layers])
    parts = [read_parquet(open_committed(store, file)) for file in run.rankings]
    return pa.concat_tables([schema.empty_table(), *parts])
