"""Words of pictures of one kind on pictures of another: how far, how evenly, and what it costs.

Of each set of photographs half of the objects are trained on, and the other half is described by
words of (a) the first half, (b) the first halves of each other set, (c) all first halves, (d) all
but that of the same set. Of each: the error over that of held-out rows of the training pictures,
as `health.held_error`; how evenly the second half uses the words; and the mAP of the words alone
over that of words of the second half itself. `FOREIGN_CASES` chooses layers and settings,
`FOREIGN_SEEDS` how many ways to halve.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.evaluate.metrics import average_precision
from lamella.pipeline.evaluate.protocols.oxford import oxford
from lamella.pipeline.vocabulary.assign import Assignment
from lamella.pipeline.vocabulary.choose import exact_assigner
from lamella.pipeline.vocabulary.projection import Projection, fit_projection, project
from lamella.pipeline.vocabulary.sample import HELD_PART, HELD_PER_IMAGE, Sample
from lamella.pipeline.vocabulary.train import train_in_memory
from lamella.pipeline.vocabulary.word_use import word_use
from lamella.schemas.vocabulary import ProjectionSpec, VocabularySpec
from tests.benchmarks.descriptors import FOLDERS, KEPT, SHARED, real_descriptors

CASES = os.environ.get("FOREIGN_CASES", "p15:1000:256:whiten p15:1000 b11:1000:256").split()
"""Layer, words, and if any the dimensions of a projection and whether it whitens."""

SEEDS = int(os.environ.get("FOREIGN_SEEDS", "2"))
CAP = 100
"""Descriptors of a picture, drawn by chance."""

OBJECT = {
    "ukbench": r"ukbench(\d+)",
    "oxford5k": r"(.+)_\d+",
    "holidays": r"(\d{4}|d\d+)",
    "kth_buildings": r"(obj\d+)",
    "smvs_dvd_covers": r"(\d+)",
    "grocery_packages": r"(.+)_\d+",
}
"""What of a file's name tells its object; UKB's numbers are in fours."""


@dataclass(frozen=True, eq=False)
class Words:
    """Trained words, and their error on held-out rows of the pictures they were trained on."""

    projection: Projection | None
    centroids: Float32s
    held_error: float = 0.0

    def assign(self, vectors: NDArray[np.float16]) -> Assignment:
        """Return the word of each descriptor, and the squared distance to it."""
        rows = vectors.astype(np.float32)
        if self.projection is not None:
            rows = project(self.projection, rows).astype(np.float32)
        return exact_assigner(self.centroids).assign(rows)


@cache
def pictures() -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of all photographs by image id, and by set the object of each."""
    names = [entry.name for entry in list_source(str(KEPT / "pictures")).entries]
    names = [name for name in names if name.endswith(".jpg")]
    objects: dict[str, list[str]] = {}
    for name in names:
        folder, file = name.split("/")[0], name.rpartition("/")[2]
        found = re.match(OBJECT[folder], file)
        assert found is not None, name
        each = str(int(found[1]) // 4) if folder == "ukbench" else found[1]
        objects.setdefault(folder, []).append(each)
    return names, objects


def ids_of(folder: str) -> NDArray[np.int64]:
    """Return the image ids of a set of photographs."""
    return np.array([n for n, name in enumerate(pictures()[0]) if name.startswith(f"{folder}/")])


def halves(folder: str, draw: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image ids of half of a set's objects, and those of the other half."""
    ids, objects = ids_of(folder), np.array(pictures()[1][folder])
    chosen = draw.permutation(np.unique(objects))
    mine = np.isin(objects, chosen[: len(chosen) // 2])
    return ids[mine], ids[~mine]


def drawn(sample: Sample, ids: NDArray[np.int64], draw: np.random.Generator) -> Sample:
    """Return up to `CAP` descriptors of each picture, in a random order within each."""
    rows = np.flatnonzero(np.isin(sample.image_ids, ids))
    order = rows[np.lexsort((draw.random(len(rows)), sample.image_ids[rows]))]
    owners = sample.image_ids[order]
    starts = np.searchsorted(owners, owners)
    return sample.rows(order[np.arange(len(order)) - starts < CAP])


def train(sample: Sample, case: str) -> Words:
    """Train words, a few rows of each picture held out as `draw_sample` does it."""
    _, words, dimensions, whiten = (*case.split(":"), "", "", "")[:4]
    starts = np.searchsorted(sample.image_ids, sample.image_ids)
    counts = np.searchsorted(sample.image_ids, sample.image_ids, "right") - starts
    held = np.arange(len(starts)) - starts < np.minimum(HELD_PER_IMAGE, counts // HELD_PART)
    own, rest = sample.rows(~held), sample.rows(held)
    projection = None
    if dimensions:
        spec = ProjectionSpec(dimensions=int(dimensions), whiten=whiten == "whiten")
        projection = fit_projection(own.descriptors(), spec)
        own = Sample(own.image_ids, own.positions, project(projection, own.bits))
    count = min(int(words), len(own) // 4)
    centroids, _ = train_in_memory(own, VocabularySpec(words=count), threads=2)
    found = Words(projection, centroids)
    return Words(projection, centroids, float(found.assign(rest.vectors).squared_distances.mean()))


def right_answers(folder: str, ids: NDArray[np.int64]) -> Iterator[tuple[int, set[int], set[int]]]:
    """Yield a query, and the places in `ids` of what is right for it and of what is left out."""
    names, objects = pictures()
    place = {int(image_id): n for n, image_id in enumerate(ids)}
    if folder == "oxford5k":
        known = {name: place[n] for n, name in enumerate(names) if n in place}
        for query in oxford(names, SHARED / "data/oxford5k/gt_files_170407").queries:
            if query.name in known:
                own = known[query.name]
                right = {known[name] for name in query.positives if name in known} - {own}
                yield own, right, {known[name] for name in query.junk if name in known} | {own}
        return
    by = dict(zip(ids_of(folder).tolist(), objects[folder], strict=True))
    for image_id, own in place.items():
        right = {n for other, n in place.items() if by[other] == by[image_id]} - {own}
        yield own, right, {own}


def score(folder: str, ids: NDArray[np.int64], counts: NDArray[np.float64]) -> float:
    """Return the mAP of bags of words, (pictures, words), by the cosine of their counts."""
    bags = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)
    similar = bags @ bags.T
    found = []
    for query, right, left_out in right_answers(folder, ids):
        order = np.argsort(-similar[query], kind="stable")
        order = order[~np.isin(order, list(left_out))]
        if right:
            found.append(average_precision(np.flatnonzero(np.isin(order, list(right))), len(right)))
    return float(np.mean(found))


def described(folder: str, sample: Sample, words: Words) -> tuple[float, float, float]:
    """Return mAP, mean error and evenness of a half's pictures by these words."""
    ids, owners = np.unique(sample.image_ids, return_inverse=True)
    found = words.assign(sample.vectors)
    counts = np.zeros((len(ids), len(words.centroids)))
    np.add.at(counts, (owners, found.words), 1)
    evenness = word_use(np.bincount(found.words), len(words.centroids)).evenness
    return score(folder, ids, counts), float(found.squared_distances.mean()), evenness


@dataclass(frozen=True)
class Line:
    """What was measured of one half by one training."""

    target: str
    kind: str
    share: float
    ratio: float
    evenness: float


def measure(case: str, seed: int) -> Iterator[Line]:
    """Yield a line for each half and each training."""
    draw = np.random.default_rng(seed)
    real = real_descriptors(case.split(":")[0])
    cut = {folder: halves(folder, draw) for folder in FOLDERS}
    first = {folder: drawn(real, cut[folder][0], draw) for folder in FOLDERS}
    words = {folder: train(first[folder], case) for folder in FOLDERS}
    every = train(joined(list(first.values())), case)
    for folder in FOLDERS:
        second = drawn(real, cut[folder][1], draw)
        best = described(folder, second, train(second, case))[0]
        others = train(joined([first[each] for each in FOLDERS if each != folder]), case)
        ways = [("same", words[folder]), ("all", every), ("all but same", others)]
        ways += [(each, words[each]) for each in FOLDERS if each != folder]
        for kind, each in ways:
            found, error, evenness = described(folder, second, each)
            yield Line(folder, kind, found / best, error / each.held_error, evenness)


def joined(samples: Sequence[Sample]) -> Sample:
    """Return the rows of all samples by rising image id."""
    ids = np.concatenate([sample.image_ids for sample in samples])
    order = np.argsort(ids, kind="stable")
    positions = np.concatenate([sample.positions for sample in samples])
    vectors = np.concatenate([sample.vectors for sample in samples])
    return Sample(ids[order], positions[order], vectors[order])


@pytest.mark.bench
@pytest.mark.parametrize("case", CASES)
def test_words_of_another_kind(case: str) -> None:
    for seed in range(SEEDS):
        for line in measure(case, seed):
            print(
                f"{case} {seed} | {line.target} | {line.kind} | mAP {line.share:.2f} | "
                f"ratio {line.ratio:.3f} | evenness {line.evenness:.3f}",
                flush=True,
            )
