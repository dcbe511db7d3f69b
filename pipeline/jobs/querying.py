"""Bulk queries as a job: pictures or indexed images in, rankings in Parquet out, resumable."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.encode import encoding_inputs
from lamella.pipeline.jobs.query_run import (
    Answered,
    Batch,
    Place,
    answer_run,
    answered_at,
    begun_run,
    pictures_of,
    plan_run,
)
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.run.drive import complete
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import StoreStep
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.encode import (
    EntriesTask,
    QueryTask,
    QueryWork,
    Row,
    RowsTask,
    find_query_weights,
    read_queries,
    read_refusals,
)
from lamella.pipeline.search.given_queries import ByName, check_from_elsewhere, with_vectors
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.segment import QueryBatch
from lamella.pipeline.store import tree
from lamella.pipeline.text import counted
from lamella.schemas.base import digest_of
from lamella.schemas.files import DoneRecord
from lamella.schemas.rankings import QueryRun, query_refusals_schema
from lamella.schemas.snapshot import IndexSnapshot


def query_pictures(
    place: Place,
    coordinator: Coordinator,
    source: str | Listing,
    question: Question,
    *,
    into: str | None = None,
    weights: Path | None = None,
    limits: DecodeLimits | None = None,
    vectors: Mapping[str, GivenVectors] = MappingProxyType({}),
) -> Answered:
    """Return the run that answers every picture of a source.

    Args:
        source: or its listing, where it was listed already.
        vectors: of the pictures, by layer, in layers that were indexed by given vectors.
        into: the run's name; by default one made from all that decides the answers.

    Raises:
        InputError: the source cannot be used, a fused layer has no vectors of them, or the run was
            made from something else.
        StageFailed, ShardUnavailable: a batch could not be encoded, or answered.
    """
    began = time.monotonic()
    limits = limits or DecodeLimits()
    listing = source if isinstance(source, Listing) else list_source(source)
    size = question.search.batch_queries
    encoding = digest_of(
        [encoder_of(place.snapshot), listing.digest(), size, limits.max_pixels, limits.max_bytes]
    )
    check_from_elsewhere(
        place.snapshot.extraction, _fused(question), _by_name(vectors), pictures=True
    )
    given = {name: each for name, each in _by_name(vectors).items() if name in _fused(question)}
    asked = digest_of([place.snapshot.root_digest, encoding, *_facts(given)])
    tasks = [
        EntriesTask(
            tree.shard_key(number), start, listing.kind, listing.entries[start : start + size]
        )
        for number, start in enumerate(range(0, len(listing.entries), size))
    ]
    plan = plan_run(place, question, "pictures", asked, [len(task) for task in tasks], into)
    done = begun_run(place, question, plan)
    if isinstance(done, QueryRun):
        return answered_at(place, done)
    left = [task for task in tasks if task.key not in done]
    made = _encode(place, left, encoding, listing.root, weights, limits)
    records = {record.key: record for record in made}
    if not any(pictures_of(record) for record in [*made, *done.values()]):
        raise InputError(
            f"{source if isinstance(source, str) else source.root} holds no query pictures: "
            f"{counted(len(listing.entries), 'file')} looked at, none of them is one"
        )

    def fetch(number: int) -> Batch:
        record = records[tree.shard_key(number)]
        ids, features = read_queries(place.runs, record, place.snapshot)
        names = [listing.entries[query].name for query in ids.tolist()]
        refusals = read_refusals(place.runs, record)
        if not given:
            return Batch(ids, pa.array(names, pa.string()), features, refusals)
        return _with_vectors(ids, names, features, given, refusals)

    return answer_run(place, coordinator, question, plan, done, fetch, began)


def query_vectors(
    place: Place,
    coordinator: Coordinator,
    vectors: Mapping[str, GivenVectors],
    question: Question,
    *,
    into: str | None = None,
) -> Answered:
    """Return the run that answers vectors without pictures, by the names of the first file.

    Args:
        vectors: of every fused layer, by layer.
        into: the run's name; by default one made from all that decides the answers.

    Raises:
        InputError: the run was made from something else.
        ShardUnavailable: a batch could not be answered.
    """
    began = time.monotonic()
    named = _by_name(vectors)
    check_from_elsewhere(place.snapshot.extraction, _fused(question), named, pictures=False)
    given = {name: named[name] for name in _fused(question)}
    every = next(iter(given.values())).given.names
    size = question.search.batch_queries
    sizes = [min(size, len(every) - start) for start in range(0, len(every), size)]
    # Their numbers are their rows, so that the order in the file counts.
    names = hashlib.sha256("\n".join(map(repr, every.to_pylist())).encode()).hexdigest()
    asked = digest_of([place.snapshot.root_digest, names, *_facts(given)])
    plan = plan_run(place, question, "pictures", asked, sizes, into)
    done = begun_run(place, question, plan)
    if isinstance(done, QueryRun):
        return answered_at(place, done)

    def fetch(number: int) -> Batch:
        first = number * size
        part = every.slice(first, size).to_pylist()
        numbers = np.arange(first, first + len(part))
        return _with_vectors(numbers, part, None, given, query_refusals_schema().empty_table())

    return answer_run(place, coordinator, question, plan, done, fetch, began)


def _by_name(vectors: Mapping[str, GivenVectors]) -> dict[str, ByName]:
    return {name: ByName(each) for name, each in vectors.items()}


def _fused(question: Question) -> list[str]:
    return [entry.layer for entry in question.fusion.layers]


def _facts(given: Mapping[str, ByName]) -> list[dict[str, str]]:
    """Return what a run is made from beside pictures; nothing where there are no vectors."""
    return [{name: each.given.sha256 for name, each in given.items()}] if given else []


def _with_vectors(
    ids: Int64s,
    names: Sequence[str],
    features: QueryBatch | None,
    given: Mapping[str, ByName],
    refusals: Any,
) -> Batch:
    """Return a batch with given vectors; queries without one are refused too."""
    kept, joined, others = with_vectors(ids, names, features, given)
    rows = np.flatnonzero(np.isin(ids, kept)).tolist()
    table = pa.concat_tables([refusals, others]).sort_by("query")
    return Batch(kept, pa.array([names[row] for row in rows], pa.string()), joined, table)


def query_images(
    place: Place,
    coordinator: Coordinator,
    image_ids: Sequence[int] | None,
    question: Question,
    *,
    into: str | None = None,
) -> Answered:
    """Return the run that answers indexed images.

    Args:
        image_ids: in the order in which they are asked, each once; None asks for all.
        into: the run's name; by default one made from all that decides the answers.

    Raises:
        InputError: an image is not in the snapshot, or the run was made from something else.
        ShardUnavailable: a batch could not be answered.
    """
    began = time.monotonic()
    ids = _chosen(image_ids, coordinator.image_ids())
    table = ImageTable(place.store, place.snapshot)
    layers = [entry.layer for entry in question.fusion.layers]
    size = question.search.batch_queries
    starts = range(0, len(ids), size)
    asked = digest_of(
        [place.snapshot.root_digest, hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()]
    )
    plan = plan_run(
        place, question, "images", asked, [len(ids[start : start + size]) for start in starts], into
    )
    done = begun_run(place, question, plan)
    if isinstance(done, QueryRun):
        return answered_at(place, done)

    def fetch(number: int) -> Batch:
        part = ids[number * size : (number + 1) * size]
        features = coordinator.features(part.tolist(), layers)
        return Batch(part, table.names_of(part), features, query_refusals_schema().empty_table())

    return answer_run(place, coordinator, question, plan, done, fetch, began)


def _chosen(image_ids: Sequence[int] | None, known: Int64s) -> Int64s:
    """Return the ids to ask for, each once, all of them known; `known` rises."""
    wanted = known.tolist() if image_ids is None else list(dict.fromkeys(image_ids))
    last = int(known[-1]) if len(known) else -1
    ids = np.array([image_id for image_id in wanted if 0 <= image_id <= last], np.int64)
    absent = [image_id for image_id in wanted if not 0 <= image_id <= last]
    absent += ids[~np.isin(ids, known)].tolist()
    if absent:
        which = f"image {absent[0]} is"
        if len(absent) > 1:
            which = f"image {absent[0]} and {len(absent) - 1:,} more are"
        raise InputError(
            f"{which} not in the snapshot, which has {len(known):,}: refused when it was indexed, "
            "as `lamella status` tells, or there is none"
        )
    if not len(ids):
        raise InputError(
            f"no image is asked for, the snapshot has {len(known):,}: name some by their ids"
        )
    return ids


def encoder_of(snapshot: IndexSnapshot) -> str:
    """Return the digest of what decides the features of a query picture: network and words.

    So pictures that are asked every night go through the network once.
    """
    return encoding_inputs(snapshot.extraction.of_network.digest(), snapshot.vocabularies)


def encode_queries(
    place: Place,
    rows: Sequence[Row],
    root: str,
    weights: Path | None,
    limits: DecodeLimits,
    size: int,
) -> list[DoneRecord]:
    """Return the records of query pictures sent through the network, `size` of them a batch.

    Args:
        rows: of image tables, perhaps with a box.

    Raises:
        InputError: there are no pictures, or the network's weights are not to be had.
        StageFailed: batches failed; the others are kept.
    """
    if not rows:
        raise InputError(f"{root} holds no query pictures")
    facts = [
        [row["name"], row["sha256"].hex() if row["sha256"] else None, row.get("box")]
        for row in rows
    ]
    inputs = digest_of([encoder_of(place.snapshot), facts, size])
    tasks = [
        RowsTask(tree.shard_key(number), start, tuple(rows[start : start + size]))
        for number, start in enumerate(range(0, len(rows), size))
    ]
    return _encode(place, tasks, inputs, root, weights, limits)


def _encode(
    place: Place,
    tasks: Sequence[QueryTask],
    inputs: str,
    root: str,
    weights: Path | None,
    limits: DecodeLimits,
) -> list[DoneRecord]:
    """Bring query pictures through the network; what is encoded serves every run that asks it."""
    if not tasks:
        return []
    folder = tree.QUERIES.folder(run=tree.keyed("queries", inputs))
    weights = find_query_weights(place.snapshot, weights)
    work = QueryWork(root, limits, place.store.url, place.snapshot, weights, place.threads)
    step = StoreStep(
        tree.QUERIES,
        place.runs.url,
        folder,
        inputs,
        work,
        uses_gpu=True,
        threads=place.threads,
    )
    # Workers elsewhere may not see scratch files.
    runner = place.runner if place.scratch is None else SerialRunner()
    return complete(place.runs, runner, step, tasks, units=len, on_progress=place.progress)
