"""The report as one self-contained HTML page.

Picture names are untrusted: they are escaped everywhere, unprintable characters are spelled out,
and the page's policy allows no script but its own.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from lamella.pipeline.evaluate.explain import QueryPicture
from lamella.pipeline.text import printable
from lamella.schemas.report import TOP_SCORE, Metric, RetrievalReport, SweepPoint

VERDICT_MARKS = {"right": "✓", "wrong": "✕", "junk": "–", "query": "Q"}
JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class ScoreLine:
    """A line of the score table; `width` is the bar's, in percent of the perfect score."""

    label: str
    kind: str
    setting: str
    score: str
    width: float
    ties: str = ""


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
    environment.filters["short"] = lambda value: short_score(value, report.metric)
    template = environment.from_string(
        folder.joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    classes, rules = _thumbnail_rules(queries, thumbnails or {})
    return template.render(
        report=report,
        queries=queries,
        layers=[entry.layer for entry in report.fusion.layers],
        lines=score_lines(report),
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


def short_score(score: float, metric: Metric) -> str:
    """Return a score as tables print it: 3.94 for N-S, .602 for mAP."""
    if metric == "N-S":
        return f"{score:.2f}"
    return f"{score:.3f}".removeprefix("0")


def score_lines(report: RetrievalReport) -> list[ScoreLine]:
    """Return the score table: every row, then the sweep's best and its cross-validated figure."""
    top = TOP_SCORE[report.metric]
    labels = {"alone": "{} alone", "direct": "direct sum", "mapped": "mapped fusion"}
    lines = []
    for row in report.rows:
        maps = [
            f"{layer}: t {t:g}, p {p:g}"
            for layer, t, p in zip(row.layers, row.t, row.p, strict=True)
            if t < 1.0
        ]
        setting = "; ".join(maps) if row.kind == "mapped" else ""
        ties = ""
        if row.highest - row.lowest >= 5e-4:
            ties = f"ties: {row.lowest:.3f} to {row.highest:.3f}"
        lines.append(
            ScoreLine(
                label=labels[row.kind].format(printable(row.name)),
                kind=row.kind,
                setting=printable(setting),
                score=f"{row.score:.3f}",
                width=100 * row.score / top,
                ties=ties,
            )
        )
    if report.best is not None:
        best = report.best
        at = f"t {best.t:g}, p {best.p:g}; tuned on these very queries"
        lines.append(
            ScoreLine("best of the sweep", "swept", at, f"{best.score:.3f}", 100 * best.score / top)
        )
    if report.cross_validated is not None:
        honest = report.cross_validated
        chosen = " and ".join(f"t {point.t:g}, p {point.p:g}" for point in honest.chosen)
        lines.append(
            ScoreLine(
                label="sweep, cross-validated",
                kind="swept",
                setting=f"chosen on the other half of the queries: {chosen}",
                score=f"{honest.score:.3f}",
                width=100 * honest.score / top,
            )
        )
    return lines


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


def story(report: RetrievalReport) -> str:
    """Return one sentence: the mapped fusion's score against the sum and the best layer."""
    mapped, direct = report.row("mapped").score, report.row("direct").score
    alone = report.best_alone()
    layers = [printable(entry.layer) for entry in report.fusion.layers]
    if len(layers) == 1:
        return f"{layers[0]} alone scores {mapped:.3f} {report.metric}."
    listed = f"{', '.join(layers[:-1])} and {layers[-1]}"
    return (
        f"Fused by the map, {listed} score {mapped:.3f} {report.metric}: "
        f"{_against(mapped - direct)} their plain sum, "
        f"{_against(mapped - alone.score)} {printable(alone.name)} alone."
    )


def background_warning(report: RetrievalReport) -> str:
    """Return a warning where t lies below the background similarity; else an empty string."""
    below = report.below_background()
    if not below:
        return ""
    thresholds = {entry.layer: entry.t for entry in report.fusion.layers}
    layers = "; ".join(
        f"t = {thresholds[entry.layer]:g} lies below {entry.median:.2f}, the median similarity of "
        f"unrelated pictures in {printable(entry.layer)}"
        for entry in below
    )
    mapped, direct = report.row("mapped").score, report.row("direct").score
    effect = (
        f"here the map hurts: {mapped:.3f} against {direct:.3f} for the plain sum"
        if mapped < direct
        else f"the map still gives {mapped:.3f} against {direct:.3f} for the plain sum"
    )
    text = f"{layers}. It lifts related and unrelated pictures alike, and {effect}."
    if report.best is not None:
        best = report.best
        text += f" The sweep gives {best.score:.3f} at t = {best.t:g}, p = {best.p:g}"
        if report.cross_validated is not None:
            text += f", {report.cross_validated.score:.3f} cross-validated"
        text += "."
    return text


def _against(difference: float) -> str:
    if abs(difference) < 5e-4:
        return "level with"
    return f"{abs(difference):.3f} {'above' if difference > 0 else 'below'}"


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
