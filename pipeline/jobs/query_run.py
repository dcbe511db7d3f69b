"""A run of queries: its name and what it is made from, its batches, its record.

A run goes batch after batch, and a batch is the unit of everything: its features are fetched, its
answer found and stored only if it has no done record, and only when its turn comes. So memory
holds one batch, and a run that was stopped goes on where it was.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lamella.pipeline import events, meters
from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import IncompatibleInputs
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.rankings import check_run_name, ranking_table, stored_run
from lamella.pipeline.run.drive import OnProgress, Progress, quiet, read_all_done
from lamella.pipeline.run.step import Runner
from lamella.pipeline.search.audit import Recall, audited_queries, measure_recall
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import attempt, create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import parse_record
from lamella.pipeline.store.tables import write_parquet
from lamella.pipeline.text import duration, three_digits
from lamella.schemas.base import digest_of
from lamella.schemas.files import DoneRecord
from lamella.schemas.query import FusionSpec
from lamella.schemas.rankings import QueryRun, rankings_schema
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Place:
    """Where a job works: its store, its snapshot, its workers and their threads.

    `pictures` is the source of the indexed pictures as the user names it now, where it is named.
    `scratch` is where answers go that are not to be kept: a store of their own.
    """

    store: Store
    snapshot: IndexSnapshot
    runner: Runner
    threads: int
    progress: OnProgress = quiet
    pictures: str | None = None
    scratch: Store | None = None

    @property
    def runs(self) -> Store:
        """The store that answers are written to."""
        return self.scratch or self.store


@dataclass(frozen=True)
class Answered:
    """A complete run; how many of its queries this call answered, and in how many seconds.

    The seconds are 0 where the run was complete before. `store` has the files of the run, and
    `kept` says whether they stay when the call has ended. `images` has the kept columns of the
    snapshot that was asked, None where that is gone.
    """

    run: QueryRun
    queries: int
    seconds: float
    store: Store
    kept: bool = True
    images: ImageTable | None = None

    @property
    def queries_per_second(self) -> float:
        """How fast this call was, encoding and all."""
        return self.queries / max(self.seconds, 1e-9)

    def summary(self) -> str:
        """Return what this call did, for a person."""
        if not self.seconds:
            return "nothing was left to answer: this run was complete"
        return (
            f"this call answered {self.queries:,} in {duration(self.seconds)}: "
            f"{three_digits(self.queries_per_second)} queries a second"
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Queries whose turn has come: (Q,) ids and names, their features, and who is not asked."""

    ids: Int64s
    names: Any
    features: QueryBatch | None
    refusals: Any


def pictures_of(record: DoneRecord) -> int:
    """Return how many queries a batch has, answered or refused."""
    return record.counts["queries"] + record.counts["refused"]


@dataclass(frozen=True)
class Plan:
    """What a run is: its name, what it is made from, and how many queries each batch may have."""

    name: str
    inputs: str
    asked: Literal["pictures", "images"]
    sizes: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Where its answers are."""
        return tree.QUERY.folder(run=self.name)

    @property
    def keys(self) -> list[str]:
        """The keys of its batches, in order."""
        return [tree.shard_key(number) for number in range(len(self.sizes))]


def plan_run(
    place: Place,
    question: Question,
    asked: Literal["pictures", "images"],
    queries: str,
    sizes: Sequence[int],
    into: str | None,
) -> Plan:
    """Return the plan of a run.

    Args:
        queries: a digest of the snapshot and of what is asked.
        sizes: of the batches, at most.
        into: the run's name; by default one made from all that decides the answers.

    Raises:
        InputError: it may not have that name, or such queries cannot be asked so.
    """
    if into is not None:
        check_run_name(into)
    question.check(asked)
    inputs = digest_of([queries, question.facts()])
    return Plan(into or tree.keyed("query", inputs), inputs, asked, tuple(sizes))


def begun_run(place: Place, question: Question, plan: Plan) -> QueryRun | dict[str, DoneRecord]:
    """Return a run if it is complete, else the done records that it has, by key.

    Raises:
        IncompatibleInputs: what is there under its name was made from something else.
    """
    run = stored_run(place.runs, plan.name)
    if run is not None and run.snapshot != place.snapshot.root_digest:
        raise IncompatibleInputs(
            f"run {plan.name} asked the snapshot with root digest {run.snapshot[:12]}, this call "
            f"asks snapshot {place.snapshot.number} with {place.snapshot.root_digest[:12]}: choose "
            "the other one with --snapshot, or give another name to --into"
        )
    if run is not None and run.inputs == plan.inputs:
        return run
    if run is not None:
        raise IncompatibleInputs(
            f"run {plan.name} was made from queries and settings with digest {run.inputs[:12]}, "
            f"this call has {plan.inputs[:12]} ({_differences(run, question, plan)}): give them as "
            "they were, or another name to --into"
        )
    records = read_all_done(place.runs, plan.folder, plan.keys)
    for record in records:
        if record is not None and record.inputs != plan.inputs:
            raise IncompatibleInputs(
                f"run {plan.name} was begun with a snapshot, queries and settings of digest "
                f"{record.inputs[:12]}, this call has {plan.inputs[:12]}: give them as they were, "
                "or another name to --into"
            )
    return {record.key: record for record in records if record is not None}


def _differences(run: QueryRun, question: Question, plan: Plan) -> str:
    """Return in what a run differs from what is asked now, as far as it tells."""
    pairs = {
        "asked": (run.asked, plan.asked),
        "k": (run.k, question.search.k),
        "mode": (run.mode, question.search.mode),
        "expand": (run.expand, question.search.expand),
        "exclude_self": (run.exclude_self, question.search.exclude_self),
        "above": (run.above, question.search.above),
        "where": (run.where, question.search.where),
        "recall": (run.target, question.search.recall or run.target),
        "weighting": (run.weighting, question.weighting),
        "fusion": (_shown(run.fusion), _shown(question.fusion)),
    }
    others = [f"{name} was {was}, is {now}" for name, (was, now) in pairs.items() if was != now]
    return "; ".join(others) or "other queries, or batches of another size"


def _shown(fusion: FusionSpec) -> str:
    return ", ".join(
        f"{entry.layer} t={entry.t:g} p={entry.p:g} weight={entry.weight:g}"
        for entry in fusion.layers
    )


def answer_run(
    place: Place,
    coordinator: Coordinator,
    question: Question,
    plan: Plan,
    done: Mapping[str, DoneRecord],
    fetch: Callable[[int], Batch],
    began: float,
) -> Answered:
    """Answer the batches that are not done, each with its done record, and sum up.

    Args:
        done: the records of those that are.
        fetch: gives the batch of a number.
        began: when this call did, by `time.monotonic`.

    Raises:
        ShardUnavailable: a batch could not be answered; those before it are kept.
    """
    table = ImageTable(place.store, place.snapshot)
    records = dict(done)
    total = sum(plan.sizes)
    ended = sum(size for key, size in zip(plan.keys, plan.sizes, strict=True) if key in done)
    queries = 0
    place.progress(Progress("answer", len(records), len(plan.sizes), ended, total))
    for number, (key, size) in enumerate(zip(plan.keys, plan.sizes, strict=True)):
        if key in done:
            continue
        batch, asked_at = fetch(number), time.monotonic()
        record = _answer_batch(place, coordinator, question, plan, key, batch, table)
        _measure(record, time.monotonic() - asked_at)
        records[key] = record
        queries += record.counts["queries"]
        ended += size
        place.progress(Progress("answer", len(records), len(plan.sizes), ended, total))
    run = _summed_up(place, question, plan, [records[key] for key in plan.keys])
    return answered_at(place, run, queries, time.monotonic() - began)


def _measure(record: DoneRecord, seconds: float) -> None:
    """Count the queries of a batch, and the seconds that each took."""
    queries, refused = record.counts["queries"], record.counts["refused"]
    meters.QUERIES.add(queries, state="answered")
    meters.QUERIES.add(refused, state="refused")
    if queries:
        meters.QUERY_SECONDS.observe(seconds / queries, queries)
    events.info(
        "batch-answered",
        shard=record.key,
        queries=queries,
        refused=refused,
        seconds=round(seconds, 3),
    )


def answered_at(place: Place, run: QueryRun, queries: int = 0, seconds: float = 0.0) -> Answered:
    """Return a run that is complete; without seconds it was so before this call."""
    images = ImageTable(place.store, place.snapshot)
    return Answered(run, queries, seconds, place.runs, place.scratch is None, images)


def _answer_batch(
    place: Place,
    coordinator: Coordinator,
    question: Question,
    plan: Plan,
    key: str,
    batch: Batch,
    table: ImageTable,
) -> DoneRecord:
    rankings = rankings_schema([entry.layer for entry in question.fusion.layers]).empty_table()
    counts = {"certified": 0}
    if batch.features is not None:
        features = question.expanded(coordinator, batch.features)
        answer = question.answer(coordinator, batch.ids, features)
        rankings = ranking_table(batch.ids, batch.names, answer, question.fusion, table)
        counts["certified"] = int(answer.certified.sum())
        if not answer.certified.all():
            recall = _audit(coordinator, question, batch.ids, features, answer)
            counts |= {f"audit.{name}": value for name, value in asdict(recall).items()}
    with attempt(place.runs, plan.folder, "query", key, plan.inputs) as work:
        fill = functools.partial(write_parquet, rankings)
        work.write("rankings", plan.folder, "parquet", fill)
        if batch.refusals.num_rows:
            fill = functools.partial(write_parquet, batch.refusals)
            work.write("refusals", f"{plan.folder}/refusals", "parquet", fill)
        return work.finish(queries=len(batch.ids), refused=batch.refusals.num_rows, **counts)


def _audit(
    coordinator: Coordinator, question: Question, ids: Int64s, features: QueryBatch, answer: Answer
) -> Recall:
    """Answer some queries of a batch exactly too."""
    rows = audited_queries(ids)
    some = take_queries(features, rows.tolist())
    exact = question.answer(coordinator, ids[rows], some, exactly=True)
    return measure_recall(answer.image_ids[rows], exact.image_ids)


def _summed_up(
    place: Place, question: Question, plan: Plan, records: Sequence[DoneRecord]
) -> QueryRun:
    """Create the record of a run whose batches are all done, or find it there."""
    target, reach = question.target(place.snapshot) or (None, None)
    run = QueryRun(
        run=plan.name,
        inputs=plan.inputs,
        snapshot=place.snapshot.root_digest,
        asked=plan.asked,
        fusion=question.fusion,
        weighting=question.weighting,
        mode=question.search.mode,
        k=question.search.k,
        expand=question.search.expand,
        exclude_self=question.search.exclude_self,
        above=question.search.above,
        where=question.search.where,
        target=target,
        reach=reach,
        images=place.snapshot.indexed,
        queries=sum(pictures_of(record) for record in records),
        answered=sum(record.counts["queries"] for record in records),
        refused=sum(record.counts["refused"] for record in records),
        certified=sum(record.counts["certified"] for record in records),
        audited=sum(record.counts.get("audit.queries", 0) for record in records),
        audit_wanted=sum(record.counts.get("audit.wanted", 0) for record in records),
        audit_found=sum(record.counts.get("audit.found", 0) for record in records),
        rankings=tuple(record.files["rankings"] for record in records),
        refusals=tuple(r.files["refusals"] for r in records if "refusals" in r.files),
    )
    path = tree.RUN.at(run=plan.name)
    return parse_record(place.runs, path, QueryRun, create_once(place.runs, path, run.to_json()))
