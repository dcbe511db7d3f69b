"""The report as an HTML page: with its pictures in it, or in a folder beside it.

Picture names are untrusted: they are escaped everywhere, unprintable characters are spelled out,
and the page's policy allows no script but its own.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from lamella.pipeline.evaluate.data_set import data_set_lines
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
from lamella.pipeline.evaluate.page_queries import PageQueries, as_script, page_data
from lamella.pipeline.page import kit
from lamella.pipeline.page.charts import COLOURS, chart
from lamella.pipeline.page.jpeg import JPEG_START
from lamella.pipeline.text import byte_size, counted
from lamella.schemas.report import TOP_SCORE, Interval, RetrievalReport, ScoreRow, SweepPoint

VERDICT_MARKS = {"right": "✓", "wrong": "✕", "junk": "–", "query": "Q"}
JPEG_AS_TEXT = "data:image/jpeg;base64,"

PICTURES_A_BLOCK = 64
"""Pictures that are in the page stand in blocks, which are read as they are needed."""

SCRIPTS = ("report.data.js", "report.state.js", "report.list.js", "report.zoom.js", "report.js")

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


@dataclass(frozen=True)
class Pictures:
    """The thumbnails of a page, of the pictures that its queries show.

    Attributes:
        inside: JPEGs by image id, of a page that has them in it.
        folder: the folder beside the page that has them as NUMBER.jpg; empty if they are in it.
        made: how many there are.
        size_bytes: of all.
        gone: image ids of pictures that cannot be read any more, or have changed.
        note: why there are none, or fewer.

    Raises:
        ValueError: a thumbnail is not a JPEG.
    """

    inside: Mapping[int, bytes] = field(default_factory=dict)
    folder: str = ""
    made: int = 0
    size_bytes: int = 0
    gone: frozenset[int] = frozenset()
    note: str = ""

    def __post_init__(self) -> None:
        for image_id, data in self.inside.items():
            if not data.startswith(JPEG_START):
                raise ValueError(f"thumbnails are JPEG bytes; that of {image_id} is not")


NO_PICTURES = Pictures()


def render(
    report: RetrievalReport,
    queries: PageQueries | None = None,
    pictures: Pictures = NO_PICTURES,
) -> str:
    """Return the page.

    Args:
        report: the figures.
        queries: the queries to list, and of which to show rankings; without them there are figures
            alone.
        pictures: the thumbnails. A picture without one is shown by its rank.
    """
    return kit.render(
        "lamella.pipeline.evaluate",
        "report",
        scripts=SCRIPTS,
        report=report,
        queries=queries,
        data=_data(queries, pictures) if queries else None,
        blocks=list(_blocks(queries, pictures)) if queries and not pictures.folder else [],
        extent=extent(report, queries, pictures) if queries else "",
        pictures=pictures,
        lines=score_lines(report),
        gains=gain_lines(report),
        method=method(report),
        data_set=data_set_lines(report),
        heat=heat_rows(report),
        changes=_changes(queries) if queries else "",
        story=story(report),
        warning=background_warning(report),
        top_score=f"{TOP_SCORE[report.metric]:g}",
        marks=VERDICT_MARKS,
        map_text=map_text,
        short=lambda value: short_score(value, report.metric),
    )


def extent(report: RetrievalReport, queries: PageQueries, pictures: Pictures) -> str:
    """Return how many queries the page lists and shows, and how large its pictures are."""
    listed = len(queries.listed)
    said = (
        f"All {listed:,} queries are listed"
        if listed == report.queries
        else (f"{listed:,} of {report.queries:,} queries are listed, those that tell most")
    )
    if queries.pictured < listed:
        said += f"; rankings of {queries.pictured:,} are shown"
    where = f"in {pictures.folder}" if pictures.folder else "in this page"
    if pictures.made:
        size = byte_size(pictures.size_bytes)
        said += f". {counted(pictures.made, 'picture')}, {size}, {where}"
    return f"{said}."


def _data(queries: PageQueries, pictures: Pictures) -> str:
    """Return what the page's script reads, as JSON."""
    gone = [n for n, image_id in enumerate(queries.shown_ids) if _is_gone(image_id, pictures)]
    folder = quote(f"{pictures.folder}/") if pictures.folder else ""
    where = {"folder": folder, "block": PICTURES_A_BLOCK, "gone": gone}
    return as_script(page_data(queries) | where)


def _is_gone(image_id: int, pictures: Pictures) -> bool:
    return image_id in pictures.gone if pictures.folder else image_id not in pictures.inside


def _blocks(queries: PageQueries, pictures: Pictures) -> Iterator[str]:
    """Yield blocks of thumbnails as JSON lists, null where there is none; nothing without any."""
    shown = queries.shown_ids if pictures.inside else []
    for start in range(0, len(shown), PICTURES_A_BLOCK):
        data = [pictures.inside.get(each) for each in shown[start : start + PICTURES_A_BLOCK]]
        yield as_script([each and JPEG_AS_TEXT + base64.b64encode(each).decode() for each in data])


def _changes(queries: PageQueries) -> str:
    """Return a chart of what the map changes, query by query; empty if it changes nothing."""
    scores = queries.result.scores
    changes = np.sort(scores[-1] - scores[-2])[::-1]
    if len(queries.rankings) == 1 or not changes.any():
        return ""
    helped, hurt = int((changes > 0).sum()), int((changes < 0).sum())
    at = np.unique(np.linspace(0, len(changes) - 1, 400).round().astype(int))

    def draw(axes: Any) -> None:
        for colour, part in (("right", changes.clip(min=0)), ("wrong", changes.clip(max=0))):
            axes.fill_between(at + 1, part[at], step="mid", color=COLOURS[colour], linewidth=0)
        axes.axhline(0, color=COLOURS["soft"], linewidth=0.8)
        axes.set_xlim(1, max(len(changes), 2))
        axes.set_xlabel("queries, by what the map changes")
        axes.set_ylabel(f"mapped less direct ({queries.plan.truth.truth.metric_name})")

    unchanged = len(changes) - helped - hurt
    title = (
        f"Score of the mapped fusion less that of the direct sum: {counted(helped, 'query')} "
        f"gained, {hurt:,} lost, {unchanged:,} unchanged"
    )
    return chart(draw, title, wide=6.4, high=2.6)


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
