"""What two pictures have in common in a local layer: a visual word, what it adds, where it is."""

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""x and y of its upper left corner, width and height, as shares of the picture as it is shown."""


@dataclass(frozen=True)
class Match:
    """A visual word that a query and a result share.

    Attributes:
        layer: whose word it is.
        word: its number in the vocabulary of the layer.
        weight: what it adds to S of the layer; over all shared words that adds up to S.
        query_boxes: what the word's descriptors see of the query, upright; empty where that is not
            known, as the picture is gone or has changed.
        result_boxes: the same of the result.
    """

    layer: str
    word: int
    weight: float
    query_boxes: tuple[Box, ...] = ()
    result_boxes: tuple[Box, ...] = ()
