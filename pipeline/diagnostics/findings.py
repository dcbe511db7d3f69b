"""Describe a vocabulary's health in sentences, by rules with thresholds."""

from dataclasses import dataclass
from typing import Literal

from lamella.pipeline.diagnostics.inspect import LayerHealth

SETTLED = 0.01
"""Training stopped too early if the error fell by more than this share in its last full round."""

GENERAL = 0.15
"""Words overfit the sample if the held-out error is higher by this share."""

FOUND = 0.95
"""The assigner misses the nearest word too often if recall is below this."""

DEAD = 0.02
"""Unused words are mentioned from this share on."""

EVEN = 0.85
"""A few words take most descriptors if evenness is below this."""


@dataclass(frozen=True)
class Finding:
    """One sentence, and whether it reports a problem."""

    kind: Literal["well", "mind"]
    text: str


def findings(health: LayerHealth) -> tuple[Finding, ...]:
    """Return the findings on a layer's words: training, fit, origin, recall, use."""
    return tuple(
        Finding("well" if well else "mind", text)
        for well, text in (
            *_training(health),
            *_fit(health),
            *_origin(health),
            *_recall(health),
            *_dead(health),
            *_evenness(health),
        )
    )


def _training(health: LayerHealth) -> list[tuple[bool, str]]:
    falls = [line.fall for line in health.rounds if line.fall is not None]
    if not falls:
        return []
    if falls[-1] > SETTLED:
        return [
            (
                False,
                f"The error still fell by {falls[-1]:.1%} in the last full round: allow more "
                "rounds (vocabulary.rounds).",
            )
        ]
    return [(True, f"Training settled: the last full round lowered the error by {falls[-1]:.2%}.")]


def _fit(health: LayerHealth) -> list[tuple[bool, str]]:
    if health.held_error is None or not health.rounds:
        return []
    trained = health.rounds[-1].objective
    above = health.held_error / trained - 1 if trained else float(health.held_error > 0)
    side = "above" if above >= 0 else "below"
    rows = (
        f"on {health.held_rows:,} rows that no word was fitted to, the error is {abs(above):.1%} "
    )
    rows += f"{side} that of training"
    if above < GENERAL:
        return [(True, f"The words fit new rows: {rows}.")]
    return [
        (
            False,
            f"The words fit the sample too closely: {rows}. Ask for fewer words, or for more "
            "descriptors of each picture.",
        )
    ]


def _origin(health: LayerHealth) -> list[tuple[bool, str]]:
    return [] if health.fit is None else [(health.fit.well, health.fit.text)]


def _recall(health: LayerHealth) -> list[tuple[bool, str]]:
    if health.recall is None:
        return []
    if health.recall >= FOUND:
        return [(True, f"The nearest word is found for {health.recall:.1%} of descriptors.")]
    return [
        (
            False,
            f"The nearest word is found for only {health.recall:.1%} of descriptors: the assigner "
            "loses matches.",
        )
    ]


def _dead(health: LayerHealth) -> list[tuple[bool, str]]:
    empty, words = health.summary.empty, health.summary.words
    if empty == 0:
        return [(True, "Every word stands in some picture.")]
    text = f"{empty:,} of {words:,} words ({empty / words:.1%}) stand in no picture"
    return [(empty / words < DEAD, f"{text}.")]


def _evenness(health: LayerHealth) -> list[tuple[bool, str]]:
    summary = health.summary
    if summary.rows == 0:
        return []
    text = f"{summary.evenness:.0%} of the greatest entropy; the most used word has "
    text += f"{summary.largest_share:.1%} of the descriptors"
    if summary.evenness >= EVEN:
        return [(True, f"The words are used evenly: {text}.")]
    return [(False, f"A few words take most descriptors: {text}.")]
