"""Estimate the cost of a layer's vocabulary: train briefly on probed descriptors, and encode them.

If the job imports a vocabulary, that is used. Otherwise as many words as the descriptors allow are
trained for a few rounds on half of the probed pictures, and the other half shows how many words a
picture has.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.describe import Describer
from lamella.pipeline.index.encode import describe_file
from lamella.pipeline.plan.clock import costing
from lamella.pipeline.plan.figures import mean_of, scaled
from lamella.pipeline.vocabulary.assign import Assigner
from lamella.pipeline.vocabulary.choose import EXACT_UP_TO, choose_assigner, exact_assigner
from lamella.pipeline.vocabulary.exchange import Exchanged
from lamella.pipeline.vocabulary.finish import choose_probes
from lamella.pipeline.vocabulary.ivf import Cells, CellsAssigner, first_cells, neighbours_of
from lamella.pipeline.vocabulary.projection import (
    ProjectingAssigner,
    Projection,
    fit_projection,
    project,
)
from lamella.pipeline.vocabulary.sample import Sample, cap_of, draw_sample
from lamella.pipeline.vocabulary.seeding import choose_words
from lamella.pipeline.vocabulary.train import train_in_memory
from lamella.schemas.plan import Figure
from lamella.schemas.vocabulary import AssignerKind, EncodingSpec, VocabularySpec

ROWS_A_STAND_IN = 4
"""The least descriptors for a stand-in word; with fewer, words would be single descriptors."""

PACED_ROUNDS = 3
"""Rounds that are run to measure seconds a row; the first is a warm-up."""

ROUNDS_FROM_ROWS = 10_000
"""Rows on which a small training is run to its end, to count its rounds."""

HELD_ROWS = 1_000
"""Held-out rows by which the number of probes is chosen."""


@dataclass(frozen=True)
class WordsProbe:
    """The estimated cost of a layer's vocabulary.

    Attributes:
        words: words that the run will have.
        tried: words that the probe had.
        dimensions: dimensions of a word.
        descriptor_dimensions: dimensions of a descriptor before projection.
        projected: whether descriptors are projected.
        assigner: how descriptors find their words.
        rows: descriptors of a picture that are trained on; 0 if the vocabulary is imported.
        rounds: rounds of the training; 0 if the vocabulary is imported.
        passes: how often these rounds see each row.
        sampling, encoding: seconds of one thread for a picture.
        pace: seconds of one thread for a row in a round.
        entries: distinct words in a picture's bag.
        bags: bags of the probed pictures.
    """

    words: int
    tried: int
    dimensions: int
    descriptor_dimensions: int
    projected: bool
    assigner: AssignerKind
    rows: Figure
    rounds: int
    passes: float
    sampling: float
    pace: float
    encoding: float
    entries: Figure
    bags: BagsOfWords


@dataclass(frozen=True)
class _Found:
    """Words to encode with, imported or trained; the fields are as in `WordsProbe`."""

    centroids: Float32s
    projection: Projection | None
    cells: Cells | None
    probes: int
    words: int
    kind: AssignerKind
    rounds: int = 0
    passes: float = 0.0
    pace: float = 0.0


def probe_words(
    path: Path,
    image_ids: NDArray[np.int64],
    per_picture: NDArray[np.int64],
    pictures: float,
    spec: VocabularySpec,
    encoding: EncodingSpec,
    given: Exchanged | None,
    *,
    threads: int,
) -> WordsProbe:
    """Estimate the cost of a layer's vocabulary.

    Args:
        path: local activations of the probed pictures.
        image_ids: (n,) their ids, rising.
        per_picture: (n,) how many descriptors each has.
        pictures: how many pictures the run is expected to index.
        given: the vocabulary, if the job imports one.
    """
    with costing() as drawing:
        sample, held = draw_sample(path, cap_of(spec, math.ceil(pictures)), spec.seed)
    places = np.searchsorted(image_ids, sample.image_ids)
    rows = mean_of(np.bincount(places, minlength=len(image_ids)))
    found = (
        _stood_in(sample, image_ids, max(1, round(rows.mean * pictures)), spec, threads)
        if given is None
        else _given(given)
    )
    assigner = _assigner(found, held.rows(slice(0, HELD_ROWS)))
    assigner.assign(held.descriptors()[:1])  # compile before measuring
    with costing() as assigning:
        nearest = min(encoding.nearest, len(found.centroids))
        asked = encoding.model_copy(update={"nearest": nearest})
        describer = Describer(assigner, asked)
        bags = describer.of_images(describe_file(path, describer), image_ids)
    tried = len(found.centroids)
    growth = found.words / tried
    # Pictures that stand-ins were trained on have more distinct words than others, so skip them.
    others = slice(0 if given is not None or len(bags) < 2 else 1, None, 1 if given else 2)
    entries = mean_of(np.diff(bags.offsets)[others])
    grown = words_among(float(np.mean(per_picture[others])), entries.mean, growth)
    pictures_probed = len(image_ids)
    return WordsProbe(
        words=found.words,
        tried=tried,
        dimensions=found.centroids.shape[1],
        descriptor_dimensions=sample.vectors.shape[1],
        projected=found.projection is not None,
        assigner=found.kind,
        rows=rows if given is None else Figure(mean=0.0),
        rounds=found.rounds,
        passes=found.passes,
        sampling=0.0 if given is not None else drawing.seconds / pictures_probed,
        pace=found.pace,
        encoding=assigning.seconds / pictures_probed * (growth if found.kind == "exact" else 1.0),
        entries=scaled(entries, grown / max(entries.mean, 1e-9)),
        bags=bags,
    )


def words_among(descriptors: float, words: float, growth: float) -> float:
    """Return how many distinct words a picture has if the vocabulary grows by a factor.

    If n descriptors fall evenly on m words, m (1 - exp(-n / m)) words get at least one. We solve
    for the m that gives the words seen, and take it to grow with the vocabulary.

    Args:
        descriptors: descriptors of a picture, n.
        words: distinct words that they have in the probe.
        growth: words of the run over words of the probe.
    """
    if words <= 0 or words >= descriptors:
        return words

    def hit(m: float) -> float:
        return -m * math.expm1(-descriptors / m)

    low, high = words, words
    while hit(high) < words:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if hit(middle) < words else (low, middle)
    return hit(high * growth)


def _given(given: Exchanged) -> _Found:
    cells, words = given.cells, len(given.centroids)
    if cells is None and words > EXACT_UP_TO:
        cells = first_cells(given.centroids)
    kind: AssignerKind = "exact" if cells is None else "cells"
    return _Found(given.centroids, given.projection, cells, given.probes, words, kind)


def _stood_in(
    sample: Sample,
    image_ids: NDArray[np.int64],
    all_rows: int,
    spec: VocabularySpec,
    threads: int,
) -> _Found:
    """Train stand-in words for a few rounds on half of the pictures; return them and the cost."""
    words = spec.words if spec.words is not None else choose_words(all_rows)
    kind = choose_assigner(words, spec)
    projection = None
    if spec.projection is not None:
        projection = fit_projection(sample.descriptors(), spec.projection)
    sample = _projected(projection, sample)
    half = sample.rows(np.isin(sample.image_ids, image_ids[::2]))
    tried = max(1, min(words, len(half) // ROWS_A_STAND_IN))
    asked = {"assigner": kind, "projection": None}
    ends = [(time.perf_counter(), time.process_time())]
    centroids, _ = train_in_memory(
        half,
        spec.model_copy(update=asked | {"words": tried, "rounds": PACED_ROUNDS, "batch": 1.0}),
        threads=threads,
        on_round=lambda words, report: ends.append((time.perf_counter(), time.process_time())),
    )
    # The first round has seeded and compiled, so it is left out, unless it was the only one.
    first = min(1, len(ends) - 2)
    wall, processor = (end - start for start, end in zip(ends[first], ends[-1], strict=True))
    pace = max(threads * wall, processor) / (len(ends) - 1 - first) / len(half)
    some = sample.rows(slice(0, ROUNDS_FROM_ROWS))
    fewer = max(1, round(words * len(some) / all_rows))
    _, reports = train_in_memory(
        some, spec.model_copy(update=asked | {"words": min(fewer, len(some))}), threads=threads
    )
    pace *= words / tried if kind == "exact" else 1.0
    cells = first_cells(centroids) if kind == "cells" else None
    passes = sum(report.share for report in reports)
    return _Found(centroids, projection, cells, 0, words, kind, len(reports), passes, pace)


def _projected(projection: Projection | None, sample: Sample) -> Sample:
    if projection is None:
        return sample
    return Sample(sample.image_ids, sample.positions, project(projection, sample.bits))


def _assigner(found: _Found, held: Sample) -> Assigner:
    """Return the assigner of these words, as the encode stage would open it."""
    assigner: Assigner
    if found.cells is None:
        assigner = exact_assigner(found.centroids)
    else:
        near = neighbours_of(found.centroids, found.cells)
        rows = _projected(found.projection, held).descriptors()
        probes = found.probes or choose_probes(found.centroids, found.cells, near, rows)[0]
        assigner = CellsAssigner(found.centroids, found.cells, probes, near)
    if found.projection is None:
        return assigner
    return ProjectingAssigner(found.projection, assigner)
