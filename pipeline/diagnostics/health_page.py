"""The health of visual words as one self-contained HTML page.

Picture names are untrusted: they are escaped everywhere, unprintable characters are spelled out,
and the page's policy forbids all scripts.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lamella.pipeline.diagnostics.findings import Finding, findings
from lamella.pipeline.diagnostics.health_charts import Figure, figures
from lamella.pipeline.diagnostics.inspect import (
    SAMPLE_FREED,
    LayerHealth,
    WordLine,
    word_lines,
)
from lamella.pipeline.diagnostics.patches import PATCH_STRIDES, Seen, WordPatches, word_patches
from lamella.pipeline.page.jpeg import JPEG_START
from lamella.pipeline.page.kit import render as page
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.text import printable
from lamella.schemas.snapshot import IndexSnapshot

DRAWN_SEED = 0
"""Seed of the words drawn beside the most used ones."""


@dataclass(frozen=True)
class Excited:
    """Words under one heading, and the patches that excite them."""

    heading: str
    words: Sequence[int]
    seen: Seen

    @property
    def unreadable(self) -> int:
        """How many pictures could not be read, over all words."""
        return sum(word.unreadable for word in self.seen.words)


@dataclass(frozen=True)
class PatchRow:
    """A word, and its patches as (style class, caption)."""

    line: WordLine
    patches: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LayerView:
    """A layer on the page."""

    health: LayerHealth
    story: str
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    groups: tuple[tuple[str, tuple[PatchRow, ...]], ...]
    caption: str


def render(snapshot: IndexSnapshot, layers: Sequence[tuple[LayerHealth, Sequence[Excited]]]) -> str:
    """Return the page.

    Args:
        snapshot: whose words they are.
        layers: their health, and the patches of some words, if any.

    Raises:
        ValueError: a patch is not a JPEG.
    """
    return page(
        "lamella.pipeline.diagnostics",
        "health",
        snapshot=snapshot,
        views=[_view(place, *layer) for place, layer in enumerate(layers)],
        patch_rules=list(_rules(layers)),
    )


def _view(place: int, health: LayerHealth, excited: Sequence[Excited]) -> LayerView:
    groups = tuple(
        (each.heading, tuple(_rows(place, number, health, each)))
        for number, each in enumerate(excited)
        if any(word.patches for word in each.seen.words)
    )
    return LayerView(
        health=health,
        story=story(health),
        findings=findings(health),
        figures=figures(health),
        groups=groups,
        caption=caption(excited, freed=health.sample_freed),
    )


def excited_words(
    store: Store,
    snapshot: IndexSnapshot,
    health: LayerHealth,
    most: int,
    *,
    pictures: str | None = None,
    on_progress: OnProgress = quiet,
) -> tuple[Excited, ...]:
    """Return the patches of a layer's most used words, and of as many other words, drawn at random.

    Raises:
        InputError: the pictures may not be read, as `picture_root`.
    """
    used = health.use.most_used(most)
    drawn = health.use.drawn(most, DRAWN_SEED, but=used)
    seen = word_patches(
        store, snapshot, health.layer, used + drawn, pictures=pictures, on_progress=on_progress
    )
    return tuple(
        Excited(heading, words, replace(seen, words=seen.of(words)))
        for heading, words in (("The most used words", used), ("Words drawn at random", drawn))
    )


def story(health: LayerHealth) -> str:
    """Return the one sentence: how many words, and how the pictures use them."""
    summary, use = health.summary, health.use
    vocabulary = health.vocabulary
    short = (
        f" (of {vocabulary.words_requested:,} asked for)"
        if vocabulary.words < vocabulary.words_requested
        else ""
    )
    return (
        f"{vocabulary.words:,} words{short} of {printable(health.layer)} describe "
        f"{use.images:,} pictures by {summary.rows:,} descriptors, at "
        f"{summary.evenness:.0%} of the greatest entropy."
    )


def caption(excited: Sequence[Excited], *, freed: bool = False) -> str:
    """Return the caption of the patches: where they come from, and what was left out.

    Args:
        freed: whether there is no sample because `gc --intermediate` freed it.
    """
    if freed:
        return f"There are no patches: {SAMPLE_FREED}."
    if not any(each.seen.rows for each in excited):
        return "There are no patches: the words name no sample that they were trained on."
    seen = next(each.seen for each in excited if each.seen.rows)
    looked = (
        f"the {seen.rows:,} descriptors"
        if seen.looked_at == seen.rows
        else f"{seen.looked_at:,} of the {seen.rows:,} descriptors"
    )
    text = (
        f"Each row: the descriptors nearest to a word, among those whose nearest word it is, of "
        f"{looked} that the words were trained on; at most one a picture. A patch is "
        f"{PATCH_STRIDES} x {PATCH_STRIDES} strides of the layer's grid around the descriptor's "
        f"place, an estimate of what it sees, moved inside at the picture's edge."
    )
    gone = sum(each.unreadable for each in excited)
    if gone:
        text += f" {gone:,} patches are left out: their pictures can no longer be read."
    return text


def _rows(place: int, number: int, health: LayerHealth, excited: Excited) -> Iterator[PatchRow]:
    by_word: Mapping[int, WordPatches] = {word.word: word for word in excited.seen.words}
    for line in word_lines(health.use, excited.words):
        word = by_word[line.word]
        yield PatchRow(
            line,
            tuple(
                (_class(place, number, line.word, n), printable(patch.name))
                for n, patch in enumerate(word.patches)
            ),
        )


def _class(layer: int, group: int, word: int, place: int) -> str:
    return f"p{layer}-{group}-{word}-{place}"


def _rules(
    layers: Sequence[tuple[LayerHealth, Sequence[Excited]]],
) -> Iterator[tuple[str, str]]:
    """Yield (class, base64 of the JPEG) for every patch."""
    for layer, (_, excited) in enumerate(layers):
        for group, each in enumerate(excited):
            for word in each.seen.words:
                for place, patch in enumerate(word.patches):
                    if not patch.jpeg.startswith(JPEG_START):
                        raise ValueError(f"patches are JPEG bytes; one of {word.word} is not")
                    data = base64.b64encode(patch.jpeg).decode()
                    yield _class(layer, group, word.word, place), data
