"""The report as one self-contained HTML page.

Picture names are untrusted: they are escaped everywhere, unprintable characters are spelled out,
and the page's policy allows no script but its own.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from lamella.pipeline.evaluate.data_set import data_set_lines
from lamella.pipeline.evaluate.explain import QueryPicture
from lamella.pipeline.evaluate.figures import (
    chosen_text,
    difference_text,
    label_text,
    map_text,
    measure_texts,
    p_text,
    setting_text,
    short_score,
    ties_text,
)
from lamella.pipeline.evaluate.headline import background_warning, method, story
from lamella.pipeline.text import printable
from lamella.schemas.report import TOP_SCORE, Interval, RetrievalReport, ScoreRow, SweepPoint

VERDICT_MARKS = {"right": "✓", "wrong": "✕", "junk": "–", "query": "Q"}
JPEG_START = b"\xff\xd8\xff"


SHORT_LABELS = {"mapped": "map", "direct": "direct sum"}


@dataclass(frozen=True)
class ScoreLine:
    """A line of the score table.

    Attributes:
        width: of its bar, in percent of the perfect score.
        interval: of the score, as text; empty where there is none.
        whisker: where the interval starts and how wide it is, in percent as `width`.
    """

    label: str
    kind: str
    setting: str
    score: str
    width: float
    ties: str = ""
    interval: str = ""
    whisker: tuple[float, float] | None = None


@dataclass(frozen=True)
class GainLine:
    """What a fusion gains over another ranking.

    Attributes:
        fusion: mapped or direct; its label, and that of the other ranking, follow.
        verdict: gain, loss or no difference.
        place: of the difference, in percent of the chart's width; zero has its own.
        whisker: where the interval starts and how wide it is, in percent too.
        p: corrected p, as text; empty where the report has none.
    """

    fusion: str
    label: str
    over: str
    verdict: str
    difference: str
    interval: str
    place: float
    whisker: tuple[float, float]
    p: str = ""


@dataclass(frozen=True)
class HeatCell:
    """A cell of the (t, p) map; `heat` is 0 at the sweep's lowest score and 1 at its highest."""

    point: SweepPoint
    text: str
    heat: float
    used: bool
    best: bool


def render(
    report: RetrievalReport,
    queries: Sequence[QueryPicture] = (),
    thumbnails: Mapping[int, bytes] | None = None,
) -> str:
    """Return the page.

    Args:
        report: the figures.
        queries: the queries to show, with their rankings.
        thumbnails: JPEG bytes by image id; each is in the page once, unused ones are left out. A
            picture without a thumbnail is shown by its rank alone.

    Raises:
        ValueError: a thumbnail is not a JPEG.
    """
    from jinja2 import Environment, StrictUndefined

    folder = files("lamella.pipeline.evaluate")
    script = folder.joinpath("report.js").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["printable"] = printable
    environment.globals["map_text"] = map_text
    environment.filters["short"] = lambda value: short_score(value, report.metric)
    template = environment.from_string(
        folder.joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    classes, rules = _thumbnail_rules(queries, thumbnails or {})
    return template.render(
        report=report,
        queries=queries,
        layers=[entry.layer for entry in report.fusion.layers],
        panel=[_panel_layer(entry.layer, entry.weight) for entry in report.fusion.layers],
        lines=score_lines(report),
        gains=gain_lines(report),
        method=method(report),
        data_set=data_set_lines(report),
        heat=heat_rows(report),
        story=story(report),
        warning=background_warning(report),
        top_score=f"{TOP_SCORE[report.metric]:g}",
        marks=VERDICT_MARKS,
        thumbnail_class=classes,
        thumbnail_rules=rules,
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def score_lines(report: RetrievalReport) -> list[ScoreLine]:
    """Return the score table: every row, then the sweep's best and its cross-validated figure.

    The sweep's best has no interval, which would not tell that it was chosen on these queries.
    """
    lines = [_score_line(row) for row in report.rows]
    top = TOP_SCORE[report.metric]
    if report.best is not None:
        best = report.best
        at = f"t {best.t:g}, p {best.p:g}; tuned on these very queries"
        lines.append(
            ScoreLine("best of the sweep", "swept", at, f"{best.score:.3f}", 100 * best.score / top)
        )
    if report.cross_validated is not None:
        honest = report.cross_validated
        lines.append(
            ScoreLine(
                label="sweep, cross-validated",
                kind="swept",
                setting=chosen_text(honest),
                score=f"{honest.score:.3f}",
                width=100 * honest.score / top,
                interval=_exact(honest.interval),
                whisker=_whisker(honest.interval, 0.0, top),
            )
        )
    return lines


def gain_lines(report: RetrievalReport) -> list[GainLine]:
    """Return what fusions gain over other rankings, on one scale around zero."""
    ends = [abs(end) for gain in report.gains for end in (gain.interval.low, gain.interval.high)]
    widest = max(ends, default=0.0) or 1.0
    labels = {row.name: label_text(row) for row in report.rows}
    lines = []
    for gain in report.gains:
        difference, interval = difference_text(gain, report.metric, decimals=3)
        whisker = _whisker(gain.interval, -widest, widest)
        assert whisker is not None
        lines.append(
            GainLine(
                fusion=gain.fusion,
                label=SHORT_LABELS[gain.fusion],
                over=labels[gain.over],
                verdict=gain.verdict,
                difference=f"+{difference}" if gain.verdict == "gain" else difference,
                interval=interval,
                place=50 + 50 * gain.difference / widest,
                whisker=whisker,
                p=p_text(gain.corrected_p),
            )
        )
    return lines


def _score_line(row: ScoreRow) -> ScoreLine:
    top = TOP_SCORE[row.metric]
    settings = zip(row.layers, row.t, row.p, row.weights, strict=True)
    setting = setting_text(settings) if row.kind == "mapped" else ""
    return ScoreLine(
        label=label_text(row),
        kind=row.kind,
        setting="; ".join(part for part in (setting, ", ".join(measure_texts(row))) if part),
        score=f"{row.score:.3f}",
        width=100 * row.score / top,
        ties=ties_text(row),
        interval=_exact(row.interval),
        whisker=_whisker(row.interval, 0.0, top),
    )


def _exact(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else ""


def _whisker(interval: Interval | None, left: float, right: float) -> tuple[float, float] | None:
    """Return the start and the width of an interval, in percent of an axis from left to right."""
    if interval is None:
        return None
    scale = 100 / (right - left)
    return scale * (interval.low - left), scale * (interval.high - interval.low)


def _panel_layer(layer: str, weight: float) -> dict[str, str]:
    """Return a layer's name, and what its mapped similarity is called beside a picture."""
    return {"name": printable(layer), "mapped": "f" if weight == 1.0 else f"{weight:g} f"}


def heat_rows(report: RetrievalReport) -> list[tuple[float, list[HeatCell | None]]]:
    """Return rows of the map, p falling: p and its cells over t; None for points not swept."""
    if not report.sweep:
        return []
    points = {(point.t, point.p): point for point in report.sweep}
    scores = [point.score for point in report.sweep]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    used = report.fusion.layers[0]

    def cell(t: float, p: float) -> HeatCell | None:
        point = points.get((t, p))
        if point is None:
            return None
        return HeatCell(
            point=point,
            text=short_score(point.score, report.metric),
            heat=(point.score - low) / span,
            used=(t, p) == (used.t, used.p),
            best=point == report.best,
        )

    thresholds = sorted({point.t for point in report.sweep})
    powers = sorted({point.p for point in report.sweep}, reverse=True)
    return [(p, [cell(t, p) for t in thresholds]) for p in powers]


def _thumbnail_rules(
    queries: Sequence[QueryPicture], thumbnails: Mapping[int, bytes]
) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """Return image id -> class, and (class, base64) once for each thumbnail in use."""
    wanted = dict.fromkeys(
        image_id
        for query in queries
        for image_id in (
            query.image_id,
            *(picture.image_id for row in query.rankings for picture in row.pictures),
        )
        if image_id in thumbnails
    )
    classes = {image_id: f"t{place}" for place, image_id in enumerate(wanted)}
    for image_id in classes:
        if not thumbnails[image_id].startswith(JPEG_START):
            raise ValueError(f"thumbnails are JPEG bytes; that of {image_id} is not")
    rules = [
        (name, base64.b64encode(thumbnails[image_id]).decode())
        for image_id, name in classes.items()
    ]
    return classes, rules
