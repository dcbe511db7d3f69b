"""What a report says in words: which ranking to use, and by how much it is better.

A gain or a loss is called one only where its interval excludes zero and its corrected p is small.
"""

from lamella.pipeline.evaluate.figures import (
    difference_text,
    interval_text,
    label_text,
    p_text,
    short_score,
)
from lamella.pipeline.evaluate.intervals import FEWEST_UNITS
from lamella.pipeline.text import printable
from lamella.schemas.report import (
    LARGEST_P,
    TOP_SCORE,
    Bootstrap,
    FusionKind,
    Gain,
    RetrievalReport,
    ScoreRow,
)

FUSED = {"mapped": "the mapped fusion of {}", "direct": "the plain sum of {}"}


def story(report: RetrievalReport) -> str:
    """Return which ranking to use, its score, and what sets it apart from the others.

    The fusion is the mapped one, or the plain sum where the map is worse. It is compared with the
    layers alone, and needs a gain to be chosen: a layer alone costs less.
    """
    mapped, direct, alone = report.row("mapped"), report.row("direct"), report.best_alone()
    if len(mapped.layers) == 1:
        return f"{printable(mapped.layers[0])} alone {_finds(mapped, 's')}."
    over_sum = report.gain_over(direct)
    if over_sum is None:
        return _without_intervals(report)
    kind: FusionKind = "direct" if over_sum.verdict == "loss" else "mapped"
    if (better := _better_alone(report, kind)) is not None:
        row, loss = better
        apart = _apart(loss, report, FUSED[kind].format(_listed(mapped)), flipped=True)
        return f"Use {printable(row.name)} alone: it {_finds(row, 's')}, {apart}."
    gain = report.gain_over(alone, kind)
    assert gain is not None  # a report has all gains or none
    return _fused(report, kind, gain, over_sum)


def _fused(report: RetrievalReport, kind: FusionKind, gain: Gain, over_sum: Gain) -> str:
    """Return the story where no layer alone is better than the fusion."""
    fused, name = report.row(kind), f"{printable(gain.over)} alone"
    both = _listed(fused)
    unseen = f"no difference that these {report.queries:,} queries show"
    if gain.verdict != "gain":
        return (
            f"Use {name}, which costs less: it {_finds(report.best_alone(), 's')}, "
            f"{FUSED[kind].format(both)} {_finds(fused, 's')}; {unseen} {_brackets(gain, report)}."
        )
    apart = _apart(gain, report, name)
    if kind == "direct":
        below = _apart(over_sum, report, "their mapped fusion", flipped=True)
        return f"Use the plain sum: {both} {_finds(fused)}, {apart}, {below}."
    if over_sum.verdict == "no difference":
        return (
            f"Use the fusion, mapped or plain: by the map {both} {_finds(fused)}, {apart}; "
            f"from their plain sum {unseen} {_brackets(over_sum, report)}."
        )
    above = _apart(over_sum, report, "their plain sum")
    return f"Use the mapped fusion: {both} {_finds(fused)}, {apart}, {above}."


def _without_intervals(report: RetrievalReport) -> str:
    mapped, direct, alone = report.row("mapped"), report.row("direct"), report.best_alone()
    few = f"{report.queries:,} queries are too few to say which is better."
    return (
        f"Fused by the map, {_listed(mapped)} {_finds(mapped)}, their plain sum "
        f"{_finds(direct, 's')}, {printable(alone.name)} alone {_finds(alone, 's')}. "
        + (few if report.queries < FEWEST_UNITS else "This report has no intervals.")
    )


def method(report: RetrievalReport) -> str:
    """Return which mAP this is, how the intervals were made, and what they cannot say."""
    return " ".join(part for part in (_which_map(report), _intervals(report)) if part)


def _which_map(report: RetrievalReport) -> str:
    """Return how mAP is defined here, and what tools of other definitions give; empty for N-S."""
    if report.metric == "mAP@100":
        return "mAP@100 is by rectangles over the first 100 pictures, as Google Landmarks has it."
    if report.metric != "mAP":
        return ""
    named = "mAP is by trapezoids, as in the protocol of Oxford5k"
    found = [
        f"{label_text(row)} {short_score(row.rectangles, 'mAP')}"
        for row in report.rows
        if row.rectangles is not None
    ]
    if not found:
        return f"{named}."
    return f"{named}; by rectangles, as trec_eval and ir-measures (AP) have it: {', '.join(found)}."


def _intervals(report: RetrievalReport) -> str:
    """Return how the intervals were made, and what they cannot say; empty without intervals."""
    if report.bootstrap is None:
        return ""
    text = intervals_text(report.bootstrap)
    if any(gain.p is not None for gain in report.gains):
        text += f" {how_tested(len(report.gains))}"
    return text


def intervals_text(made: Bootstrap) -> str:
    """Return how intervals were made, and what they cannot say."""
    units = (
        f"{made.units:,} groups of queries that share right answers"
        if made.unit == "group"
        else f"{made.units:,} single queries"
    )
    text = f"{100 * made.level:g} % intervals: {made.resamples:,} resamples of {units}."
    if made.unit == "query":
        text += f" Fewer than {FEWEST_UNITS} groups: other objects may differ more than this."
    return text


def how_tested(comparisons: int) -> str:
    """Return how p was found, and what a gain needs."""
    over = "" if comparisons == 1 else f", corrected over {comparisons} comparisons by Holm"
    return (
        f"p: paired randomisation test over the same units{over}; a gain needs an interval "
        f"without zero and p of at most {p_text(LARGEST_P)}."
    )


def background_warning(report: RetrievalReport) -> str:
    """Return a warning where t lies below the background similarity and the map is no gain."""
    below = report.below_background()
    if not below:
        return ""
    thresholds = {entry.layer: entry.t for entry in report.fusion.layers}
    layers = "; ".join(
        f"t = {thresholds[entry.layer]:g} lies below {entry.median:.2f}, the median similarity of "
        f"unrelated pictures in {printable(entry.layer)}"
        for entry in below
    )
    mapped, direct = report.row("mapped"), report.row("direct")
    gain = report.gain_over(direct)
    if gain is not None and gain.verdict == "gain":
        return ""
    effects = {
        "loss": "here the map hurts",
        "no difference": "the map changes nothing that these queries show",
    }
    effect = effects[gain.verdict] if gain else "scores are"
    text = (
        f"{layers}. It lifts related and unrelated pictures alike, and {effect}: "
        f"{mapped.score:.3f} against {direct.score:.3f} for the plain sum."
    )
    if report.best is not None:
        best = report.best
        text += f" The sweep gives {best.score:.3f} at t = {best.t:g}, p = {best.p:g}"
        if report.cross_validated is not None:
            text += f", {report.cross_validated.score:.3f} cross-validated"
        text += "."
    return text


def _better_alone(report: RetrievalReport, kind: FusionKind) -> tuple[ScoreRow, Gain] | None:
    """Return the best of the layers that alone are better than a fusion, by their intervals."""
    better = [
        (row, gain)
        for row in report.rows
        if row.kind == "alone" and (gain := report.gain_over(row, kind)) and gain.verdict == "loss"
    ]
    return max(better, key=lambda pair: pair[0].score) if better else None


def _listed(row: ScoreRow) -> str:
    names = [printable(layer) for layer in row.layers]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _finds(row: ScoreRow, ending: str = "") -> str:
    """Return "find 3.98 of 4 (3.96 to 3.99)", or "score .602 mAP (.585 to .619)"."""
    score = short_score(row.score, row.metric)
    text = (
        f"find{ending} {score} of {TOP_SCORE[row.metric]:g}"
        if row.metric == "N-S"
        else f"score{ending} {score} {row.metric}"
    )
    return text + (f" ({interval_text(row.interval, row.metric)})" if row.interval else "")


def _apart(gain: Gain, report: RetrievalReport, other: str, flipped: bool = False) -> str:
    """Return ".05 above head alone [.03, .07]"; flipped, from the other ranking's side."""
    above = (gain.difference > 0) != flipped
    size, _ = difference_text(gain, report.metric)
    size = size.lstrip("-")
    return f"{size} {'above' if above else 'below'} {other} {_brackets(gain, report, flipped)}"


def _brackets(gain: Gain, report: RetrievalReport, flipped: bool = False) -> str:
    """Return the interval, and p where that alone says that there is no difference."""
    interval = difference_text(gain, report.metric, flipped)[1]
    zero_is_out = gain.interval.low > 0.0 or gain.interval.high < 0.0
    if gain.verdict == "no difference" and zero_is_out:
        return f"{interval}, p {p_text(gain.corrected_p)}"
    return interval
