"""Why a result has its rank, as one self-contained HTML page: both pictures with shared words.

Names of pictures are untrusted: the template escapes them, and `printable` spells them out.
"""

import base64
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.pipeline.evaluate.figures import map_text
from lamella.pipeline.evaluate.matches import Box
from lamella.pipeline.evaluate.pair import Explanation, PairLayer, Side, moves
from lamella.pipeline.page import kit
from lamella.pipeline.page.charts import COLOURS, chart
from lamella.pipeline.search.fuse import map_similarity
from lamella.pipeline.search.located import rectangles

COLOURED = 8
"""Words of a layer that have a number and a colour of their own, and are drawn at first."""

LISTED = 30
"""Words of a layer in the list."""

SHOWN_EDGE = 1_000
"""The longer edge of a picture on the page, in pixels, where it has so many."""


@dataclass(frozen=True)
class Shown:
    """A picture for the page: a JPEG, and its size in pixels."""

    jpeg: bytes
    width: int
    height: int

    @property
    def base64(self) -> str:
        """The JPEG as text."""
        return base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Drawn:
    """A box over a picture, in percent of it.

    Attributes:
        word: the place of its word in the list.
        first: whether it is drawn while no word is chosen: no weightier word has its place.
        number: the number to write into it, if any.
    """

    word: int
    x: float
    y: float
    width: float
    height: float
    first: bool
    number: int | None


@dataclass(frozen=True)
class WordLine:
    """A word in the list: its number, what it adds, and how long its bar is, in percent."""

    word: int
    weight: float
    bar: float


@dataclass(frozen=True)
class LayerWords:
    """The words of a local layer, as the page has them."""

    layer: PairLayer
    lines: tuple[WordLine, ...]
    rest: int
    rest_weight: float
    query: tuple[Drawn, ...]
    result: tuple[Drawn, ...]


def render(explanation: Explanation, query: Shown | None, result: Shown | None) -> str:
    """Return the page.

    Args:
        query, result: the pictures; None where one is gone.
    """
    return kit.render(
        "lamella.pipeline.evaluate",
        "pair",
        it=explanation,
        sides=(("query", explanation.query, query), ("result", explanation.result, result)),
        words=[layer_words(explanation, layer) for layer in explanation.local_layers],
        moves=moves(explanation),
        map_chart=map_chart(explanation.layers),
        map_text=map_text,
        notes=[note for side in (explanation.query, explanation.result) if (note := _note(side))],
        coloured=COLOURED,
    )


def _note(side: Side) -> str:
    return f"{side.name}: {side.note}" if side.note else ""


def layer_words(explanation: Explanation, layer: PairLayer) -> LayerWords:
    """Return the words of a local layer for the page."""
    matches = explanation.matches_of(layer.layer)
    listed, rest = matches[:LISTED], matches[LISTED:]
    most = max((match.weight for match in listed), default=1.0)
    return LayerWords(
        layer=layer,
        lines=tuple(
            WordLine(match.word, match.weight, 100 * match.weight / most) for match in listed
        ),
        rest=len(rest),
        rest_weight=sum(match.weight for match in rest),
        query=drawn([match.query_boxes for match in listed]),
        result=drawn([match.result_boxes for match in listed]),
    )


def drawn(boxes: Sequence[Sequence[Box]]) -> tuple[Drawn, ...]:
    """Return the boxes of words, weightiest first, over one picture.

    Several words may have one place. At first a place is drawn for the weightiest of the first
    `COLOURED` words that has it; the boxes of a word that is chosen are all its own.
    """
    found = [
        Drawn(word, *_percent(box), first=False, number=None)
        for word, own in enumerate(boxes)
        for box in own
    ]
    for word, own in enumerate(_parted(boxes[:COLOURED])):
        largest = max(own, key=lambda box: box[2] * box[3], default=None)
        for box in own:
            number = word + 1 if box == largest else None
            found.append(Drawn(word, *_percent(box), first=True, number=number))
    return tuple(found)


def _parted(boxes: Sequence[Sequence[Box]]) -> list[list[Box]]:
    """Return boxes in which each place of the picture has the first word that has it."""
    # Edges of one cell of a grid may differ in their last bits between words.
    every = [box for own in boxes for box in own]
    across = sorted({round(edge, 6) for x, _, width, _ in every for edge in (x, x + width)})
    down = sorted({round(edge, 6) for _, y, _, height in every for edge in (y, y + height)})
    taken: set[tuple[int, int]] = set()
    parted: list[list[Box]] = []
    for own in boxes:
        cells = set()
        for x, y, width, height in own:
            rows = range(down.index(round(y, 6)), down.index(round(y + height, 6)))
            columns = range(across.index(round(x, 6)), across.index(round(x + width, 6)))
            cells |= set(itertools.product(rows, columns))
        parted.append(
            [
                (
                    across[first],
                    down[top],
                    across[last + 1] - across[first],
                    down[bottom + 1] - down[top],
                )
                for top, bottom, first, last in rectangles(cells - taken)
            ]
        )
        taken |= cells
    return parted


def _percent(box: Box) -> tuple[float, float, float, float]:
    x, y, width, height = (round(100 * each, 3) for each in box)
    return x, y, width, height


def map_chart(layers: Sequence[PairLayer]) -> str:
    """Return the map f of each layer, with the pair's point on it, as SVG."""

    def draw(axes: Any) -> None:
        similarity = np.linspace(0.0, 1.0, 401)
        axes.plot([0, 1], [0, 1], color=COLOURS["bar"], linewidth=1.2, linestyle="--")
        for name, layer in zip(itertools.cycle(("one", "two", "three")), layers, strict=False):
            mapped = map_similarity(similarity, layer.t, layer.p)
            if layer.maps:
                axes.plot(similarity, mapped, color=COLOURS[name])
            label = f"{layer.layer}: S {layer.similarity:.3f}, f {layer.mapped:.3f}"
            axes.plot(
                [layer.similarity],
                [layer.mapped],
                "o",
                markersize=8,
                color=COLOURS[name],
                markeredgecolor=COLOURS["card"],
                label=label,
            )
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="similarity S", ylabel="mapped f(S)")
        axes.legend(loc="lower right")

    said = ", ".join(
        f"{each.layer} from {each.similarity:.3f} to {each.mapped:.3f}" for each in layers
    )
    return chart(draw, f"The map f of each layer with this pair on it: {said}", wide=5.4, high=3.6)
