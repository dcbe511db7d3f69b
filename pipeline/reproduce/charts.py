"""The charts of Fig. 3: the curves of f, and the map over t and p of each data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lamella.pipeline.evaluate.figures import short_score
from lamella.pipeline.evaluate.grid import SWEPT_P, SWEPT_T
from lamella.pipeline.page.charts import COLOURS, MAP, chart
from lamella.pipeline.search.fuse import map_similarity
from lamella.pipeline.text import printable
from lamella.schemas.report import Metric

PUBLISHED = (0.2, 0.45)
"""(t, p) of the paper."""

CURVES = ((0.1, "soft"), (0.45, "one"), (0.8, "two"))
"""Powers of the curves, and their colours."""


def curves() -> str:
    """Return f(S) at the paper's t for some powers, beside the identity."""
    t = PUBLISHED[0]
    similarity = np.linspace(0.0, 1.0, 401)

    def draw(axes: Any) -> None:
        axes.plot(similarity, similarity, color=COLOURS["bar"], linewidth=1.2, label="f(S) = S")
        for p, colour in CURVES:
            axes.plot(
                similarity,
                map_similarity(similarity, t, p),
                color=COLOURS[colour],
                label=f"p = {p:g}",
            )
        axes.axvline(t, color=COLOURS["soft"], linewidth=1, linestyle=":")
        axes.annotate(f"t = {t:g}", (t, 0.02), xytext=(4, 0), textcoords="offset points")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("similarity S")
        axes.set_ylabel("mapped f(S)")
        axes.legend(loc="lower right")

    return chart(draw, f"The map f at t = {t:g} for powers of .1, .45 and .8, and the identity")


def heat(scores: Sequence[float], metric: Metric, title: str) -> str:
    """Return the scores of a pair's grid over t (across) and p (up), best and published marked.

    Args:
        scores: in the order of `rankings.GRID`, t first.
    """
    table = np.array(scores).reshape(len(SWEPT_T), len(SWEPT_P)).T
    best = np.unravel_index(int(np.argmax(np.array(scores))), (len(SWEPT_T), len(SWEPT_P)))
    span = float(np.ptp(table)) or 1.0

    def draw(axes: Any) -> None:
        axes.pcolormesh(table, cmap=MAP, edgecolors="none")
        for (row, column), value in np.ndenumerate(table):
            light = (value - table.min()) / span > 0.55
            axes.text(
                column + 0.5,
                row + 0.5,
                short_score(float(value), metric),
                ha="center",
                va="center",
                fontsize=8,
                color="#111111" if light else "#ffffff",
            )
        _mark(axes, SWEPT_T.index(PUBLISHED[0]), SWEPT_P.index(PUBLISHED[1]), "●")
        _mark(axes, int(best[0]), int(best[1]), "★")
        axes.set_xticks(np.arange(len(SWEPT_T)) + 0.5, [f"{t:g}" for t in SWEPT_T])
        axes.set_yticks(np.arange(len(SWEPT_P)) + 0.5, [f"{p:g}" for p in SWEPT_P])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_xlabel("t")
        axes.set_ylabel("p")

    return chart(draw, f"{printable(title)}: {metric} over t and p")


def _mark(axes: Any, column: int, row: int, sign: str) -> None:
    """Frame a cell, and put a sign in its upper corner."""
    from_left, from_below = column + 0.04, row + 0.04
    axes.plot(
        [from_left, column + 0.96, column + 0.96, from_left, from_left],
        [from_below, from_below, row + 0.96, row + 0.96, from_below],
        color=COLOURS["two"],
        linewidth=1.6,
    )
    top = row + (0.86 if sign == "★" else 0.16)
    axes.text(column + 0.86, top, sign, ha="center", va="center", fontsize=8, color="#7a1f00")
