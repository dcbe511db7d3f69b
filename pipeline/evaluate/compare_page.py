"""A comparison as one self-contained HTML page, with the queries that changed most.

Picture names are untrusted: they are escaped everywhere, and unprintable characters spelled out.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.pipeline.evaluate.compare import Comparison, Counted
from lamella.pipeline.evaluate.compare_text import (
    agreement_lines,
    corpora_text,
    counted_text,
    measure_lines,
    method,
    scored_over,
    story,
)
from lamella.pipeline.page.charts import COLOURS, chart
from lamella.pipeline.page.jpeg import JPEG_START
from lamella.pipeline.page.kit import render
from lamella.pipeline.text import printable

SHOWN_QUERIES = 12
SHOWN_PICTURES = 8

LISTED = 20
"""New, gone and changed pictures that are named, of each kind."""

POINTS = 400
"""Queries in the chart: of more, so many are taken evenly from the sorted ones."""


@dataclass(frozen=True)
class Shown:
    """A picture in a ranking.

    Attributes:
        rank: from 1.
        kind: `new` or `gone` where the other corpus lacks it, `changed` where that has other
            contents, `in` or `out` where it is not among the other's first pictures, `same`
            elsewhere.
        move: that in words: "new", "was 12", "not in the first 100".
        right: whether it is a right answer; None where that is not known.
    """

    name: str
    rank: int
    kind: str
    move: str
    right: bool | None


@dataclass(frozen=True)
class ChangedQuery:
    """A query that changed, and the first pictures of both rankings.

    Attributes:
        change: what it scored in A and B, or how alike the rankings are.
        verdict: gain, loss, or empty without a difference in score.
    """

    name: str
    change: str
    verdict: str
    rankings: tuple[tuple[str, tuple[Shown, ...]], ...]


def changed_queries(
    comparison: Comparison,
    right: Mapping[str, frozenset[str]],
    count: int = SHOWN_QUERIES,
    pictures: int = SHOWN_PICTURES,
) -> list[ChangedQuery]:
    """Return the queries that changed most, with the first pictures of both.

    Args:
        right: the right answers of queries by name, where they are known.
    """
    found = []
    for place in comparison.most_changed(count):
        name = comparison.a.queries[place]
        a, b = comparison.a.ranked[place], comparison.b.ranked[place]
        change, verdict = _change(comparison, place)
        answers = right.get(name)
        found.append(
            ChangedQuery(
                name,
                change,
                verdict,
                (
                    (comparison.a.label, _pictures(comparison, a, b, pictures, answers, old=True)),
                    (comparison.b.label, _pictures(comparison, b, a, pictures, answers, old=False)),
                ),
            )
        )
    return found


def _change(comparison: Comparison, place: int) -> tuple[str, str]:
    biased = f"rank-biased overlap {comparison.agreement.biased[place]:.3f}"
    if comparison.among_both is not None:
        biased += f", {comparison.among_both.biased[place]:.3f} among pictures of both"
    if not comparison.rows:
        return biased, ""
    measure = comparison.rows[0].name
    delta = float(comparison.deltas(measure)[place])
    a, b = (float(each.scores[measure][place]) for each in (comparison.a, comparison.b))
    scores = f"{measure} {a:.3f} in A, {b:.3f} in B; {biased}"
    return scores, "gain" if delta > 0 else "loss" if delta < 0 else ""


def _pictures(
    comparison: Comparison,
    own: Sequence[str],
    other: Sequence[str],
    count: int,
    answers: frozenset[str] | None,
    *,
    old: bool,
) -> tuple[Shown, ...]:
    places = {name: rank for rank, name in enumerate(other, start=1)}
    corpora = comparison.corpora
    apart: dict[str, str] = {}
    if corpora is not None:
        apart = dict.fromkeys(corpora.changed, "changed")
        apart |= dict.fromkeys(corpora.gone, "gone") if old else dict.fromkeys(corpora.new, "new")
    shown = []
    for rank, name in enumerate(own[:count], start=1):
        there = places.get(name)
        if name in apart:
            kind, move = apart[name], apart[name]
        elif there == rank:
            kind, move = "same", ""
        else:
            kind = "same" if there is not None and there <= count else "out" if old else "in"
            moved = f"is {there}" if old else f"was {there}"
            move = moved if there is not None else f"not in the first {len(other)}"
        right = None if answers is None else name in answers
        shown.append(Shown(name, rank, kind, move, right))
    return tuple(shown)


def names_on(queries: Sequence[ChangedQuery]) -> list[str]:
    """Return the names of all pictures of the page, each once."""
    return list(dict.fromkeys(_names(queries)))


def _names(queries: Sequence[ChangedQuery]) -> Iterator[str]:
    for query in queries:
        yield query.name
        for _, pictures in query.rankings:
            yield from (picture.name for picture in pictures)


def render_comparison(
    comparison: Comparison,
    counted: Counted,
    queries: Sequence[ChangedQuery],
    thumbnails: Mapping[str, bytes],
    note: str = "",
) -> str:
    """Return the page.

    Args:
        queries: those that changed most, as `changed_queries` gives them.
        thumbnails: JPEGs by the name of the picture; each is in the page once. A picture without
            one is shown by its name.
        note: why the page has no pictures, if it has none.

    Raises:
        ValueError: a thumbnail is not a JPEG.
    """
    wanted = [name for name in names_on(queries) if name in thumbnails]
    for name in wanted:
        if not thumbnails[name].startswith(JPEG_START):
            raise ValueError(f"thumbnails are JPEG bytes; that of {name!r} is not")
    classes = {name: f"t{place}" for place, name in enumerate(wanted)}
    corpora = comparison.corpora
    return render(
        "lamella.pipeline.evaluate",
        "compare",
        a=comparison.a.label,
        b=comparison.b.label,
        story=story(comparison),
        counted=counted_text(comparison, counted),
        corpora=corpora_text(comparison),
        listed=[]
        if corpora is None
        else [
            (what, len(names), names[:LISTED])
            for what, names in (
                ("new", corpora.new),
                ("gone", corpora.gone),
                ("changed", corpora.changed),
            )
            if names
        ],
        measures=measure_lines(comparison),
        agreement=agreement_lines(comparison),
        both=comparison.among_both is not None,
        method=method(comparison),
        scored_over=scored_over(comparison, counted),
        chart=_chart(comparison),
        chart_says=_chart_says(comparison),
        queries=queries,
        note=note,
        thumbnail_class=classes,
        thumbnail_rules=[
            (classes[name], base64.b64encode(thumbnails[name]).decode()) for name in wanted
        ],
    )


def _chart_says(comparison: Comparison) -> str:
    if comparison.rows:
        measure = printable(comparison.rows[0].name)
        return f"{measure} of each query, B less A, from the greatest gain to the greatest loss"
    return "Rank-biased overlap of each query, from the most alike to the least"


def _chart(comparison: Comparison) -> str:
    """Return the chart of the sorted queries as SVG."""
    if comparison.rows:
        values = np.sort(comparison.deltas(comparison.rows[0].name))[::-1]
        lines = {"": values}
    else:
        lines = {"all pictures": np.sort(comparison.agreement.biased)[::-1]}
        if comparison.among_both is not None:
            lines["in both"] = np.sort(comparison.among_both.biased)[::-1]

    def draw(axes: Any) -> None:
        for colour, (label, values) in zip(("one", "two"), lines.items(), strict=False):
            places = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
            x, y = places + 1, values[places]
            if comparison.rows:
                for name, kept in (("right", y > 0), ("wrong", y < 0)):
                    axes.vlines(x[kept], 0, y[kept], color=COLOURS[name], linewidth=1.5)
                axes.axhline(0, color=COLOURS["soft"], linewidth=1)
            else:
                axes.plot(x, y, color=COLOURS[colour], label=label)
        axes.set_xlabel("queries, sorted")
        axes.set_xlim(0.5, len(comparison.a.queries) + 0.5)
        if not comparison.rows:
            axes.set_ylim(0, 1.02)
            axes.legend()

    return chart(draw, _chart_says(comparison), wide=6.4, high=3.2)
