"""Segments against the bags and vectors they are made of, and the snapshot over them."""

import math
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, NotPromoted
from lamella.pipeline.index.files import read_bags, read_dense, read_postings
from lamella.pipeline.index.promotions import (
    current_snapshot,
    latest_number,
    promote,
    read_snapshot,
    release,
)
from lamella.pipeline.index.publish import read_frequencies
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.search.searcher import layer_weights
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.upkeep.verify import verify_store
from tests.builders import copied, counted_creates, index_into, small_job
from tests.conftest import Indexed
from tests.tiny import ids_by_name, tiny_index, tiny_pictures


@pytest.fixture(scope="module")
def store(indexed: Indexed) -> Store:
    return LocalStore(indexed.store)


def test_a_segment_holds_every_image_in_every_layer(indexed: Indexed, store: Store) -> None:
    seen: list[int] = []
    for segment in indexed.snapshot.segments:
        files = segment.files
        ids, bags = read_bags(open_committed(store, files["p15.bags"]))
        dense_ids, vectors, norms = read_dense(open_committed(store, files["head.dense"]))
        assert ids.tolist() == dense_ids.tolist()
        assert len(bags) == len(vectors) == segment.images
        np.testing.assert_allclose(norms, np.linalg.norm(vectors.astype(float), axis=1), rtol=1e-12)
        assert ids.tolist() == sorted(ids.tolist())
        seen += ids.tolist()
    assert len(set(seen)) == len(seen) == 48


def test_document_frequencies_count_images_of_all_segments(indexed: Indexed, store: Store) -> None:
    reference = indexed.snapshot.document_frequencies["p15"]
    frequencies = read_frequencies(store, reference)
    plain = np.zeros(len(frequencies), np.int64)
    for segment in indexed.snapshot.segments:
        _, bags = read_bags(open_committed(store, segment.files["p15.bags"]))
        for image in range(len(bags)):
            plain[bags.words[bags.offsets[image] : bags.offsets[image + 1]]] += 1
        postings = read_postings(open_committed(store, segment.files["p15.postings"]))
        assert postings.words == indexed.snapshot.vocabularies["p15"].words
    assert frequencies.tolist() == plain.tolist()
    weights = layer_weights(store, indexed.snapshot, "tf-idf")["p15"]
    word = int(np.flatnonzero(plain)[0])
    assert weights[word] == math.log(48 / plain[word])


def test_how_segments_are_cut_changes_no_vocabulary_and_no_bag(
    indexed: Indexed, tmp_path: Path
) -> None:
    folders = [path.name for path in indexed.store.iterdir() if path.is_dir()]
    place = copied(indexed.store, tmp_path / "store", *folders)
    with counted_creates() as created:
        other = index_into(place, indexed.source, job=small_job(index__segment_images=100))
    assert [segment.images for segment in other.segments] != [
        segment.images for segment in indexed.snapshot.segments
    ]
    assert shards_of(LocalStore(place), other) == shards_of(LocalStore(place), indexed.snapshot)
    assert {name.split("/")[0] for name in created} == {
        *("jobs", "segments", "totals", "snapshots", "gates", "promotions")
    }
    assert other.document_frequencies["p15"].sha256 == (
        indexed.snapshot.document_frequencies["p15"].sha256
    )


@pytest.mark.parametrize("broken", [[0, 1, 2, 3], [4, 5], [8, 9, 10, 11]])
def test_shards_without_a_sound_picture_are_no_segment_of_their_own(
    broken: list[int], tmp_path: Path
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 12, broken=0)
    for number in broken:
        path = pictures / f"{number:02d}.png"
        path.write_bytes(path.read_bytes()[:-40])
    settings = {"index__segment_images": 1, "corpus__max_refused": 1}
    snapshot = tiny_index(tmp_path / "store", pictures, **settings)
    assert all(segment.images for segment in snapshot.segments)
    assert snapshot.indexed == 12 - len(broken)
    assert len(ids_by_name(tmp_path / "store", snapshot)) == snapshot.indexed
    assert verify_store(LocalStore(tmp_path / "store")).damage == ()


def test_a_rollback_is_one_more_promotion(indexed: Indexed, tmp_path: Path) -> None:
    place = copied(indexed.store, tmp_path / "store", *_folders(indexed.store))
    store = LocalStore(place)
    second = index_into(place, indexed.source, job=small_job(fusion__preset="scaled"))
    assert current_snapshot(store) == second == read_snapshot(store, 2)
    promote(store, 1)
    assert current_snapshot(store) == indexed.snapshot
    assert latest_number(store, tree.PROMOTION) == 3
    # A rollback holds; once it is released, what is asked for again is promoted and not made again.
    with pytest.raises(NotPromoted, match="promotion 3 holds snapshot 1 since"):
        index_into(place, indexed.source, job=small_job(fusion__preset="scaled"))
    assert current_snapshot(store) == indexed.snapshot
    release(store)
    assert index_into(place, indexed.source, job=small_job(fusion__preset="scaled")) == second
    assert latest_number(store, tree.SNAPSHOT) == 2
    assert current_snapshot(store) == second
    for number in (0, 3):
        with pytest.raises(InputError, match=f"there is no snapshot {number} in"):
            promote(store, number)
        with pytest.raises(InputError, match=f"there is no snapshot {number} in"):
            read_snapshot(store, number)


def test_an_empty_store_has_no_snapshot(tmp_path: Path) -> None:
    assert current_snapshot(LocalStore(tmp_path)) is None


def _folders(store: Path) -> list[str]:
    return [path.name for path in store.iterdir() if path.is_dir()]
