"""What explains the rank of one picture for one query: similarities, maps, ranks, shared words."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.evaluate.figures import LABELS
from lamella.pipeline.evaluate.matches import Match
from lamella.pipeline.search.fuse import map_similarity
from lamella.schemas.query import FusionSpec, LayerMap, Weighting

Found = Literal["same", "others", "not read"]


@dataclass(frozen=True)
class PairLayer:
    """A layer of the fusion, for one pair.

    Attributes:
        layer, kind: its name; global, or local with words.
        t, p, weight: its map, and its weight in the sum.
        similarity, mapped, part: S, f(S) and w f(S); the parts add up to the score.
        rank: that of the result by this layer alone.
        shared: how many words both have; 0 in a global layer.
        query_words, result_words: how many words each has.
    """

    layer: str
    kind: Literal["global", "local"]
    t: float
    p: float
    weight: float
    similarity: float
    mapped: float
    part: float
    rank: int
    shared: int = 0
    query_words: int = 0
    result_words: int = 0

    @property
    def maps(self) -> bool:
        """Whether f changes any S."""
        return self.t < 1.0 and self.p < 1.0


@dataclass(frozen=True)
class RankBy:
    """The result in one ranking of the whole index: by a layer alone, the plain sum, the fusion.

    Attributes:
        layer: the one that ranks alone; "" for the others.
    """

    kind: Literal["alone", "direct", "mapped"]
    layer: str
    rank: int
    score: float

    @property
    def label(self) -> str:
        """What tables call the ranking."""
        return LABELS[self.kind].format(self.layer)


@dataclass(frozen=True)
class Neighbour:
    """An image beside the result under the mapped fusion.

    Attributes:
        similarities, parts: S and w f(S) of each layer, in the order of the fusion.
    """

    rank: int
    image_id: int
    name: str
    score: float
    similarities: tuple[float, ...]
    parts: tuple[float, ...]


@dataclass(frozen=True)
class Side:
    """One picture of the pair.

    Attributes:
        name: not to be trusted.
        image_id: None for a picture from elsewhere.
        found: whether the words that the picture gives now are the same as those in the index,
            others, or the picture was not read; a picture from elsewhere has the same ones.
        note: what to say of it, if it gave other words or was not read.
    """

    name: str
    image_id: int | None
    found: Found
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why a result has its rank for a query; floats are those of a query, to the bit.

    Attributes:
        snapshot, images: the root digest, and how many images are ranked.
        fusion, weighting: how they are ranked.
        query, result: the two pictures.
        layers: from high to low.
        ranks: by each layer alone, by the direct sum of several, by the mapped fusion last.
        above, below: beside the result under the mapped fusion, best first.
        matches: words that add to S of a local layer, by layer, most first.
    """

    snapshot: str
    images: int
    fusion: FusionSpec
    weighting: Weighting
    query: Side
    result: Side
    layers: tuple[PairLayer, ...]
    ranks: tuple[RankBy, ...]
    above: tuple[Neighbour, ...]
    below: tuple[Neighbour, ...]
    matches: tuple[Match, ...]

    @property
    def rank(self) -> int:
        """The rank under the mapped fusion."""
        return self.ranks[-1].rank

    @property
    def score(self) -> float:
        """F, the score under the mapped fusion."""
        return self.ranks[-1].score

    @property
    def local_layers(self) -> tuple[PairLayer, ...]:
        """The layers that have words."""
        return tuple(each for each in self.layers if each.kind == "local")

    def matches_of(self, layer: str) -> tuple[Match, ...]:
        """Return the words of a layer that add to its S, most first."""
        return tuple(match for match in self.matches if match.layer == layer)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        value = asdict(self)
        return value | {
            "rank": self.rank,
            "score": self.score,
            "fusion": self.fusion.model_dump(mode="json"),
            "moves": list(moves(self)),
        }


def mapped_parts(similarities: Float64s, entry: LayerMap) -> tuple[Float64s, Float64s]:
    """Return f(S) and w f(S) of similarities (n,) in a layer, as `fuse` adds them."""
    mapped = map_similarity(similarities, entry.t, entry.p)
    return mapped, entry.weight * mapped


def needed_similarity(mapped: float, t: float, p: float) -> float | None:
    """Return the S above which f(S) is above a value, None where no S up to 1 will do.

    The inverse of f (Yu et al. 2017, equation 3): S = t + (1 - t) ((f - t) / (1 - t)) ** (1 / p)
    above t, and S = f below.
    """
    if mapped >= 1.0:
        return None
    if mapped <= t or t >= 1.0 or p >= 1.0:
        return max(mapped, 0.0)
    if p <= 0.0:
        return t
    return float(t + (1.0 - t) * ((mapped - t) / (1.0 - t)) ** (1.0 / p))


def moves(explanation: Explanation) -> tuple[str, ...]:
    """Return what holds the result where it is, and what would move it up, as sentences."""
    said = [_threshold(layer) for layer in explanation.layers if layer.maps]
    if not explanation.above:
        return (*said, "No picture is above it.")
    ahead = explanation.above[-1]
    if explanation.rank == 2 and ahead.image_id == explanation.query.image_id:
        return (*said, "Only the query itself is above it.")
    gap = ahead.score - explanation.score
    if gap <= 0.0:
        tie = "The picture above has the same score; ties are in the order of image ids."
        return (*said, tie)
    said.append(f"Rank {ahead.rank} is {gap:.4f} ahead: {_difference(explanation, ahead)}.")
    ways, never = [], []
    for layer in explanation.layers:
        wanted = needed_similarity((layer.part + gap) / layer.weight, layer.t, layer.p)
        if wanted is None:
            never.append(layer.layer)
        else:
            ways.append(f"S of {layer.layer} above {wanted:.4f} (it is {layer.similarity:.4f})")
    if ways:
        said.append(f"To pass it, it would need {', or '.join(ways)}, all else being equal.")
    if never:
        said.append(f"No S of {' or '.join(never)} alone would do.")
    return tuple(said)


def _threshold(layer: PairLayer) -> str:
    if layer.similarity > layer.t:
        return (
            f"S of {layer.layer} is above t = {layer.t:g}: the map lifts it by "
            f"{layer.mapped - layer.similarity:.4f}."
        )
    return (
        f"S of {layer.layer} is not above t = {layer.t:g} ({layer.t - layer.similarity:.4f} "
        "short): the map leaves it as it is, and lifts what is above."
    )


def _difference(explanation: Explanation, other: Neighbour) -> str:
    parts = [
        f"{round(theirs - layer.part, 4) + 0.0:+.4f} by {layer.layer}"
        for layer, theirs in zip(explanation.layers, other.parts, strict=True)
    ]
    return ", ".join(parts)
