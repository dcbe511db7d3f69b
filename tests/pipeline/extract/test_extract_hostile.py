"""Twenty pictures that crash, hang or exhaust their decoder cost a shard those twenty."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.corpus import child_process, sandbox
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import read_parquet
from tests.hostile_child import marked
from tests.pipeline.extract import test_extract_stage as stages

ACTS = {
    "crash": 8,
    "abort": 3,
    "exit": 3,
    "babble": 2,
    "spin": 1,
    "sleep": 1,
    "eat memory": 2,
}
REASONS = {"spin": "too-slow", "sleep": "too-slow", "eat memory": "too-much-memory"}


@pytest.fixture
def flawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    made = Sandbox("tests.hostile_child")
    monkeypatch.setattr(sandbox, "_sandbox", made)
    monkeypatch.setattr(child_process, "WALL_FACTOR", 2)
    limits = replace(DecodeLimits(), max_seconds=1.0, max_memory=2**29)
    monkeypatch.setattr(stages, "LIMITS", limits)
    yield made
    made.close()


def extracted(folder: Path, pictures: Path) -> tuple[Store, Extraction]:
    store = open_store(str(folder), create=True)
    return store, stages.extract(store, stages.corpus_of(store, pictures, shard_size=100))


@pytest.mark.slow
def test_twenty_of_twenty_bad_pictures_cost_one_picture_each(
    flawed: Sandbox, planted: Path, tmp_path: Path
) -> None:
    good = sorted(planted.rglob("*.jpg"))[:8]
    (tmp_path / "clean").mkdir()
    (tmp_path / "mixed").mkdir()
    for number, path in enumerate(good):
        for folder in ("clean", "mixed"):
            shutil.copy(path, tmp_path / folder / f"{number}.good.jpg")
    acts = [act for act, count in ACTS.items() for _ in range(count)]
    assert len(acts) == 20
    for number, act in enumerate(acts):
        data = marked(good[number % len(good)].read_bytes(), act)
        (tmp_path / "mixed" / f"{number % 8}.{number:02d}.{act}.jpg").write_bytes(data)

    store, clean = extracted(tmp_path / "a", tmp_path / "clean")
    other, mixed = extracted(tmp_path / "b", tmp_path / "mixed")

    assert (mixed.indexed, mixed.refused) == (8, 20)
    (record,) = mixed.records
    refusals = read_parquet(open_committed(other, record.files["refusals"])).to_pylist()
    assert [row["reason"] for row in refusals] == [
        REASONS.get(row["name"].split(".")[2], "decoder-crashed") for row in refusals
    ]
    for layer in ("head", "b11"):
        alone = stages.by_image(store, clean, layer, np.float32 if layer == "head" else np.float16)
        beside = stages.by_image(other, mixed, layer, np.float32 if layer == "head" else np.float16)
        stages.assert_equal_rows(dict(enumerate(alone.values())), dict(enumerate(beside.values())))
