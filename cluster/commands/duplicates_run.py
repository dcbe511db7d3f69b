"""Open what a search for near-duplicates needs, run it, and write its page."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lamella.cluster.commands import beats
from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.commands.query import Prepared
from lamella.cluster.ray.engine import engine as opened_engine
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.export.duplicates import Duplicates, find_duplicates
from lamella.pipeline.export.duplicates_page import (
    render_duplicates,
    shown_groups,
    small_pictures,
)
from lamella.pipeline.export.pairs import check_threshold, usual_threshold
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.ranking_copies import whole
from lamella.pipeline.jobs.resolve import asked_fusion, chosen_snapshot
from lamella.pipeline.scratch import scratch
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import JobConfig


@dataclass(frozen=True)
class Asked:
    """What is looked for: layers, of which snapshot, into which run; and a page of it, if any."""

    layers: list[str] | None = None
    number: int | str | None = None
    into: str | None = None
    page: Path | None = None
    pictures: str | None = None


def run_duplicates(url: str, job: JobConfig, asked: Asked, *, quiet: bool = False) -> Duplicates:
    """Return the near-duplicates of a snapshot, and write their page where one is wanted.

    Raises:
        InputError: there is no snapshot, no picture scores as much, or settings cannot be used.
        UnknownLayer: the snapshot has no such layer.
        IncompatibleInputs: the run was made from something else.
    """
    store = open_store(url)
    snapshot = chosen_snapshot(store, asked.number)
    fusion, weighting = asked_fusion(snapshot, job, asked.layers)
    if job.search.where is not None:
        raise InputError(
            "near-duplicates are looked for among all pictures, and search.where of the job file "
            f"leaves some out ({one_line(job.search.where, 60)}): leave it out"
        )
    above = job.search.above if job.search.above is not None else usual_threshold(fusion)
    check_threshold(above, fusion)
    update = {"above": above, "exclude_self": True, "mode": "exact", "expand": 0}
    question = Question(fusion, weighting, job.search.model_copy(update=update))
    with scratch("duplicates") as folder:
        prepared = Prepared(store, snapshot, question, None, asked.into, folder)
        if prepared.kept:
            beats.allow()
        with (
            opened_engine(prepared.engine(job.engine), quiet=quiet) as engine,
            ProgressLines(Console(stderr=True), quiet=quiet) as lines,
        ):
            place = Place(
                *(store, snapshot, engine.runner, engine.threads, lines.stage, asked.pictures),
                scratch=prepared.answers(),
            )
            with engine.coordinator(store, snapshot, weighting) as coordinator:
                found = find_duplicates(place, coordinator, question, asked.into)
            if asked.page is not None:
                groups = shown_groups(found)
                pictures, note = small_pictures(place, groups)
                html = render_duplicates(found, groups, pictures, snapshot.corpus, note)
                with whole(asked.page) as part:
                    part.write_text(html, encoding="utf-8")
    return found
