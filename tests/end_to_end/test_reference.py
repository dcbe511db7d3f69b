"""The fast path against the slow, obvious one, on an index of real pictures: same rankings."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.publish import read_frequencies
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import DenseLayer, LocalLayer
from lamella.pipeline.store.storage import open_store
from lamella.schemas.query import FusionSpec, LayerMap, Weighting
from lamella.schemas.snapshot import IndexSnapshot
from tests import reference
from tests.builders import index_into
from tests.conftest import Indexed

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TOLERANCE = 1e-9
MAPS = [(0.2, 0.45), (0.5, 0.05), (1.0, 1.0)]


def check_rankings(
    store: Path, snapshot: IndexSnapshot, queries: int, weighting: Weighting
) -> None:
    """Compare the first queries' whole rankings, under several maps, with the reference."""
    searcher = SegmentSearcher(str(store), snapshot, None, weighting)
    coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
    layers = [layer.name for layer in snapshot.extraction.layers]
    ids = coordinator.image_ids().tolist()
    asked = ids[:: max(1, len(ids) // queries)][:queries]
    batch = coordinator.features(asked, layers)
    tables = [_reference_table(store, snapshot, searcher, asked, n, weighting) for n in layers]
    for t, p in MAPS:
        maps = [(t, p)] * (len(layers) - 1) + [(1.0, 1.0)]
        spec = FusionSpec(
            layers=tuple(
                LayerMap(layer=name, t=each[0], p=each[1])
                for name, each in zip(layers, maps, strict=True)
            )
        )
        answer = coordinator.answer(batch, spec, len(ids))
        assert answer.certified.all()
        for query in range(len(asked)):
            values = reference.scores([table[query] for table in tables], maps)
            expected = reference.ranking(ids, values, len(ids))
            found = answer.image_ids[query].tolist()
            by_id = dict(expected)
            worst = max(abs(by_id[i] - s) for i, s in zip(found, answer.scores[query], strict=True))
            assert worst <= TOLERANCE
            for rank, (image_id, score) in enumerate(expected):
                # Another order is right only where float64 cannot tell the two apart.
                assert found[rank] == image_id or abs(by_id[found[rank]] - score) < 1e-14


def _reference_table(
    store: Path,
    snapshot: IndexSnapshot,
    searcher: SegmentSearcher,
    asked: list[int],
    layer: str,
    weighting: Weighting,
) -> list[list[float]]:
    """Return the similarity of each query with every image, by rising id, by the slow cosines."""
    items: dict[int, Any] = {}
    for segment in searcher.segments:
        data = segment.layers[layer]
        for row, image_id in enumerate(segment.image_ids.tolist()):
            if isinstance(data, LocalLayer):
                items[image_id] = _bag(data.bags, row)
            else:
                assert isinstance(data, DenseLayer)
                items[image_id] = data.vectors[row].tolist()
    held = [items[image_id] for image_id in sorted(items)]
    if layer not in snapshot.vocabularies:
        return [[reference.cosine_of_vectors(items[q], x) for x in held] for q in asked]
    frequencies = read_frequencies(open_store(str(store)), snapshot.document_frequencies[layer])
    weights = [
        1.0 if weighting == "tf" else float(np.log(snapshot.indexed / df)) if df else 0.0
        for df in frequencies.tolist()
    ]
    return [[reference.cosine_of_bags(items[q], x, weights) for x in held] for q in asked]


def _bag(bags: BagsOfWords, row: int) -> dict[int, int]:
    part = slice(bags.offsets[row], bags.offsets[row + 1])
    return dict(zip(bags.words[part].tolist(), bags.counts[part].tolist(), strict=True))


@pytest.mark.parametrize("weighting", ["tf", "tf-idf"])
def test_rankings_of_the_planted_corpus_are_those_of_the_reference(
    indexed: Indexed, weighting: Weighting
) -> None:
    check_rankings(indexed.store, indexed.snapshot, 6, weighting)


def _copied(names: list[str], folder: Path) -> Path:
    if not SHARED.is_dir():
        pytest.skip("the shared photographs are not beside the project")
    for name in names:
        shutil.copytree(SHARED / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [["oxford5k/images"], ["ukbench", "kth_buildings", "holidays", "grocery_packages"]],
    ids=["oxford", "ukb and distractors"],
)
def test_rankings_of_real_corpora_are_those_of_the_reference(
    names: list[str], tmp_path: Path
) -> None:
    source = _copied(names, tmp_path / "pictures")
    snapshot = index_into(tmp_path / "store", source)
    for weighting in ("tf", "tf-idf"):
        check_rankings(tmp_path / "store", snapshot, 30, weighting)
