"""How good answers are: every layer and fusion, on six real corpora that distract one another.

Words that were trained on the very pictures that are searched flatter every figure, so each ranking
is scored with two kinds of words: words of the corpus, and words of other pictures of its kinds.
For those the groups of right answers (landmarks, objects, products) are halved; queries of one half
use words that were trained on pictures of neither its queries nor its answers.

    ANSWERS_SETTINGS='{"network.preprocess.short_edge": 384}' ANSWERS_WORDS=corpus \\
        .venv/bin/python -m pytest -m bench -s tests/benchmarks/bench_answers.py
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.evaluate.folds import cross_validate, folds_of, groups_of
from lamella.pipeline.evaluate.grid import SWEPT_P, SWEPT_T
from lamella.pipeline.evaluate.intervals import percentile_interval, resample
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.protocols.holidays import holidays
from lamella.pipeline.evaluate.protocols.oxford import oxford
from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.evaluate.sweep import plan_sweep
from lamella.pipeline.evaluate.truth import GroundTruth, resolve, score_query
from lamella.pipeline.jobs.evaluating import query_features
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.resolve import resolve_fusion
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.vocabulary.exchange import export_vocabulary
from lamella.schemas.job import FusionSettings
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.snapshot import IndexSnapshot
from tests.benchmarks.descriptors import FOLDERS, SHARED, copy_pictures
from tests.benchmarks.record import write_json
from tests.builders import index_into

KEPT = Path("build/bench/answers")
SETTINGS: dict[str, Any] = json.loads(os.environ.get("ANSWERS_SETTINGS", "{}"))
WORDS = os.environ.get("ANSWERS_WORDS", "corpus,other").split(",")
EXPAND = int(os.environ.get("ANSWERS_EXPAND", "0"))
NAME = os.environ.get("ANSWERS_NAME", "answers")
STORE = KEPT / NAME
"""One store for all, so that a picture goes through the network once."""

JOB = SETTINGS | {"gate.removed": 1.0, "gate.added": 1.0}
WEIGHTS = Path(SETTINGS["network.weights"]) if "network.weights" in SETTINGS else None
THREADS = len(os.sched_getaffinity(0))


def truths(names: Sequence[str]) -> dict[str, GroundTruth]:
    """Return the queries of each corpus, over the names of all."""
    data = SHARED / "data"
    return {
        "oxford": oxford(names, data / "oxford5k" / "gt_files_170407"),
        "ukb": ukb(names),
        "holidays": holidays(names, data / "holidays" / "holidays_images.dat"),
        "kth": groups(names, r"^kth_buildings/[a-z]+/(obj[0-9]+)_"),
        "dvd": groups(names, r"^smvs_dvd_covers/[A-Za-z0-9]+/([0-9]{3})"),
        "grocery": groups(names, r"^grocery_packages/([^/]+)/"),
    }


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of some queries of a protocol by ranking, (Q,) each, and the queries' groups (Q,)."""

    by_ranking: dict[str, NDArray[np.float64]]
    groups: NDArray[np.int64]


def fusions(snapshot: IndexSnapshot) -> dict[str, FusionSpec]:
    """Return what is scored: layers alone, plain sums, the presets, and the grid over (t, p)."""
    layers, scales = snapshot.extraction.layers, snapshot.calibration
    found = {each.name: FusionSpec(layers=(LayerMap(layer=each.name),)) for each in layers}
    for preset in ("published", "scaled"):
        settings = FusionSettings.model_validate(preset)
        spec = resolve_fusion(layers, settings, scales)
        found |= {"direct": spec.direct(), preset: spec}
    top, rest = found["published"].layers[0], found["published"].layers[1:]
    for t in SWEPT_T:
        for p in SWEPT_P:
            if t <= rest[0].t:
                first = top.model_copy(update={"t": t, "p": p})
                found[f"t {t:g} p {p:g}"] = FusionSpec(layers=(first, *rest))
    return found


def score(
    place: Place, coordinator: Coordinator, names: Sequence[str], truth: GroundTruth
) -> Scored:
    """Score every ranking for all queries of a protocol."""
    resolved, specs = resolve(truth, names), fusions(place.snapshot)
    layers = [layer.name for layer in place.snapshot.extraction.layers]
    plan = plan_sweep(truth, names, specs["published"])
    image_ids = coordinator.image_ids()
    batches = query_features(place, coordinator, image_ids, plan.truth, layers, WEIGHTS)
    scores: dict[str, list[float]] = {name: [] for name in specs}
    for first, batch in batches:
        asked = coordinator.expanded(batch, place.snapshot.fusion, EXPAND)
        table = coordinator.similarities(asked, layers)[1]
        for column in range(len(batch)):
            query = resolved.queries[first + column]
            for name, spec in specs.items():
                rows = [layers.index(entry.layer) for entry in spec.layers]
                fused = fuse(table[rows, column], spec)
                scores[name].append(score_query(truth.metric_name, query, fused))
    return Scored({name: np.array(each) for name, each in scores.items()}, groups_of(resolved))


def opened(store: Path, snapshot: IndexSnapshot) -> tuple[Place, Coordinator, list[str]]:
    """Return what answers queries of a snapshot, and the names of its images."""
    searcher = SegmentSearcher(str(store), snapshot)
    coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
    ids = coordinator.image_ids()
    names = ImageTable(open_store(str(store)), snapshot).names_of(ids).to_pylist()
    place = Place(open_store(str(store)), snapshot, SerialRunner(), THREADS)
    return place, coordinator, names


def words_of_the_corpus(pictures: Path) -> dict[str, Scored]:
    """Score with words that were trained on the pictures that are searched."""
    snapshot = index_into(STORE, pictures, job=load_job(None, JOB), threads=THREADS)
    place, coordinator, names = opened(STORE, snapshot)
    print("calibration:", *(f"{s.layer} {s.high:.3f}" for s in snapshot.calibration))
    return {name: score(place, coordinator, names, t) for name, t in truths(names).items()}


def words_of_others(pictures: Path) -> dict[str, Scored]:
    """Score each half of the groups with words of pictures that have nothing to do with it."""
    every = sorted(
        str(path.relative_to(pictures)) for path in pictures.rglob("*.jpg") if path.is_file()
    )
    asked = truths(every)
    parts: dict[str, list[Scored]] = {name: [] for name in asked}
    for half in (True, False):
        hidden = {name for truth in asked.values() for name in concerned(truth, every, half)}
        listed = pictures.parent / f"pictures/others-{half}.txt"
        listed.write_text("".join(f"{n}\n" for n in every if n not in hidden), encoding="utf-8")
        trained = index_into(STORE, listed, job=load_job(None, JOB), threads=THREADS)
        words = KEPT / f"{NAME}-words-{half}"
        for vocabulary in trained.vocabularies.values():
            if not (words / f"{vocabulary.layer}.json").exists():
                export_vocabulary(open_store(str(STORE)), vocabulary, trained.extraction, words)
        job = load_job(None, JOB | {"vocabulary_from": str(words), "activations.keep": "all"})
        snapshot = index_into(STORE, pictures, job=job, threads=THREADS)
        place, coordinator, names = opened(STORE, snapshot)
        for name, truth in truths(names).items():
            scored = score(place, coordinator, names, truth)
            mine = chosen(truth, names) == half
            parts[name].append(
                Scored({k: v[mine] for k, v in scored.by_ranking.items()}, scored.groups[mine])
            )
    return {name: joined(two) for name, two in parts.items()}


def chosen(truth: GroundTruth, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return the half of each query, (Q,)."""
    folds = folds_of(groups_of(resolve(truth, names)), most=2)
    assert folds is not None
    return folds == 0


def concerned(truth: GroundTruth, names: Sequence[str], half: bool) -> Iterator[str]:
    """Yield the queries of a half, their answers, and what counts neither way."""
    for query, mine in zip(truth.queries, chosen(truth, names) == half, strict=True):
        if mine:
            yield from {query.name} | query.positives | query.junk


def joined(parts: Sequence[Scored]) -> Scored:
    """Return the queries of both halves."""
    rankings = parts[0].by_ranking.keys() & parts[1].by_ranking.keys()
    return Scored(
        {
            name: np.concatenate([part.by_ranking[name] for part in parts])
            for name in parts[0].by_ranking
            if name in rankings
        },
        np.concatenate([part.groups for part in parts]),
    )


def table_of(scored: Scored) -> dict[str, dict[str, float]]:
    """Return score and interval of each ranking, and what it gains over the first layer alone.

    Of the grid only its best point is kept, and the points chosen on the other half of the groups.
    """
    grid = [name for name in scored.by_ranking if name.startswith("t ")]
    shown = {name: v for name, v in scored.by_ranking.items() if name not in grid}
    swept = np.stack([scored.by_ranking[name] for name in grid])
    groups = np.unique(scored.groups, return_inverse=True)[1].astype(np.int64)
    shown["best of sweep"] = swept[int(swept.mean(axis=1).argmax())]
    if (crossed := cross_validate(groups, swept)) is not None:
        shown["cross-validated"] = crossed.scores
    drawn = resample(np.stack(list(shown.values())), groups)
    assert drawn is not None
    units = drawn.bootstrap.units
    head = drawn.means[0]
    found = {}
    for row, (name, values) in enumerate(shown.items()):
        own = drawn.interval(row)
        gain = percentile_interval(drawn.means[row] - head, units)
        found[name] = {
            "score": float(values.mean()),
            "low": own.low,
            "high": own.high,
            "over first": float((values - next(iter(shown.values()))).mean()),
            "over first low": gain.low,
            "over first high": gain.high,
        }
    return found


@pytest.mark.bench
def test_answers() -> None:
    if not (SHARED / "data").exists():
        pytest.skip("the photographs are in ../shared/data")
    pictures = KEPT / "pictures"
    if not pictures.exists():
        copy_pictures(FOLDERS, pictures)
    made = {"corpus": words_of_the_corpus, "other": words_of_others}
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for kind in WORDS:
        tables = {name: table_of(each) for name, each in made[kind](pictures).items()}
        found[kind] = tables
        for name, table in tables.items():
            print(f"\nwords: {kind}, {name}")
            for ranking, row in table.items():
                print(
                    f"  {ranking:18s} {row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
                    f"   {row['over first']:+.3f} [{row['over first low']:+.3f},"
                    f" {row['over first high']:+.3f}]"
                )
    write_json(f"{NAME}.json", {"settings": SETTINGS, "expand": EXPAND, "words": found})
