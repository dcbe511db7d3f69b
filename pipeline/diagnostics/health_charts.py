"""The charts of a layer's words: training round by round, use, counts, burstiness."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.pipeline.diagnostics.inspect import BURSTY_PICTURES, CorpusUse, LayerHealth
from lamella.pipeline.page.charts import COLOURS, chart, in_powers

DRAWN = 1_200
"""The most points drawn of a curve or cloud, so that a page stays small."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Figure:
    """A chart, its heading, and what it shows."""

    title: str
    hint: str
    svg: str


def figures(health: LayerHealth) -> tuple[Figure, ...]:
    """Return the charts for which there is data."""
    drawn = [_error(health), _moved(health), _recall(health)] if health.rounds else []
    if health.use.counts.sum():
        drawn += [_ranked(health.use), _histogram(health.use), _bursty(health)]
    return tuple(drawn)


def _error(health: LayerHealth) -> Figure:
    lines = health.rounds
    trained = [(line.round, line.objective) for line in lines]
    held = [(line.round, line.held_error) for line in lines if line.held_error is not None]
    if held and health.held_error is not None and held[-1][0] < lines[-1].round:
        held.append((lines[-1].round, health.held_error))
    part = [point for point, line in zip(trained, lines, strict=True) if line.share < 1]

    def draw(axes: Any) -> None:
        _line(axes, trained, "one", "rows trained on")
        if part:
            hollow = {"color": COLOURS["card"], "edgecolor": COLOURS["one"], "zorder": 3}
            axes.scatter(*zip(*part, strict=True), s=26, label="over part of the rows", **hollow)
        if held:
            _line(axes, held, "two", "rows held out")
        axes.legend()
        _by_round(axes, "mean squared error")

    hint = "Mean squared distance of descriptors to their words."
    return Figure("Quantisation error", hint, chart(draw, "quantisation error by round"))


def _recall(health: LayerHealth) -> Figure:
    points = [(line.round, line.recall) for line in health.rounds]
    least = min(y for _, y in points)

    def draw(axes: Any) -> None:
        _line(axes, points, "one")
        axes.set_ylim(min(0.9, np.floor(20 * least) / 20), 1.005)
        _by_round(axes, "recall")

    hint = "Share of descriptors whose nearest word the assigner found."
    return Figure("Recall of assignment", hint, chart(draw, "recall of assignment by round"))


def _moved(health: LayerHealth) -> Figure:
    points = [(line.round, line.changed) for line in health.rounds]

    def draw(axes: Any) -> None:
        _line(axes, points, "one")
        axes.set_ylim(bottom=0.0)
        _by_round(axes, "share of words")

    hint = "Share of words that a round moved; 0 in the last."
    return Figure("Words moved", hint, chart(draw, "share of words moved by round"))


def _line(axes: Any, points: Points, colour: str, label: str | None = None) -> None:
    axes.plot(*zip(*points, strict=True), marker="o", ms=4.5, color=COLOURS[colour], label=label)


def _by_round(axes: Any, label: str) -> None:
    axes.set(xlabel="round", ylabel=label)
    axes.locator_params(axis="x", integer=True)


def _ranked(use: CorpusUse) -> Figure:
    counts = np.sort(use.counts)[::-1]
    counts = counts[counts > 0]
    even = float(use.counts.sum()) / len(use.counts)
    places = np.unique(np.geomspace(1, len(counts), DRAWN).round().astype(int))

    def draw(axes: Any) -> None:
        axes.axhline(even, color=COLOURS["soft"], lw=1.4, ls=(0, (5, 5)), label="if used alike")
        axes.plot(places, counts[places - 1], color=COLOURS["one"], label="words")
        in_powers(axes, "x", "y")
        axes.set(xlabel="words, most used first", ylabel="descriptors")
        axes.legend()

    hint = "Descriptors of each word in the indexed pictures; both axes in powers of ten."
    return Figure("Use of words", hint, chart(draw, "descriptors of each word by rank"))


def _histogram(use: CorpusUse) -> Figure:
    unused = int(np.count_nonzero(use.counts == 0))
    powers = np.floor(np.log2(use.counts[use.counts > 0])).astype(int)
    first, last = int(powers.min()), int(powers.max())
    tops = np.bincount(powers, minlength=last + 1)[first:].tolist()
    starts = [f"{2**power:,}" for power in range(first, last + 1)]
    if unused:
        tops, starts = [unused, *tops], ["0", *starts]

    def draw(axes: Any) -> None:
        axes.bar(range(len(tops)), tops, width=0.84, color=COLOURS["one"])
        step = 2 if len(tops) > 9 else 1
        axes.set_xticks(range(0, len(tops), step), starts[::step])
        axes.set(xlabel="descriptors of a word, at least", ylabel="words")
        axes.grid(visible=False, axis="x")

    hint = "Each bar starts at twice the last."
    return Figure("How often words are used", hint, chart(draw, "histogram of the use of words"))


def _bursty(health: LayerHealth) -> Figure:
    use, burstiness = health.use, health.use.burstiness()
    used = np.flatnonzero(use.counts)
    listed = [line.word for line in health.most_bursty]
    cloud = np.setdiff1d(used[:: max(1, len(used) // DRAWN)], listed)
    most = f"most bursty, in {BURSTY_PICTURES} pictures or more"

    def draw(axes: Any) -> None:
        for words, colour, size, label in ((cloud, "one", 7, None), (listed, "two", 18, most)):
            places = use.pictures[words], burstiness[words]
            axes.scatter(*places, s=size, color=COLOURS[colour], alpha=0.55, label=label)
        in_powers(axes, "x", "y")
        axes.set(xlabel="pictures with the word", ylabel="times in each of them")
        axes.set_ylim(0.93, 2 * burstiness.max())
        if listed:
            at = use.pictures[listed[0]], burstiness[listed[0]]
            axes.annotate(f"word {listed[0]}", at, (0, 6), textcoords="offset points", ha="center")
            axes.legend(loc="lower left")

    hint = (
        f"Mean count of a word in the pictures that have it: {health.mean_burstiness:.2f} overall."
    )
    return Figure("Burstiness", hint, chart(draw, "burstiness of words"))
