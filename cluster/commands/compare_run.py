"""What `lamella compare` does: open both sides, ask them, write the copies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import engine as opened_engine
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.compare_page import changed_queries, names_on, render_comparison
from lamella.pipeline.evaluate.compare_values import delta_table
from lamella.pipeline.evaluate.intervals import FEWEST_UNITS
from lamella.pipeline.evaluate.protocols.by_name import ProtocolOptions, ground_truths
from lamella.pipeline.evaluate.qrels import Qrels, read_qrels, to_truth
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.jobs.compare_judged import MakeTruth
from lamella.pipeline.jobs.compare_sides import open_sides
from lamella.pipeline.jobs.compare_thumbnails import thumbnails_by_name
from lamella.pipeline.jobs.comparing import Compared, compare_sides
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.ranking_copies import whole
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.job import EngineSettings
from lamella.schemas.report import Protocol


@dataclass(frozen=True)
class Asked:
    """By what to compare: a protocol with its options, or qrels, or neither.

    `needs_verdict` refuses comparisons that cannot say whether B is worse.
    """

    protocol: Protocol | None = None
    said: ProtocolOptions = field(default_factory=ProtocolOptions)
    qrels: Path | None = None
    measures: tuple[str, ...] = ()
    queries: int | None = None
    weights: Path | None = None
    in_both: bool = False
    needs_verdict: bool = False

    def make_truth(self) -> MakeTruth | None:
        """Return what makes the ground truth of a corpus; None where there is none.

        Raises:
            InputError: a protocol and qrels are given, qrels cannot be read, or a verdict needs
                right answers.
        """
        if self.protocol is not None and self.qrels is not None:
            raise InputError("--protocol and --qrels both say what is right: give one of them")
        if self.queries is not None and (self.protocol or self.qrels):
            raise InputError(
                "--queries draws pictures where nothing says what to ask; --protocol and --qrels "
                "say it: leave it out"
            )
        if self.qrels is not None:
            judged = read_qrels(self.qrels)
            return partial(_of_qrels, judged)
        if self.protocol is not None:
            return self._of_protocol
        if self.needs_verdict:
            raise InputError(
                "--fail-on-loss needs right answers to know a loss by: give --protocol or --qrels"
            )
        return None

    def _of_protocol(self, names: Sequence[str] | None, _: bool) -> GroundTruth:
        if names is None:
            raise InputError(
                "--protocol takes its queries from the names of a corpus, and neither run says "
                "what it searched: give --qrels"
            )
        assert self.protocol is not None
        found = ground_truths(self.protocol, names, self.said)
        if len(found) > 1:
            parts = ", ".join(truth.protocol for truth in found)
            raise InputError(
                f"one part of a protocol is compared at a time; {self.protocol} has {len(found)} "
                f"here ({parts}): name one with --part"
            )
        return found[0]


def _of_qrels(judged: Qrels, names: Sequence[str] | None, indexed: bool) -> GroundTruth:
    return to_truth(judged, names, indexed_queries=indexed)


@dataclass(frozen=True)
class Copies:
    """Files to write: a row a query, a page; and where the pictures on it lie now."""

    out: Path | None = None
    page: Path | None = None
    pictures: str | None = None


def run_comparison(
    a: str,
    b: str,
    asked: Asked,
    settings: EngineSettings,
    copies: Copies,
    *,
    quiet: bool = False,
) -> Compared:
    """Return what comparing two sides found, and write its copies.

    Raises:
        InputError: a side is not there, they have no query in common, or a verdict is needed and
            the queries are too few for one.
    """
    make_truth = asked.make_truth()
    sides = open_sides(a, b)
    with (
        ProgressLines(Console(stderr=True), quiet=quiet) as lines,
        opened_engine(settings, quiet=quiet) as engine,
    ):
        runner = engine.runner

        def place_of(number: int) -> Place | None:
            side = sides[number]
            if side.ranked is not None or side.store is None or side.snapshot is None:
                return None
            return Place(
                side.store, side.snapshot, runner, engine.threads, lines.stage, copies.pictures
            )

        found = compare_sides(
            (place_of(0), place_of(1)),
            sides,
            engine.coordinator,
            make_truth=make_truth,
            measures=asked.measures,
            queries=asked.queries,
            weights=asked.weights,
            in_both=asked.in_both,
        )
        comparison = found.comparison
        if asked.needs_verdict and comparison.bootstrap is None:
            raise InputError(
                f"--fail-on-loss needs at least {FEWEST_UNITS} queries for a verdict; both sides "
                f"have {found.counted.compared}: compare more"
            )
        if copies.out is not None:
            with whole(copies.out) as part:
                write_parquet(delta_table(comparison), part)
        if copies.page is not None:
            changed = changed_queries(comparison, found.right)
            pictures, note = thumbnails_by_name(
                sides, names_on(changed), copies.pictures, lines.stage
            )
            html = render_comparison(comparison, found.counted, changed, pictures, note)
            with whole(copies.page) as part:
                part.write_text(html, encoding="utf-8")
    return found
