"""What a run of queries found, for people, for scripts, and in files."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lamella.cluster.commands.failures import Told, as_value
from lamella.cluster.commands.show import plain
from lamella.cluster.commands.show_query import show_answered
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.errors import IncompatibleInputs, InputError, one_line
from lamella.pipeline.jobs.query_run import Answered
from lamella.pipeline.jobs.ranking_copies import check_kind, copy_rankings, json_of, write_trec
from lamella.pipeline.jobs.rankings import known_run, refused_by
from lamella.pipeline.jobs.resolve import chosen_snapshot
from lamella.pipeline.jobs.scoring import snapshot_of
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import WEIGHTING_OF, JobConfig
from lamella.schemas.rankings import QueryRun


@dataclass(frozen=True)
class Copies:
    """Where the rankings go beside the store: a file, a TREC run, or JSON in place of tables.

    Raises:
        InputError: the name of the file says no kind that is known, or ids are wanted in no run.
    """

    out: Path | None = None
    trec: Path | None = None
    as_json: bool = False
    trec_ids: bool = False

    def __post_init__(self) -> None:
        if self.out is not None:
            check_kind(self.out)
        if self.trec_ids and self.trec is None:
            raise InputError("--trec-ids says what --trec FILE is to hold: give both")


def hand_out(console: Console, answered: Answered, copies: Copies) -> None:
    """Give what a call answered, and say how fast it was.

    Raises:
        InputError: nothing was answered.
        Told: likewise, and the JSON says so.
    """
    _give(console, answered, copies)
    if not copies.as_json:
        console.print(plain(answered.summary()))
    _check_answered(answered, copies)


@dataclass(frozen=True)
class Said:
    """What a call that only shows a run says of how it was made: a job, layers, a snapshot."""

    job: JobConfig
    layers: list[str] | None = None
    number: int | str | None = None


def show_again(console: Console, url: str, name: str, copies: Copies, said: Said) -> None:
    """Give what a complete run found.

    Raises:
        InputError: there is no such run, or nothing in it was answered.
        Told: nothing was answered, and the JSON says so.
        IncompatibleInputs: it was made in another way than the call says.
    """
    store = open_store(url)
    run = known_run(store, name)
    _check_said(store, run, said)
    snapshot = snapshot_of(store, run.snapshot)
    images = None if snapshot is None else ImageTable(store, snapshot)
    answered = Answered(run, 0, 0.0, store, images=images)
    _give(console, answered, copies)
    _check_answered(answered, copies)


def _check_said(store: Store, run: QueryRun, said: Said) -> None:
    """See that what a call says of a run is so; what it leaves out may be anything."""
    job = said.job
    pairs: dict[str, tuple[object, object]] = {}
    for name in ("k", "mode", "expand", "exclude_self", "above", "where"):
        if name in job.search.model_fields_set:
            pairs[name] = (getattr(run, name), getattr(job.search, name))
    if job.search.recall is not None:
        pairs["recall"] = (run.target, job.search.recall)
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


def _give(console: Console, answered: Answered, copies: Copies) -> None:
    store, run = answered.store, answered.run
    if copies.out is not None:
        with _written(answered, "--out", copies.out):
            copy_rankings(store, run, copies.out, kept=answered.kept, images=answered.images)
    if copies.trec is not None:
        with _written(answered, "--trec", copies.trec):
            write_trec(store, run, copies.trec, ids=copies.trec_ids)
    if copies.as_json:
        nothing = _nothing_answered(answered)
        error = None if nothing is None else as_value(nothing)
        images = answered.images
        for part in json_of(store, run, kept=answered.kept, error=error, images=images):
            print(part, end="")
        print()
        return
    show_answered(console, answered, copied=copies.out is not None)


@contextmanager
def _written(answered: Answered, option: str, path: Path) -> Iterator[None]:
    """Say of a copy that cannot be written how to have it after all.

    Raises:
        OSError: it cannot.
    """
    try:
        yield
    except OSError as error:
        again = "give the same command again"
        if answered.kept:
            given = shlex.join(["--into", answered.run.run, option, str(path)])
            again = f"the answers are kept: lamella query {shlex.quote(answered.store.url)} {given}"
        raise OSError(
            f"{path} cannot be written ({one_line(error)}): make room, then {again}"
        ) from error


def _nothing_answered(answered: Answered) -> InputError | None:
    """Return the error of a call that has no ranking to give, None where it has one."""
    run = answered.run
    if run.answered:
        return None
    return InputError(
        f"none of the query pictures was answered: {run.refused:,} of {run.queries:,} were refused "
        f"({top_reasons(refused_by(answered.store, run))}): mend them, or ask by others"
    )


def _check_answered(answered: Answered, copies: Copies) -> None:
    if (nothing := _nothing_answered(answered)) is not None:
        if copies.as_json:
            raise Told from nothing
        raise nothing
