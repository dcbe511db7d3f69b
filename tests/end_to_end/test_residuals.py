"""Indexes whose local layer has residuals (`encoding.kind` is asmk), from pictures to answers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lamella.cluster.ray.engine import Engine
from lamella.pipeline.errors import CorruptFile, InputError
from lamella.pipeline.index.encode import open_describer
from lamella.pipeline.index.files import read_bags
from lamella.pipeline.index.residual_files import read_payload
from lamella.pipeline.index.residuals import Kind
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher, open_segment
from lamella.pipeline.store.commit import open_committed, read_committed
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import (
    binary_vectors_of,
    column,
    read_parquet,
    vectors_column,
    write_arrow,
)
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.checkpoint import read_centroids
from lamella.pipeline.vocabulary.projection import project, read_projection
from tests import reference
from tests.end_to_end.commands import COMMANDS, Stores, current, exported, shard_of
from tests.end_to_end.test_store_forms import forge, rows, table
from tests.pipeline.index.test_residuals import as_vectors
from tests.tiny import tiny_index

KINDS: tuple[Kind, ...] = ("float16", "bits")
WHITE = {"vocabulary__projection": {"dimensions": 9, "whiten": True}}


def settings_of(kind: Kind) -> dict[str, Any]:
    return {"encoding": {"kind": "asmk", "nearest": 2, "residuals": kind}}


@pytest.fixture(scope="module")
def by_kind(stores: Stores) -> dict[Kind, Path]:
    """A store of each kind; read it, copy it, keep it."""
    found: dict[Kind, Path] = {}
    for kind in KINDS:
        found[kind] = stores.one.parent / f"residuals-{kind}"
        more = WHITE if kind == "float16" else {}
        tiny_index(found[kind], stores.pictures, **settings_of(kind), **more)
    return found


@pytest.fixture
def store(by_kind: dict[Kind, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(by_kind["float16"], tmp_path / "store"))


def slow_residuals(store: Path, layer: str, kind: Kind) -> dict[int, dict[int, np.ndarray]]:
    """Return {image: {word: residual}} from the stored descriptors, in float64."""
    place, snapshot = LocalStore(store), current(store)
    vocabulary = snapshot.vocabularies[layer]
    assert vocabulary.centroids is not None
    centroids = read_committed(place, vocabulary.centroids, read_centroids)
    found: dict[int, list[tuple[list[int], list[float]]]] = {}
    for path in sorted(store.glob(f"activations/*/{layer}/*.parquet")):
        part = read_parquet(path)
        vectors = binary_vectors_of(part, "vector", np.float16).astype(np.float32)
        if vocabulary.projection is not None:
            projection = read_committed(place, vocabulary.projection, read_projection)
            vectors = project(projection, vectors).astype(np.float32)
        words = ExactAssigner(centroids).nearest(vectors, vocabulary.encoding.nearest).words
        each = zip(column(part, "image_id").tolist(), words.tolist(), vectors, strict=True)
        for image_id, two, vector in each:
            found.setdefault(image_id, []).append((two, vector.tolist()))
    out = {}
    for image_id, descriptors in found.items():
        residuals = reference.residuals(descriptors, centroids.tolist())
        out[image_id] = {
            word: np.array(value).astype(np.float16).astype(np.float64)
            if kind == "float16"
            else np.where(np.array(value) >= 0, 1.0, -1.0) / np.sqrt(len(value))
            for word, value in residuals.items()
        }
    return out


@pytest.mark.parametrize("kind", ["float16", pytest.param("bits", marks=pytest.mark.slow)])
def test_answers_are_those_of_the_slow_kernel(kind: Kind, by_kind: dict[Kind, Path]) -> None:
    snapshot = current(by_kind[kind])
    (layer,) = snapshot.vocabularies
    searcher = SegmentSearcher(str(by_kind[kind]), snapshot)
    coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
    ids = coordinator.image_ids().tolist()
    slow = slow_residuals(by_kind[kind], layer, kind)
    queries = coordinator.features(ids[::-1], [entry.layer for entry in snapshot.fusion.layers])
    held = queries.layers[layer]
    for row, image_id in enumerate(ids[::-1]):
        mine = as_vectors(held, row)  # type: ignore[arg-type]
        assert list(mine) == sorted(slow[image_id])
        for word, value in mine.items():
            np.testing.assert_array_equal(value, slow[image_id][word])
    _, values = coordinator.similarities(queries, [layer])
    wanted = [[reference.match_kernel(slow[q], slow[x]) for x in ids] for q in ids[::-1]]
    np.testing.assert_allclose(values[0], wanted, rtol=0, atol=1e-12)
    answer = coordinator.answer(queries, snapshot.fusion, 3)
    assert answer.certified.all()
    assert answer.image_ids[:, 0].tolist() == ids[::-1]
    assert len(snapshot.calibration) == len(snapshot.extraction.layers)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_find_themselves(
    kind: Kind, by_kind: dict[Kind, Path], stores: Stores, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(by_kind[kind], tmp_path / "store"))
    (layer,) = current(place).vocabularies
    _, answered, rankings, _ = COMMANDS["query pictures"].run(stores, place)
    firsts = [row for row in rankings if row["rank"] == 1]
    assert answered == len(firsts) == 5
    for row in firsts:
        assert row["name"] == row["query_name"]
        assert row[f"S.{layer}"] == pytest.approx(1.0, abs=3e-3)
    assert verify_store(LocalStore(place)).damage == ()
    # The encoding asked for is part of what decides the index.
    assert tiny_index(place, stores.pictures, encoding={"kind": "bag", "nearest": 2}).number == 2


def test_one_pass_gives_the_segments_of_two(stores: Stores, tmp_path: Path) -> None:
    words = str(exported(stores))
    kept = settings_of("bits") | {"vocabulary_from": words}
    one = tiny_index(tmp_path / "one", stores.pictures, **kept)
    two = tiny_index(tmp_path / "two", stores.pictures, activations__keep="all", **kept)
    assert not list((tmp_path / "one").glob("bags/*"))
    assert list((tmp_path / "two").glob("bags/*"))
    assert [each.content() for each in one.segments] == [each.content() for each in two.segments]


@pytest.mark.parametrize("folder", ["segments", "bags"])
def test_damaged_residuals_are_found_and_made_again(
    folder: str, store: Path, by_kind: dict[Kind, Path], stores: Stores
) -> None:
    if folder == "segments":
        (path,) = store.glob(f"segments/*/*/{current(store).segments[0].key}.*.payload.arrow")
    else:
        (path,) = store.glob(f"bags/*/*/{shard_of(store, '00.png').key}.*.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert verify_store(LocalStore(store)).damage
    if folder == "segments":
        with pytest.raises(CorruptFile, match="SHA-256"):
            COMMANDS["query ids"].run(stores, store)
    assert repair_store(LocalStore(store), SerialRunner(), threads=1).after == ()
    assert current(store).root_digest == current(by_kind["float16"]).root_digest


def payload(values: np.ndarray, dimensions: str = "2") -> Callable[[Path], Any]:
    made = pa.table({"residual": vectors_column(values)})
    made = made.replace_schema_metadata({"dimensions": dimensions})
    return lambda path: write_arrow(made, path)


TWO = np.array([[0.6, 0.8], [0, 1]], np.float16)
WRONG: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "another length": ("payload", payload(TWO * np.float16(2.0)), "unit length"),
    "not finite": ("payload", payload(TWO * np.float16(np.nan)), "unit length"),
    "too few": ("payload", payload(TWO), "postings and 2 residuals for"),
    "other dimensions": ("payload", payload(TWO, "3"), "of 3 dimensions takes 3 values"),
    "no dimensions": ("payload", payload(TWO, "many"), "invalid literal"),
    "other columns": ("payload", table(residual=[1.0]), "residual double"),
    "no arrow file": ("payload", lambda path: path.write_bytes(b"x" * 999), "no Arrow"),
    "fewer postings": ("postings", rows(0), "1 postings and .* residuals for"),
}


@pytest.mark.parametrize("name", WRONG)
def test_residuals_that_were_sealed_wrong_are_not_searched(
    name: str, stores: Stores, store: Path
) -> None:
    kind, write, said = WRONG[name]
    forge(store, f"segments/*/*/{current(store).segments[0].key}.*.{kind}.arrow", write)
    with pytest.raises(CorruptFile, match=said) as caught:
        COMMANDS["query ids"].run(stores, store)
    assert "\n" not in str(caught.value)


def test_an_index_without_residuals_is_refused_by_name(store: Path) -> None:
    place, snapshot = LocalStore(store), current(store)
    (layer,) = snapshot.vocabularies
    segment = snapshot.segments[0]
    files = {name: file for name, file in segment.files.items() if name != f"{layer}.payload"}
    older = segment.model_copy(update={"files": files})
    with pytest.raises(InputError, match=f"has no residuals of {layer}, .* `lamella index`"):
        open_segment(place, snapshot, older, {layer: np.ones(4)})


def test_residuals_lie_once_beside_the_words_of_images(by_kind: dict[Kind, Path]) -> None:
    for kind in KINDS:
        width = 9 if kind == "float16" else None
        place, snapshot = LocalStore(by_kind[kind]), current(by_kind[kind])
        (layer,) = snapshot.vocabularies
        for segment in snapshot.segments:
            names = {name for name in segment.files if name.startswith(f"{layer}.")}
            kinds = ("bags", "postings", "frequencies", "payload", "drawn")
            assert names == {f"{layer}.{each}" for each in kinds}
            held, dimensions = read_payload(
                open_committed(place, segment.files[f"{layer}.payload"])
            )
            _, bags = read_bags(open_committed(place, segment.files[f"{layer}.bags"]))
            assert len(held) == len(bags.words)
            assert held.shape[1] == (width or -(-dimensions // 8))


def test_a_vocabulary_without_centroids_describes_nothing(by_kind: dict[Kind, Path]) -> None:
    place, snapshot = LocalStore(by_kind["bits"]), current(by_kind["bits"])
    (vocabulary,) = snapshot.vocabularies.values()
    with pytest.raises(ValueError, match="has no file of centroids"):
        open_describer(place, vocabulary.model_copy(update={"centroids": None}))


def test_cards_are_passed_over_or_refused_in_words(by_kind: dict[Kind, Path]) -> None:
    place, snapshot = LocalStore(by_kind["bits"]), current(by_kind["bits"])
    asked = Engine(SerialRunner(), lambda: 1, search_on="gpu")
    with (
        pytest.raises(InputError, match="this index has residuals"),
        asked.coordinator(place, snapshot, snapshot.weighting),
    ):
        pass
    auto = Engine(SerialRunner(), lambda: 1)
    with auto.coordinator(place, snapshot, snapshot.weighting) as coordinator:
        assert coordinator.images == 5
