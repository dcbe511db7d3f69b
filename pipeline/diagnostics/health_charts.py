"""The charts of a layer's words: training round by round, use, counts, burstiness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lamella.pipeline.diagnostics.charts import Axis, Chart, Points, spread
from lamella.pipeline.diagnostics.inspect import BURSTY_PICTURES, CorpusUse, LayerHealth

DRAWN = 1_200
"""The most points drawn of a curve or cloud, so that a page stays small."""

NAMED = 3


@dataclass(frozen=True)
class Figure:
    """A chart, its heading, what it shows, and the legend: (class, text)."""

    title: str
    hint: str
    svg: str
    legend: tuple[tuple[str, str], ...] = ()


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
    chart = _by_round(health, spread([y for _, y in trained + held]), "mean squared error")
    legend = [("line one", "rows trained on")]
    if held:
        chart.line(held, "line two").dots(held, "dot two", 3, _said(held, "held out"))
        legend.append(("line two", "rows held out"))
    part = [line.share < 1 for line in lines]
    chart.line(trained, "line one")
    titles = _said(trained, "training")
    for kind, wanted in (("dot one", False), ("dot hollow", True)):
        places = [place for place, is_part in enumerate(part) if is_part == wanted]
        chart.dots([trained[n] for n in places], kind, 3.5, [titles[n] for n in places])
    if any(part):
        legend.append(("ring one", "round over part of the rows"))
    hint = "Mean squared distance of descriptors to their words."
    return Figure("Quantisation error", hint, chart.svg(), tuple(legend))


def _recall(health: LayerHealth) -> Figure:
    points = [(line.round, line.recall) for line in health.rounds]
    least = min(y for _, y in points)
    chart = _by_round(health, (min(0.9, np.floor(20 * least) / 20), 1.005), "recall")
    chart.line(points, "line one").dots(points, "dot one", 3.5, _said(points, "recall"))
    hint = "Share of descriptors whose nearest word the assigner found."
    return Figure("Recall of assignment", hint, chart.svg())


def _moved(health: LayerHealth) -> Figure:
    points = [(line.round, line.changed) for line in health.rounds]
    highest = max(1e-3, max(y for _, y in points)) * 1.05
    chart = _by_round(health, (0.0, highest), "share of words")
    chart.line(points, "line one").dots(points, "dot one", 3.5, _said(points, "moved"))
    return Figure("Words moved", "Share of words that a round moved; 0 in the last.", chart.svg())


def _by_round(health: LayerHealth, ends: tuple[float, float], label: str) -> Chart:
    last = health.rounds[-1].round
    return Chart(
        Axis(-0.4, last + 0.4, "round", whole=True), Axis(*ends, label), f"{label} by round"
    )


def _said(points: Points, what: str) -> list[str]:
    return [f"round {x:g}, {what}: {y:.4f}" for x, y in points]


def _ranked(use: CorpusUse) -> Figure:
    counts = np.sort(use.counts)[::-1]
    counts = counts[counts > 0]
    even = float(use.counts.sum()) / len(use.counts)
    places = np.unique(np.geomspace(1, len(counts), DRAWN).round().astype(int))
    points = [(float(place), float(counts[place - 1])) for place in places]
    words = len(use.counts)
    x = Axis(1, max(words, 2), "words, most used first", log=True)
    y = Axis(max(0.8, counts[-1] * 0.8), float(counts[0]) * 1.25, "descriptors", log=True)
    chart = Chart(x, y, "descriptors of each word by rank")
    chart.line([(1, even), (max(words, 2), even)], "line even").line(points, "line one")
    legend = (("line one", "words"), ("line even", "if all were used alike"))
    hint = "Descriptors of each word in the indexed pictures; both axes in powers of ten."
    return Figure("Use of words", hint, chart.svg(), legend)


def _histogram(use: CorpusUse) -> Figure:
    unused = int(np.count_nonzero(use.counts == 0))
    highest = int(np.floor(np.log2(use.counts.max())))
    powers = np.floor(np.log2(use.counts[use.counts > 0])).astype(int)
    tops = np.bincount(powers, minlength=highest + 1)
    first = int(powers.min())
    bins: list[tuple[str, str, int]] = [
        (f"{2**n:,}", f"{2**n:,} to {2 ** (n + 1) - 1:,} descriptors: {tops[n]:,} words", tops[n])
        for n in range(first, highest + 1)
    ]
    if unused:
        bins.insert(0, ("0", f"no descriptor: {unused:,} words", unused))
    points = [(float(place), float(count)) for place, (_, _, count) in enumerate(bins)]
    x = Axis(-0.6, len(bins) - 0.4, "descriptors of a word, at least")
    y = Axis(0, max(top for _, top in points) * 1.06, "words", whole=True)
    chart = Chart(x, y, "histogram of descriptors of a word")
    chart.bars(points, 0.42, "bar one", [title for _, title, _ in bins])
    each = 2 if len(bins) > 9 else 1
    ticks = [(float(n), text) for n, (text, _, _) in enumerate(bins) if n % each == 0]
    return Figure(
        "How often words are used", "Each bar starts at twice the last.", chart.svg(ticks)
    )


def _bursty(health: LayerHealth) -> Figure:
    use, burstiness = health.use, health.use.burstiness()
    used = np.flatnonzero(use.counts)
    step = max(1, len(used) // DRAWN)
    listed = [line.word for line in health.most_bursty]
    cloud = np.setdiff1d(used[::step], listed)
    ends = (0.93, max(2.0, float(burstiness.max()) * 1.15))
    x = Axis(0.9, max(10.0, float(use.pictures.max()) * 1.1), "pictures with the word", log=True)
    chart = Chart(x, Axis(*ends, "times in each of them", log=True), "burstiness of words")

    def draw(words: Sequence[int], kind: str, radius: float) -> None:
        points = [(float(use.pictures[word]), float(burstiness[word])) for word in words]
        titles = [
            f"word {word}: {use.counts[word]:,} descriptors in {use.pictures[word]:,} pictures"
            for word in words
        ]
        chart.dots(points, kind, radius, titles)

    draw(cloud.tolist(), "cloud", 2.4)
    draw(listed, "dot two", 3.6)
    for word in listed[:NAMED]:
        at = float(use.pictures[word]), float(burstiness[word])
        chart.note(*at, f"word {word}", left=x.place(at[0]) > 0.7)
    return Figure(
        "Burstiness",
        f"Mean count of a word in the pictures that have it: {health.mean_burstiness:.2f} overall.",
        chart.svg(),
        (("spot two", f"most bursty, in {BURSTY_PICTURES} pictures or more"),),
    )
