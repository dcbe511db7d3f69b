"""Explain a result: why a picture has its rank for a query, and which visual words both share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.matches import Match
from lamella.pipeline.evaluate.pair import (
    Explanation,
    Neighbour,
    PairLayer,
    RankBy,
    Side,
    mapped_parts,
)
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.jobs.pictures_again import (
    Crop,
    Opening,
    SeenAgain,
    given_again,
    seen_again,
)
from lamella.pipeline.search.placing import Beside, Placed, place_image
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import Features, QueryBatch
from lamella.pipeline.search.shared_words import shared_words
from lamella.pipeline.text import printable
from lamella.schemas.query import FusionSpec, Weighting

if TYPE_CHECKING:
    from lamella.pipeline.extract.given import Given

BESIDE = 2
"""How many pictures above and below the result are named."""


def explain_pair(
    opening: Opening,
    searcher: SegmentSearcher,
    query: "int | Given",
    result: int,
    fusion: FusionSpec,
    weighting: Weighting,
) -> Explanation:
    """Return why an indexed image has its rank for a query.

    Similarities, scores and ranks are those of `query` in the exact mode, to the bit. If the fusion
    has a local layer, both pictures go through the network once more, to find the places of their
    words; one that cannot be read any more, or has changed, is explained without places.

    Args:
        searcher: of all segments, with that weighting.
        query: the id of an indexed image, or a picture from elsewhere.
        result: the id of an indexed image.

    Raises:
        InputError: the query is the result, cannot be read, or an image is not in the snapshot.
    """
    layers = [entry.layer for entry in fusion.layers]
    if query == result:
        raise InputError(
            "a result is explained for the query of another picture; QUERY and RESULT are both "
            f"{printable(_name(opening, result))} (image {result}): name another RESULT"
        )
    if isinstance(query, int):
        both = seen_again(opening, [query, result], layers)
        asked, theirs = both[query], both[result]
        asking = Side(_name(opening, query), query, asked.found, asked.note)
    else:
        asked = given_again(opening, query, layers)
        theirs = seen_again(opening, [result], layers)[result]
        asking = Side(query.name, None, asked.found, asked.note)
    rankings = _rankings(fusion)
    specs = [spec for _, _, spec in rankings]
    placed = place_image(searcher.segments, QueryBatch(asked.layers), specs, result, BESIDE)
    place = placed.ranks[-1]
    return Explanation(
        snapshot=opening.snapshot.root_digest,
        images=opening.snapshot.indexed,
        fusion=fusion,
        weighting=weighting,
        query=asking,
        result=Side(_name(opening, result), result, theirs.found, theirs.note),
        layers=_pair_layers(fusion, placed, asked.layers, theirs.layers),
        ranks=tuple(
            RankBy(kind, layer, rank, score)
            for (kind, layer, _), rank, score in zip(
                rankings, placed.ranks, placed.scores, strict=True
            )
        ),
        above=_neighbours(opening, fusion, placed.above, place - len(placed.above)),
        below=_neighbours(opening, fusion, placed.below, place + 1),
        matches=_matches(layers, asked, theirs, searcher.word_weights()),
    )


def matched_words(
    opening: Opening,
    pairs: Sequence[tuple[int, int]],
    layers: Sequence[str],
    word_weights: Mapping[str, Float64s],
    crops: Mapping[int, Crop] | None = None,
) -> dict[tuple[int, int], tuple[Match, ...]]:
    """Return the words that pairs of indexed images share, by layer, most first.

    Each picture goes through the network once, however many pairs it is in. One that cannot be read
    has no boxes; a pair whose query is cropped and cannot be read is left out.

    Args:
        pairs: (query, result) ids.
        layers: those of a fusion; global ones are passed over.
        word_weights: as `searcher.layer_weights` gives them.
        crops: what the index was asked by, by the id of a query, where that is a part of a picture.

    Raises:
        InputError: an image is not in the snapshot.
    """
    local = [name for name in layers if name in opening.snapshot.vocabularies]
    if not local or not pairs:
        return {}
    crops = crops or {}
    queries = sorted({query for query, _ in pairs})
    whole = sorted({result for _, result in pairs} | (set(queries) - set(crops)))
    seen = seen_again(opening, whole, local)
    asked = {query: seen[query] for query in queries if query not in crops}
    if parts := [query for query in queries if query in crops]:
        asked |= seen_again(opening, parts, local, crops)
    return {
        (query, result): _matches(local, asked[query], seen[result], word_weights)
        for query, result in pairs
        if query in asked
    }


def _name(opening: Opening, image_id: int) -> str:
    name: str = opening.images.names_of([image_id]).to_pylist()[0]
    return name


Ranking = tuple[Literal["alone", "direct", "mapped"], str, FusionSpec]
"""Its kind, the layer that ranks alone, and what it fuses."""


def _rankings(fusion: FusionSpec) -> list[Ranking]:
    """Return each layer alone, their plain sum if there are several, and the fusion."""
    rankings: list[Ranking] = [
        ("alone", entry.layer, fusion.alone(entry.layer)) for entry in fusion.layers
    ]
    if len(fusion.layers) > 1:
        rankings.append(("direct", "", fusion.direct()))
    return [*rankings, ("mapped", "", fusion)]


def _pair_layers(
    fusion: FusionSpec,
    placed: Placed,
    asked: Mapping[str, Features],
    theirs: Mapping[str, Features],
) -> tuple[PairLayer, ...]:
    found = []
    for number, entry in enumerate(fusion.layers):
        similarity = placed.similarities[number : number + 1]
        mapped, part = mapped_parts(similarity, entry)
        mine, other = _words(asked[entry.layer]), _words(theirs[entry.layer])
        found.append(
            PairLayer(
                layer=entry.layer,
                kind="global" if mine is None or other is None else "local",
                t=entry.t,
                p=entry.p,
                weight=entry.weight,
                similarity=float(similarity[0]),
                mapped=float(mapped[0]),
                part=float(part[0]),
                rank=placed.ranks[number],
                shared=0 if mine is None or other is None else len(mine & other),
                query_words=len(mine or ()),
                result_words=len(other or ()),
            )
        )
    return tuple(found)


def _words(features: Features) -> set[int] | None:
    """Return the words of a picture, None in a layer that has none."""
    if isinstance(features, Residuals):
        features = features.bags
    return set(features.words.tolist()) if isinstance(features, BagsOfWords) else None


def _matches(
    layers: Sequence[str], asked: SeenAgain, theirs: SeenAgain, weights: Mapping[str, Float64s]
) -> tuple[Match, ...]:
    """Return what adds to S of each local layer, most first, the lower word among equals."""
    found: list[Match] = []
    for layer in layers:
        mine, other = asked.layers[layer], theirs.layers[layer]
        if isinstance(mine, np.ndarray) or isinstance(other, np.ndarray):
            continue
        words, parts = shared_words(mine, other, weights[layer])
        for place in np.lexsort((words, -parts)).tolist():
            if parts[place] > 0.0:
                word, weight = int(words[place]), float(parts[place])
                boxes = asked.boxes(layer, word), theirs.boxes(layer, word)
                found.append(Match(layer, word, weight, *boxes))
    return tuple(found)


def _neighbours(
    opening: Opening, fusion: FusionSpec, beside: Beside, first: int
) -> tuple[Neighbour, ...]:
    """Return the pictures beside the result; the first has the rank `first`."""
    names = opening.images.names_of(beside.image_ids).to_pylist()
    rows = zip(beside.similarities, fusion.layers, strict=True)
    parts = np.stack([mapped_parts(values, entry)[1] for values, entry in rows])
    return tuple(
        Neighbour(
            rank=first + place,
            image_id=int(beside.image_ids[place]),
            name=name,
            score=float(beside.scores[place]),
            similarities=tuple(beside.similarities[:, place].tolist()),
            parts=tuple(parts[:, place].tolist()),
        )
        for place, name in enumerate(names)
    )
