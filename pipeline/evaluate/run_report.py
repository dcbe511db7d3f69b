"""What is said of a scored run: means with intervals, and what could not be scored."""

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

import numpy as np

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.intervals import resample
from lamella.pipeline.evaluate.measures import Measure, has_lab, parse_measures
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.score_ranked import ScoredRun
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.schemas.run_report import MeasureScore, Named, RunReport

NAMED = 5
"""Names that a report has of things that may be many."""

USUAL = ("AP", "RR", "P@10", "R@10", "R@100")


def usual_measures(truth: GroundTruth, depth: int) -> tuple[Measure, ...]:
    """Return the measures that are shown where none are asked for, the protocol's own first.

    Those that look further than the rankings go are left out.
    """
    lab = ["nDCG@10"] if has_lab() else []
    names: list[str] = [truth.metric_name, *truth.measures, *USUAL, *lab]
    found = parse_measures(names)
    return (*found[:1], *(each for each in found[1:] if (each.cutoff or 0) <= depth))


def named(names: Collection[str]) -> Named:
    """Return how many names there are, and the first of them."""
    return Named(count=len(names), first=tuple(islice(names, NAMED)))


def reasons(truth: GroundTruth) -> dict[str, Named]:
    """Return the queries that a ground truth leaves out, by reason."""
    return {reason: named(names) for reason, names in truth.left_out_by_reason.items()}


def unknown_ranked(ranked: Ranked, names: Collection[str]) -> tuple[str, ...]:
    """Return the ranked pictures that the corpus lacks, each once, in the order of the run."""
    known = frozenset(names)
    lacking: dict[str, None] = {}
    for ranking in ranked.ranked:
        if not known.issuperset(ranking):
            lacking.update(dict.fromkeys(name for name in ranking if name not in known))
    return tuple(lacking)


def check_all_known(what: str, unknown: Sequence[str], names: Collection[str]) -> None:
    """Check that nothing is unknown, where that is asked for (`--strict`).

    Raises:
        InputError: something is.
    """
    if unknown:
        here = f", where one is called {one_line(repr(min(names)), 200)}" if names else ""
        raise InputError(
            f"--strict wants every picture of {what} in the corpus; {len(unknown):,} are not among "
            f"the {len(names):,} here{here}: {one_line(repr(unknown[0]), 200)} first. Leave them "
            "out, or --strict"
        )


def report_scores(
    found: ScoredRun,
    truth: GroundTruth,
    measures: Iterable[Measure],
    *,
    run: str,
    snapshot: str,
    qrels: str | None,
    depth: int,
    complete: bool,
    unknown: tuple[Sequence[str], Sequence[str]] | None,
    elapsed_seconds: float,
) -> RunReport:
    """Return the report of a scored run.

    Args:
        run, snapshot, qrels, depth, complete: as in the report.
        unknown: judged and ranked pictures that the corpus lacks; None where its names are not
            known.
    """
    scores = np.stack(list(found.scored.scores.values()))
    drawn = resample(scores, found.scored.groups)
    judged, ranked = unknown if unknown is not None else ((), ())
    return RunReport(
        run=run,
        snapshot=snapshot,
        truth=truth.protocol,
        qrels=qrels,
        depth=depth,
        complete=complete,
        measures=tuple(
            MeasureScore(
                measure=measure.name,
                score=float(scores[row].mean()),
                interval=drawn.interval(row) if drawn else None,
                first=None if complete or _within(measure, depth) else depth,
            )
            for row, measure in enumerate(measures)
        ),
        bootstrap=drawn.bootstrap if drawn else None,
        queries=len(truth.queries),
        left_out=reasons(truth),
        unanswered=named(found.unanswered),
        unjudged=named(found.unjudged),
        own_wrong=named(found.own_wrong),
        unknown_judged=named(judged),
        unknown_ranked=named(ranked),
        names_known=unknown is not None,
        elapsed_seconds=elapsed_seconds,
    )


def _within(measure: Measure, depth: int) -> bool:
    return measure.cutoff is not None and measure.cutoff <= depth
