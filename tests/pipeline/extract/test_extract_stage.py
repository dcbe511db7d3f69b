"""Whole shards through the network: what stands beside a picture changes none of its bits."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import build_corpus
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.sink import LayerSink
from lamella.pipeline.extract.stage import ExtractTask, ExtractWork, extract_corpus
from lamella.pipeline.index.describe import Describer
from lamella.pipeline.index.encode import describe_file
from lamella.pipeline.networks.weights import LITE0
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import binary_vectors_of, column, read_parquet
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.extraction import View
from lamella.schemas.files import DoneRecord
from lamella.schemas.vocabulary import EncodingSpec
from tests.pipeline.extract.specs import random_weights, spec_of

LIMITS = DecodeLimits()


def corpus_of(store: Store, source: Path, shard_size: int = 16) -> CorpusManifest:
    listing = list_source(str(source))
    return build_corpus(
        store, SerialRunner(), listing, "corpus", shard_size=shard_size, limits=LIMITS
    )


def extract(store: Store, manifest: CorpusManifest, threads: int = 2) -> Extraction:
    spec, weights = spec_of(LITE0, "head", "b11", batch_size=8)
    return extract_corpus(
        store,
        SerialRunner(),
        manifest,
        spec,
        lambda: (manifest.root, weights),
        limits=LIMITS,
        threads=threads,
    )


def by_image(
    store: Store, found: Extraction, layer: str, dtype: Any
) -> dict[int, tuple[np.ndarray, ...]]:
    """Return each image's rows of a layer: positions where it is local, and vectors."""
    rows: dict[int, tuple[np.ndarray, ...]] = {}
    for record in found.records:
        table = read_parquet(open_committed(store, record.files[layer]))
        ids = column(table, "image_id")
        columns = [column(table, name) for name in ("y", "x") if name in table.column_names]
        columns.append(binary_vectors_of(table, "vector", dtype))
        for image_id in np.unique(ids):
            rows[int(image_id)] = tuple(each[ids == image_id] for each in columns)
    return rows


def ids_of(store: Store, manifest: CorpusManifest) -> list[int]:
    """Return the ids of all images of a corpus, in the order of its names."""
    tables = [read_parquet(open_committed(store, shard.file)) for shard in manifest.shards]
    return [image_id for table in tables for image_id in table["image_id"].to_pylist()]


def assert_equal_rows(
    one: dict[int, tuple[np.ndarray, ...]],
    other: dict[int, tuple[np.ndarray, ...]],
) -> None:
    assert set(one) == set(other)
    for image_id in one:
        for mine, theirs in zip(one[image_id], other[image_id], strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=f"image {image_id}")


@pytest.fixture(scope="module")
def pictures(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 24 pictures, in one folder."""
    folder = tmp_path_factory.mktemp("some")
    for number, path in enumerate(sorted(planted.rglob("*.jpg"))[:24]):
        shutil.copy2(path, folder / f"{number:03d}.jpg")
    return folder


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Extraction]:
    store = open_store(str(tmp_path_factory.mktemp("whole")), create=True)
    return store, extract(store, corpus_of(store, pictures, shard_size=24))


def refusals(store: Store, found: Extraction) -> list[tuple[int, str]]:
    return [
        (row["image_id"], row["reason"])
        for record in found.records
        for row in read_parquet(open_committed(store, record.files["refusals"])).to_pylist()
    ]


def test_the_cut_into_shards_changes_no_bit(
    pictures: Path, whole: tuple[Store, Extraction], tmp_path: Path
) -> None:
    # Cut at 7 every picture but the first few stands in another batch and another slot.
    store = open_store(str(tmp_path), create=True)
    cut = extract(store, corpus_of(store, pictures, shard_size=7), threads=1)
    assert len(cut.records) > 2
    for layer, dtype in (("head", np.float32), ("b11", np.float16)):
        mine = by_image(store, cut, layer, dtype)
        assert len(mine) == 24
        assert_equal_rows(mine, by_image(*whole, layer, dtype))
    # So the same vocabulary gives the same bags.
    _, _, vectors = next(iter(by_image(*whole, "b11", np.float16).values()))
    describer = Describer(ExactAssigner(vectors[:32].astype(np.float32)), EncodingSpec())
    bags: list[dict[int, bytes]] = []
    for place, found in (whole, (store, cut)):
        bags.append({})
        for record in found.records:
            ids = column(read_parquet(open_committed(place, record.files["images"])), "image_id")
            words = describe_file(open_committed(place, record.files["b11"]), describer)
            each = describer.of_images(words, ids)
            for row, image_id in enumerate(ids.tolist()):
                own = slice(*each.offsets[row : row + 2])
                bags[-1][image_id] = each.words[own].tobytes() + each.counts[own].tobytes()
    assert bags[0] == bags[1]


def test_the_network_sees_nothing_but_full_batches(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last bits of a forward pass may depend on the batch's shape, on some machines.
    seen: list[int] = []
    forward = Backbone.forward

    def noting(backbone: Backbone, pixels: np.ndarray, view: View) -> Any:
        seen.append(len(pixels))
        return forward(backbone, pixels, view)

    monkeypatch.setattr(Backbone, "forward", noting)
    store = open_store(str(tmp_path), create=True)
    extract(store, corpus_of(store, pictures, shard_size=15))
    assert len(seen) > 24 // 8
    assert set(seen) == {8}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwrite(path: Path) -> None:
    path.write_bytes(path.with_name("001.jpg").read_bytes())


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "before_the_corpus", "reason"),
    [
        (_truncate, True, "truncated"),
        (_truncate, False, "changed"),
        (_overwrite, False, "changed"),
        (_remove, False, "missing"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_and_its_neighbours_keep_their_bits(
    pictures: Path,
    whole: tuple[Store, Extraction],
    tmp_path: Path,
    harm: Callable[[Path], None],
    before_the_corpus: bool,
    reason: str,
) -> None:
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    store = open_store(str(tmp_path / "store"), create=True)
    if before_the_corpus:
        harm(source / "012.jpg")
    manifest = corpus_of(store, source, shard_size=24)
    if not before_the_corpus:
        harm(source / "012.jpg")
    found = extract(store, manifest)
    harmed = ids_of(store, manifest)[12]
    assert refusals(store, found) == [(harmed, reason)]
    assert (found.indexed, found.refused, manifest.images) == (23, 1, 24)
    for layer, dtype in (("head", np.float32), ("b11", np.float16)):
        mine = by_image(store, found, layer, dtype)
        assert harmed not in mine
        sound = by_image(*whole, layer, dtype)
        assert len(sound.keys() - mine.keys()) == 1
        assert_equal_rows(mine, {image_id: sound[image_id] for image_id in mine})


def test_a_file_that_is_no_picture_is_refused_by_its_header(
    pictures: Path, whole: tuple[Store, Extraction], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    (source / "012.jpg").write_bytes(b"")
    store = open_store(str(tmp_path / "store"), create=True)
    manifest = corpus_of(store, source, shard_size=24)
    assert manifest.refused == 1
    found = extract(store, manifest)
    assert refusals(store, found) == [(ids_of(store, manifest)[12], "empty-file")]
    assert found.indexed + found.refused == manifest.images
    # It takes no slot, so all after it move up by one, and still keep their bits.
    mine, sound = by_image(store, found, "head", np.float32), by_image(*whole, "head", np.float32)
    assert len(sound.keys() - mine.keys()) == 1
    assert_equal_rows(mine, {image_id: sound[image_id] for image_id in mine})


def test_a_shard_without_a_readable_picture_is_done_and_empty(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(2):
        (source / f"{number}.jpg").write_bytes(b"\xff\xd8\xff not much of a picture")
    store = open_store(str(tmp_path / "store"), create=True)
    found = extract(store, corpus_of(store, source))
    assert (found.indexed, found.refused) == (0, 2)
    assert set(found.records[0].files) == {"images", "refusals"}


def test_alexnet_gives_both_kinds_of_layer_through_the_whole_stage(
    pictures: Path, tmp_path: Path
) -> None:
    weights = random_weights("alexnet", tmp_path / "alexnet.safetensors")
    spec, path = spec_of("alexnet", "fc1", "conv4", weights=weights, batch_size=4)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("000.jpg", "001.jpg", "002.jpg"):
        shutil.copy(pictures / name, source / name)
    store = open_store(str(tmp_path / "store"), create=True)
    manifest = corpus_of(store, source)
    found = extract_corpus(
        store,
        SerialRunner(),
        manifest,
        spec,
        lambda: (manifest.root, path),
        limits=LIMITS,
        threads=2,
    )
    vectors = by_image(store, found, "fc1", np.float32)
    ids = ids_of(store, manifest)
    assert [vectors[image_id][-1].shape for image_id in ids] == [(1, 4096)] * 3
    local = by_image(store, found, "conv4", np.float16)
    lengths = np.linalg.norm(local[ids[0]][-1].astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    assert found.records[0].counts["rows.conv4"] == sum(len(rows[0]) for rows in local.values())


def opened(store: Store, manifest: CorpusManifest) -> Callable[[ExtractTask], DoneRecord]:
    spec, weights = spec_of(LITE0, "head", "b11", batch_size=8)
    work = ExtractWork(manifest.root, "folder", LIMITS, spec, weights, 2)
    return StoreStep(tree.EXTRACT, store.url, "x", "i" * 64, work).open()


def test_two_shards_at_once_give_the_bytes_of_one_after_the_other(
    pictures: Path, tmp_path: Path
) -> None:
    found: list[list[dict[str, str]]] = []
    for threads in (1, 2):
        store = open_store(str(tmp_path / str(threads)), create=True)
        manifest = corpus_of(store, pictures, shard_size=8)
        with ThreadPoolExecutor(threads) as pool:
            records = list(pool.map(opened(store, manifest), map(ExtractTask, manifest.shards)))
        found.append([{k: f.sha256 for k, f in record.files.items()} for record in records])
    assert len(found[0]) > 1
    assert found[0] == found[1]


def test_a_shard_that_fails_lets_the_next_one_in(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path), create=True)
    manifest = corpus_of(store, pictures, shard_size=12)
    extract, add = opened(store, manifest), LayerSink.add
    one, other = [shard for shard in manifest.shards if shard.images > 4][:2]
    mine = set(ids_of(store, manifest)[: manifest.shards[0].images])
    assert manifest.shards[0] == one
    inside, outside = Event(), Event()

    def fails(sink: LayerSink, batch: BatchActivations) -> None:
        if int(batch.image_ids[0]) in mine:
            inside.set()
            assert outside.wait(60)
            raise OSError("the disk is full")
        add(sink, batch)

    monkeypatch.setattr(LayerSink, "add", fails)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(extract, ExtractTask(one))
        assert inside.wait(60)
        second = pool.submit(extract, ExtractTask(other))
        with pytest.raises(TimeoutError):
            second.result(timeout=1)  # it waits for its turn
        outside.set()
        with pytest.raises(OSError, match="full"):
            first.result()
        assert second.result().counts["indexed"] == other.images
