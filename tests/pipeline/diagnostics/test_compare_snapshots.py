"""Which stores may be compared, and what is drawn of the other one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.diagnostics import compare_snapshots
from lamella.pipeline.diagnostics.compare_snapshots import (
    check_same_network,
    compare_layer,
    draw_others,
)
from lamella.pipeline.diagnostics.inspect import kept_of
from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import copied
from tests.conftest import Indexed


def changed(snapshot: IndexSnapshot, **extraction: object) -> IndexSnapshot:
    spec = snapshot.extraction.model_copy(update=extraction)
    return snapshot.model_copy(update={"extraction": spec})


def test_descriptors_that_came_about_otherwise_are_refused(indexed: Indexed) -> None:
    mine = indexed.snapshot
    spec = mine.extraction
    check_same_network(mine, changed(mine, batch_size=7), "p15")
    (local,) = (layer for layer in spec.layers if layer.kind == "local")
    for other, message in (
        ({"network": "vgg16"}, "network: efficientnet_lite0 in the first, vgg16 in the second"),
        (
            {"weights": spec.weights.model_copy(update={"sha256": "ab" * 32})},
            f"weights: {spec.weights.sha256[:12]} in the first, abababababab in the second",
        ),
        (
            {"preprocess": spec.preprocess.model_copy(update={"short_edge": 300})},
            f"preprocessing: {spec.preprocess.digest()[:12]} in the first, ",
        ),
        (
            {"layers": (local.model_copy(update={"node": "elsewhere"}),)},
            f"layer p15: {local.digest()[:12]} in the first, ",
        ),
        ({"layers": ()}, "is not there in the second"),
    ):
        with pytest.raises(IncompatibleInputs, match=message):
            check_same_network(mine, changed(mine, **other), "p15")


def test_a_store_fits_its_own_words(indexed: Indexed) -> None:
    store = LocalStore(indexed.store)
    shown: list[str] = []
    drift = compare_layer(
        (store, store),
        (indexed.snapshot, indexed.snapshot),
        "p15",
        on_progress=lambda stand: shown.append(stand.stage),
    )
    assert (drift.layer, drift.pictures) == ("p15", 48)
    assert drift.advice == "keep"
    assert set(shown) == {"draw p15"}


def test_as_many_are_drawn_of_each_picture(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_snapshots, "MOST_ROWS", 48 * 5 + 47)
    found = draw_others(LocalStore(indexed.store), indexed.snapshot, "p15")
    ids, counts = np.unique(found.image_ids, return_counts=True)
    assert len(ids) == 48
    assert set(counts.tolist()) == {5}


def test_whole_shards_are_left_out_of_a_large_store(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_snapshots, "MOST_PICTURES", 17)
    found = draw_others(LocalStore(indexed.store), indexed.snapshot, "p15")
    sizes = [shard.images for shard in shards_of(LocalStore(indexed.store), indexed.snapshot)]
    pictures = len(np.unique(found.image_ids))
    assert 17 <= pictures < 17 + max(sizes) < sum(sizes)  # whole shards, until there are enough
    monkeypatch.setattr(compare_snapshots, "MOST_ROWS", 10)
    assert len(draw_others(LocalStore(indexed.store), indexed.snapshot, "p15").image_ids) == 10


@pytest.mark.parametrize("gone", ["done/*.json", "p15/*.parquet"])
def test_a_store_without_activations_says_what_to_do(
    gone: str, indexed: Indexed, tmp_path: Path
) -> None:
    store = copied(indexed.store, tmp_path / "store", "activations", "segments")
    for path in store.glob(f"activations/*/{gone}"):
        path.unlink()
    with pytest.raises(InputError, match=r"keeps no activations .*: index the new pictures into"):
        draw_others(LocalStore(store), indexed.snapshot, "p15")


def test_words_without_a_sample_are_not_compared(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(indexed.store)
    monkeypatch.setattr(compare_snapshots, "kept_of", lambda *a: replace(kept_of(*a), sample=()))
    with pytest.raises(InputError, match="name no sample"):
        compare_layer((store, store), (indexed.snapshot, indexed.snapshot), "p15")
