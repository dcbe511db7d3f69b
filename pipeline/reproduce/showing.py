"""The pictures of Figs. 1 and 2: patches that excite words, and a query under each layer."""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.diagnostics.inspect import corpus_use, kept_of, local_layers
from lamella.pipeline.diagnostics.patches import word_patches
from lamella.pipeline.evaluate.metrics import first_by_score
from lamella.pipeline.evaluate.sweep import plan_sweep
from lamella.pipeline.evaluate.truth import GroundTruth, score_query
from lamella.pipeline.jobs.evaluating import query_features
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.thumbnails import thumbnails
from lamella.pipeline.reproduce.rankings import Fused
from lamella.pipeline.reproduce.scoring import Scores
from lamella.pipeline.run.drive import OnProgress
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.store.protocol import Store
from lamella.schemas.reproduced import ShownQuery, ShownRanking, ShownWord
from lamella.schemas.snapshot import IndexSnapshot

SHOWN_PICTURES = 8
SHOWN_WORDS, SHOWN_PATCHES = 4, 6

DRAWN_SEED = 0
"""Seed of the words that are shown."""


def rows_trained_on(store: Store, snapshot: IndexSnapshot) -> dict[str, int]:
    """Return how many descriptors each layer's words were trained on, where the sample is there."""
    found = {}
    for layer, vocabulary in snapshot.vocabularies.items():
        if rows := sum(file.rows for file in kept_of(store, vocabulary).sample):
            found[layer] = rows
    return found


def shown_words(
    store: Store, snapshot: IndexSnapshot, pictures: str, on_progress: OnProgress
) -> dict[str, tuple[ShownWord, ...]]:
    """Return the patches of some words of each local layer, drawn evenly among those in use.

    Words that as many pictures have as a row has patches go first. A layer whose sample was freed
    has none.

    Args:
        pictures: the source of the index.

    Raises:
        InputError: the pictures may not be read.
    """
    found = {}
    for layer in local_layers(snapshot):
        use = corpus_use(store, snapshot, layer, on_progress)
        rare = np.flatnonzero(use.pictures < SHOWN_PATCHES).tolist()  # they have few patches
        words = use.drawn(SHOWN_WORDS, DRAWN_SEED, rare) or use.drawn(SHOWN_WORDS, DRAWN_SEED)
        seen = word_patches(
            store,
            snapshot,
            layer,
            words,
            most=SHOWN_PATCHES,
            pictures=pictures,
            on_progress=on_progress,
        )
        shown = tuple(
            ShownWord(word=each.word, patches=tuple(_text(patch.jpeg) for patch in each.patches))
            for each in seen.words
            if each.patches
        )
        if shown:
            found[layer] = shown
    return found


def shown_query(
    place: Place,
    coordinator: Coordinator,
    names: Sequence[str],
    image_ids: NDArray[np.int64],
    truth: GroundTruth,
    found: Scores,
    weights: Path | None,
) -> ShownQuery:
    """Return the query that the map helps most, with its rankings under each layer.

    Of the highest layers that are fused in the tables, three if there are so many.

    Raises:
        InputError: the pictures may not be read.
    """
    shown_layers = _most_layers(found)
    spec = shown_layers[0].mapped if shown_layers else place.snapshot.fusion
    plan = plan_sweep(truth, names, spec, t=(), p=())
    layers = [entry.layer for entry in spec.layers]
    query, note = _telling(found)
    batches = query_features(place, coordinator, image_ids, plan.truth, layers, weights)
    first, batch = next(
        (first, batch) for first, batch in batches if first <= query < first + len(batch)
    )
    table = coordinator.similarities(take_queries(batch, [query - first]), layers)[1][:, 0]
    asked = plan.truth.query_ids[query]
    fused = [fuse(table[taken], spec) for _, taken, spec in plan.rankings]
    firsts = [first_by_score(scores, min(SHOWN_PICTURES, len(scores))) for scores in fused]
    wanted = np.unique([asked, *np.concatenate(firsts)])
    small = dict(thumbnails(place, image_ids[wanted].tolist()))

    def seen(number: int) -> str:
        return _text(small[int(image_ids[number])] or b"")

    rankings = [
        ShownRanking(
            label=spec.layers[0].layer if kind == "alone" else kind,
            score=score_query(truth.metric_name, plan.truth.queries[query], scores),
            verdicts=tuple(plan.truth.verdicts(query, first).tolist()),
            pictures=tuple(plan.truth.names[number] for number in first),
            thumbnails=tuple(map(seen, first.tolist())),
        )
        for (kind, _, spec), scores, first in zip(plan.rankings, fused, firsts, strict=True)
    ]
    return ShownQuery(
        name=plan.truth.names[asked], note=note, thumbnail=seen(asked), rankings=tuple(rankings)
    )


def _most_layers(found: Scores) -> tuple[Fused, int] | None:
    """Return the first of the fused with the most layers, and the row of its direct sum."""
    if not (every := found.rankings.fused):
        return None
    chosen = max(every, key=lambda each: len(each.layers))  # the first of several
    before = every[: every.index(chosen)]
    return chosen, len(found.rankings.layers) + sum(len(each.specs) for each in before)


def _telling(found: Scores) -> tuple[int, str]:
    """Return the place of the query that gains most by the map, and how much; else the first."""
    if (shown := _most_layers(found)) is None:
        return 0, "the first query"
    direct, mapped = found.scores[shown[1]], found.scores[shown[1] + 1]
    query = int(np.argmax(mapped - direct))
    if mapped[query] <= direct[query]:
        return 0, "the first query; the map helps none"
    return query, f"the query that the map helps most, from {direct[query]:.3f} direct"


def _text(jpeg: bytes) -> str:
    return base64.b64encode(jpeg).decode()
