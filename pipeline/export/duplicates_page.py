"""The page of near-duplicates: groups as rows of pictures, and how the scores are spread."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.figures import map_text
from lamella.pipeline.export.duplicates import Duplicates, Member
from lamella.pipeline.export.pairs import greatest_score
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.thumbnails import thumbnails
from lamella.pipeline.page.charts import COLOURS, chart, in_powers
from lamella.pipeline.page.kit import render
from lamella.pipeline.text import byte_size, counted

SHOWN = 1_000
"""Pictures of a page at most, some 8 MB of them."""

SHOWN_OF_GROUP = 24
"""Pictures of one group at most."""

BINS = 40


@dataclass(frozen=True)
class ShownGroup:
    """A group on the page: its number, its first pictures, and how many it has."""

    number: int
    members: Sequence[Member]
    size: int
    spare: str
    chained: bool


def shown_groups(found: Duplicates) -> list[ShownGroup]:
    """Return the first groups, as many as a page holds."""
    shown, pictures = [], 0
    for number, group in enumerate(found.groups, start=1):
        first = group[:SHOWN_OF_GROUP]
        pictures += len(first)
        if pictures > SHOWN:
            break
        spare = [member for member in group if not member.keep]
        size = byte_size(sum(member.size_bytes for member in spare))
        said = f"{len(spare):,} could go, {size}"
        chained = len(group) - len(spare) > 1
        shown.append(ShownGroup(number, first, len(group), said, chained))
    return shown


def small_pictures(place: Place, groups: Sequence[ShownGroup]) -> tuple[dict[int, bytes], str]:
    """Return JPEGs by image id, and why there are none, if so; gone pictures are left out."""
    ids = [member.image_id for group in groups for member in group.members]
    try:
        made = {image_id: data for image_id, data in thumbnails(place, ids) if data is not None}
    except InputError as error:
        return {}, f"the page shows no pictures: {error}"
    if ids and not made:
        return {}, (
            "the page shows no pictures: none of them can be read where they were indexed; "
            "--pictures says where they are"
        )
    return made, ""


def render_duplicates(
    found: Duplicates,
    groups: Sequence[ShownGroup],
    pictures: Mapping[int, bytes],
    corpus: str,
    note: str = "",
) -> str:
    """Return the page.

    Args:
        groups: as `shown_groups` gives them.
        pictures: JPEGs by image id; one that lacks is shown by its name.
        note: why the page has no pictures, if it has none.
    """
    counts = found.counts()
    fusion = found.question.fusion
    return render(
        "lamella.pipeline.export",
        "duplicates",
        corpus=corpus,
        story=_story(counts),
        facts=[
            (f"{found.above:g}", f"least score of a pair, of {greatest_score(fusion):g} at most"),
            (f"{counts['pairs']:,}", "pairs"),
            (f"{counts['groups']:,}", "groups"),
            (f"{counts['spare']:,}", "pictures that could go"),
            (byte_size(counts["spare_bytes"]), "they take"),
            (f"{counts['same_files']:,}", "are the same file as another"),
        ],
        layers=[
            f"{entry.layer}: {map_text(entry.t, entry.p, entry.weight) or 'S as it is'}"
            for entry in fusion.layers
        ],
        chart=_chart(found) if counts["pairs"] else "",
        groups=groups,
        more=len(found.groups) - len(groups),
        pictures={key: base64.b64encode(data).decode() for key, data in pictures.items()},
        size=byte_size,
        note=note,
    )


def _story(counts: Mapping[str, Any]) -> str:
    if not counts["groups"]:
        return f"No two of {counted(counts['images'], 'picture')} score {counts['above']:g} or more"
    return (
        f"{counts['in_groups']:,} of {counted(counts['images'], 'picture')} are nearly the same "
        f"as another: {counts['spare']:,} could go"
    )


def _chart(found: Duplicates) -> str:
    """Return how many pairs have each score, as SVG."""
    scores = found.pairs.column("score").to_numpy()
    same = found.pairs.column("same_file").to_numpy()
    most = max(greatest_score(found.question.fusion), float(scores.max()))
    edges = np.linspace(found.above, most, BINS + 1)

    def draw(axes: Any) -> None:
        parts = {"other files": (scores[~same], "one"), "same file": (scores[same], "two")}
        drawn = {label: part for label, part in parts.items() if len(part[0])}
        values, colours = zip(*drawn.values(), strict=True)
        colours = tuple(COLOURS[colour] for colour in colours)
        axes.hist(values, edges, stacked=True, color=colours, label=list(drawn))
        in_powers(axes, "y")
        axes.set_ylim(bottom=0.7)
        axes.set_xlim(found.above, most)
        axes.set_xlabel("score of a pair")
        axes.set_ylabel("pairs")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above all bars

    title = f"Scores of {counted(len(scores), 'pair')}, from {found.above:g} to {most:g}"
    return chart(draw, title, wide=9.2, high=2.6)
