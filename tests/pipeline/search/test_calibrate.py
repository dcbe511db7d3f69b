"""The scale of layers: percentiles of a slow definition, however the corpus is cut."""

from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.index import draw as drawing
from lamella.pipeline.index.bags import BagsOfWords, bags_from_words, select
from lamella.pipeline.index.draw import draw
from lamella.pipeline.index.segment_files import members_of, segment_files
from lamella.pipeline.search.calibrate import calibrate
from lamella.pipeline.store.commit import attempt
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import FileRef
from tests import reference

IMAGES, WORDS = 40, 6
RNG = np.random.default_rng(0)
VECTORS = RNG.random((IMAGES, 8), dtype=np.float32)
BAGS = bags_from_words(
    np.arange(IMAGES + 1) * 4, RNG.integers(WORDS, size=4 * IMAGES, dtype=np.uint32)
)
IDS = np.arange(IMAGES, dtype=np.int64) * 3
WEIGHTS = {"low": np.linspace(0.5, 2.0, WORDS)}
LAYERS = (
    LayerSpec(name="high", node="n", kind="global"),
    LayerSpec(name="low", node="n", kind="local"),
)


def stored(store: LocalStore, cuts: list[int]) -> list[dict[str, FileRef]]:
    """Write segments of some images each; return the files of each."""
    found = []
    for number, rows in enumerate(np.split(np.arange(IMAGES), cuts)):
        layers: dict[str, BagsOfWords | np.ndarray] = {
            "high": VECTORS[rows],
            "low": select(BAGS, rows),
        }
        with attempt(store, "segments/x-000000000000", "index", f"{number:05d}", "0" * 64) as work:
            for file in segment_files(members_of(IDS[rows]), layers, {"low": WORDS}):
                work.write(
                    file.name, f"{work.folder}/{file.layer or 'images'}", file.suffix, file.write
                )
            found.append(dict(work.files))
    return found


def as_bag(image: int) -> dict[int, int]:
    a, b = BAGS.offsets[image : image + 2]
    return dict(zip(BAGS.words[a:b].tolist(), BAGS.counts[a:b].tolist(), strict=True))


@pytest.mark.parametrize("cuts", [[], [1, 30], [10, 20, 30]])
def test_scales_are_percentiles_of_the_pairs_of_drawn_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: list[int]
) -> None:
    monkeypatch.setattr(draw, "__defaults__", (12,))
    high, low = calibrate(LocalStore(tmp_path), LAYERS, stored(LocalStore(tmp_path), cuts), WEIGHTS)
    rows = draw(IDS, 12).tolist()
    pairs = [(a, b) for place, a in enumerate(rows) for b in rows[:place]]
    vectors = sorted(reference.cosine_of_vectors(VECTORS[a], VECTORS[b]) for a, b in pairs)
    bags = sorted(reference.cosine_of_bags(as_bag(a), as_bag(b), WEIGHTS["low"]) for a, b in pairs)
    assert high.pairs == low.pairs == len(pairs) == 66
    for scale, values in ((high, vectors), (low, bags)):
        assert (scale.median, scale.high) == pytest.approx((values[32], values[64]), abs=1e-12)


def test_the_drawn_of_a_corpus_are_among_those_of_its_parts() -> None:
    parts = np.split(IDS, [7, 22])
    kept = np.concatenate([part[draw(part, 5)] for part in parts])
    assert kept[draw(kept, 5)].tolist() == IDS[draw(IDS, 5)].tolist()
    assert len(draw(IDS)) == IMAGES < drawing.DRAWN_IMAGES


def test_one_picture_has_no_scale(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    files = stored(store, [1])[:1]
    assert calibrate(store, LAYERS, files, WEIGHTS) == ()
