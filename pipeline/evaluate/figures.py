"""Scores, differences and settings as text."""

from collections import Counter
from collections.abc import Iterable

from lamella.pipeline.text import printable
from lamella.schemas.report import (
    CrossValidated,
    Gain,
    Interval,
    JointSweep,
    Metric,
    ScoreRow,
    SweepPoint,
)

DECIMALS: dict[Metric, int] = {"N-S": 2, "mAP": 3, "mAP@100": 3}
MOST_DECIMALS = 6

TIES_MATTER = 5e-4
"""Scores by the worst and the best order of ties that are nearer than this print alike."""


def short_score(score: float, metric: Metric) -> str:
    """Return a score as tables print it: 3.94 for N-S, .602 for mAP."""
    text = f"{score:.{DECIMALS[metric]}f}"
    return text if metric == "N-S" else text.removeprefix("0")


LABELS = {"alone": "{} alone", "direct": "direct sum", "mapped": "mapped fusion"}


def label_text(row: ScoreRow) -> str:
    """Return what tables call a ranking: "fc alone", "direct sum" or "mapped fusion"."""
    return LABELS[row.kind].format(printable(row.name))


def measure_texts(row: ScoreRow) -> list[str]:
    """Return what other measures than its own give a ranking: "mP@10 .702"."""
    return [
        f"{printable(name)} {short_score(value, 'mAP')}" for name, value in row.measures.items()
    ]


def interval_text(interval: Interval, metric: Metric) -> str:
    """Return the interval of a score: 3.96 to 3.99."""
    return f"{short_score(interval.low, metric)} to {short_score(interval.high, metric)}"


def difference_text(
    gain: Gain, metric: Metric, flipped: bool = False, decimals: int | None = None
) -> tuple[str, str]:
    """Return a difference and its interval: (".05", "[.03, .07]").

    It has as many decimals as show on which side of zero the ends of the interval lie.

    Args:
        flipped: the other ranking's score less the mapped fusion's.
        decimals: at least so many; those of `short_score` where not given.
    """
    places = DECIMALS[metric] if decimals is None else decimals
    return apart_text(gain.difference, gain.interval, places, flipped)


def apart_text(
    difference: float, interval: Interval, decimals: int, flipped: bool = False
) -> tuple[str, str]:
    """Return a difference and its interval as `difference_text` does, for any measure."""
    low, high = interval.low, interval.high
    nearest = min(abs(low), abs(high))
    while nearest and decimals < MOST_DECIMALS and not round(nearest, decimals):
        decimals += 1
    sides = (-high, -low) if flipped else (low, high)
    ends = ", ".join(signed(side, decimals) for side in sides)
    return signed(-difference if flipped else difference, decimals), f"[{ends}]"


def p_text(p: float | None) -> str:
    """Return a p value in two digits: .034, .21, "< .001"; empty for None."""
    if p is None:
        return ""
    if p < 0.001:
        return "< .001"
    text = f"{p:.2f}" if p >= 0.0995 else f"{p:.3f}"
    return text.removeprefix("0")


def ties_text(row: ScoreRow) -> str:
    """Return the scores that other orders of equal scores give; empty where they hardly differ."""
    if row.highest - row.lowest < TIES_MATTER:
        return ""
    mean = "" if row.expected is None else f", mean {row.expected:.3f}"
    return f"ties: {row.lowest:.3f} to {row.highest:.3f}{mean}"


def setting_text(layers: Iterable[tuple[str, float, float, float]]) -> str:
    """Return what a fusion does to its layers, each (name, t, p, weight): "fc: t 0.2, p 0.45".

    Layers that are only added are left out.
    """
    found = ((name, map_text(t, p, weight)) for name, t, p, weight in layers)
    return "; ".join(f"{printable(name)}: {said}" for name, said in found if said)


def map_text(t: float, p: float, weight: float = 1.0) -> str:
    """Return "t 0.2, p 0.45, weight 2", without a map or a weight that changes nothing."""
    said = [f"t {t:g}, p {p:g}"] if t < 1.0 else []
    return ", ".join(said + ([f"weight {weight:g}"] if weight != 1.0 else []))


def chosen_text(honest: CrossValidated) -> str:
    """Return how often which settings were chosen, the most frequent first.

    >>> point = SweepPoint(t=0.2, p=0.45, score=0.5)
    >>> chosen_text(CrossValidated(score=0.5, chosen=(point, point)))
    'chosen on the other folds of the queries: t 0.2, p 0.45 (2 of 2)'
    """
    counts = Counter(point_text(point) for point in honest.chosen)
    folds = len(honest.chosen)
    listed = "; ".join(f"{text} ({count} of {folds})" for text, count in counts.most_common())
    return f"chosen on the other folds of the queries: {listed}"


def joint_text(joint: JointSweep, metric: Metric) -> str:
    """Return how many settings of all upper layers' maps were tried, and the best of them."""
    left_out = f" ({joint.left_out:,} left out)" if joint.left_out else ""
    return (
        f"best of {joint.points:,} settings{left_out} of all maps at once: "
        f"{short_score(joint.best.score, metric)} at {point_text(joint.best)}, tuned on these "
        "queries"
    )


def point_text(point: SweepPoint) -> str:
    """Return "t 0.2, p 0.45", then the maps of lower layers where they were swept too."""
    maps = [(point.t, point.p), *((lower.t, lower.p) for lower in point.lower)]
    return " then ".join(f"t {t:g}, p {p:g}" for t, p in maps)


def signed_text(value: float, decimals: int) -> str:
    """Return a difference with its sign: +.050, -.050, or .000 where it rounds to zero."""
    text = signed(value, decimals)
    return text if text.startswith("-") or not round(value, decimals) else f"+{text}"


def signed(value: float, decimals: int) -> str:
    """Return .05 or -.05 or 1.20; what rounds to zero has no sign."""
    text = f"{round(value, decimals) + 0.0:.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1.0 else text
