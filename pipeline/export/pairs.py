"""All pairs of indexed images whose fused score is at least a number, exactly and each once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.querying import query_images
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.rankings import ranking_tables
from lamella.pipeline.run.drive import OnProgress, Progress
from lamella.pipeline.search.coordinator import Coordinator
from lamella.schemas.job import SearchSettings
from lamella.schemas.query import FusionSpec
from lamella.schemas.rankings import QueryRun

SHARE = 0.9
"""The usual threshold, as a share of what an image scores with itself; see `usual_threshold`."""

ROUNDING = 1e-6
"""How far the score of identical pictures may be below the greatest one, with room to spare; with
residuals of float16 (`asmk`) it is up to some thousandths."""

GROWTH = 10
"""An image whose answer was full is asked again for so many times as many."""

ANSWERS_A_BATCH = 640_000
"""The most answers in memory together: 64 queries of 10,000 each."""

MOST_ANSWERS = 1_000_000
"""The most that one image is asked for, as `SearchSettings.k` says."""

RUN_NAME = 30
"""The most letters of a run's name here: runs that ask for more answers add `.k1000000` to it."""


def greatest_score(fusion: FusionSpec) -> float:
    """Return what an image scores with itself: the sum of weights, for f(1) = 1."""
    return sum(layer.weight for layer in fusion.layers)


def usual_threshold(fusion: FusionSpec) -> float:
    """Return the score from which two pictures are called nearly the same, if nothing is said."""
    return float(f"{SHARE * greatest_score(fusion):.6g}")


def check_threshold(above: float, fusion: FusionSpec) -> None:
    """Check that pictures can score as much as is asked for.

    Raises:
        InputError: identical pictures do not.
    """
    most = greatest_score(fusion)
    if not 0 < above <= most - ROUNDING:
        parts = " + ".join(f"{layer.weight:g} of {layer.layer}" for layer in fusion.layers)
        raise InputError(
            f"--above is more than 0 and less than {most:g}, which a picture scores with itself "
            f"({parts}), but for rounding; got {above:g}: {usual_threshold(fusion):g} finds copies "
            f"and small changes, {0.995 * most:.4g} little but copies"
        )


def pairs_schema(layers: Sequence[str]) -> Any:
    """Return the schema of pairs: two images, the lower id first, their score and similarities."""
    return pa.schema(
        [
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("other_id", pa.int64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("other_name", pa.string(), nullable=False),
            pa.field("score", pa.float64(), nullable=False),
            *(pa.field(f"S.{layer}", pa.float64(), nullable=False) for layer in layers),
        ]
    )


@dataclass(frozen=True)
class Pairs:
    """Pairs of images in `pairs_schema`, the highest score first, and the runs that found them."""

    table: Any
    runs: tuple[QueryRun, ...]


def find_pairs(
    place: Place, coordinator: Coordinator, question: Question, into: str | None = None
) -> Pairs:
    """Return all pairs that score at least `question.search.above`.

    Every image is asked, in the exact mode, so that each answer is certified. An image whose answer
    has as many images as were asked for is asked again for more, until none is cut off. The score
    of a pair is that of the image with the lower id as the query: the other way round its last bits
    may differ.

    Args:
        question: whose search leaves a query out of its own answer.
        into: the name of the run; those that ask for more answers k add `.kK` to it.

    Raises:
        InputError: the name is too long, or an image has more than a million like it.
        IncompatibleInputs: a run of that name asked something else.
    """
    if into is not None and len(into) > RUN_NAME:
        raise InputError(
            f"--into takes a name of at most {RUN_NAME} letters here, for runs that ask on are "
            f"called after it; got {len(into)}: give a shorter one"
        )
    layers = [entry.layer for entry in question.fusion.layers]
    tables = [pairs_schema(layers).empty_table()]
    runs: list[QueryRun] = []
    others, k = place.snapshot.indexed - 1, question.search.k
    asked: list[int] | None = None
    while True:
        asking = replace(question, search=_asking_for(question.search, k))
        name = into if into is None or not runs else f"{into}.k{k}"
        here = place if not runs else replace(place, progress=_named(place.progress, k))
        run = query_images(here, coordinator, asked, asking, into=name).run
        assert run.certified == run.answered, "the exact mode certifies every answer"
        runs.append(run)
        full: list[int] = []
        for rankings in ranking_tables(place.runs, run):
            cut = _cut_off(rankings, k) if k < others else np.empty(0, np.int64)
            full += cut.tolist()
            tables.append(_pairs_of(rankings, cut, layers))
        if not full:
            break
        if k >= MOST_ANSWERS:
            raise InputError(
                f"image {full[0]} has {k:,} images like it or more, and that is as far as one is "
                f"asked: give a higher --above than {question.search.above:g}"
            )
        asked, k = full, min(GROWTH * k, others, MOST_ANSWERS)
    order = [("score", "descending"), ("image_id", "ascending"), ("other_id", "ascending")]
    return Pairs(pa.concat_tables(tables).sort_by(order), tuple(runs))


def _asking_for(search: SearchSettings, k: int) -> SearchSettings:
    size = max(min(search.batch_queries, ANSWERS_A_BATCH // k), 1)
    return search.model_copy(update={"k": k, "batch_queries": size})


def _named(progress: OnProgress, k: int) -> OnProgress:
    """Return what tells the progress of asking again, which is a stage of its own."""

    def tell(stand: Progress) -> None:
        progress(replace(stand, stage=f"{stand.stage} for {k:,} each"))

    return tell


def _cut_off(rankings: Any, k: int) -> Int64s:
    """Return the queries whose answer is full, so that there may be more."""
    queries, sizes = np.unique(rankings.column("query").to_numpy(), return_counts=True)
    return queries[sizes >= k]


def _pairs_of(rankings: Any, cut: Int64s, layers: Sequence[str]) -> Any:
    """Return the pairs whose lower id is a query with a whole answer."""
    query, found = rankings.column("query"), rankings.column("image_id")
    whole = pc.invert(pc.is_in(query, pa.array(cut, pa.int64())))
    kept = rankings.filter(pc.and_(pc.less(query, found), whole))
    names = ["query", "image_id", "query_name", "name", "score", *(f"S.{each}" for each in layers)]
    schema = pairs_schema(layers)
    return kept.select(names).rename_columns(schema.names).cast(schema)
