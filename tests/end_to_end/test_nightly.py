"""An index that grows from night to night: its cost follows the change, its bytes the source."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.pipeline.corpus.locations import version
from lamella.pipeline.errors import InputError, NotPromoted, OlderFormat
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.address import parse_s3
from lamella.pipeline.store.s3 import Facts, client
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import Killed, counted_creates
from tests.end_to_end.commands import Stores, exported
from tests.nightly import EDITS, Cost, Source, contents, counted, identities, shard_files
from tests.s3 import upload
from tests.tiny import tiny_index

PICTURES = 24


@pytest.fixture(scope="module")
def words(stores: Stores) -> str:
    return str(exported(stores))


def filled(folder: Path) -> Source:
    source = Source(folder)
    for number in range(PICTURES):
        source.write(f"{'bdfh'[number % 4]}/{number:03d}.png", seed=number)
    return source


def index(store: Path, source: Source, words: str, **settings: object) -> IndexSnapshot:
    return tiny_index(store, source.folder, name="pictures", vocabulary_from=words, **settings)


OPEN: dict[str, object] = {"gate__removed": 1.0, "gate__added": 1.0}
"""A gate that lets any share of the pictures go and come."""


def again(store: Path) -> tuple[IndexSnapshot, Cost]:
    with counted() as cost:
        opened = open_store(str(store))
        snapshot = reindex(opened, SerialRunner(), threads=1, watch=Watch())
    return snapshot, cost


def features(store: Path, snapshot: IndexSnapshot) -> dict[int, bytes]:
    """Return the bits of all layers of each image, by id."""
    coordinator = Coordinator(LocalServers(SegmentSearcher(str(store), snapshot)), snapshot.indexed)
    layers = [layer.name for layer in snapshot.extraction.layers]
    found = {}
    for image_id in coordinator.image_ids().tolist():
        batch = coordinator.features([image_id], layers)
        head, bags = batch.layers["head"], batch.layers["p15"]
        assert isinstance(head, np.ndarray)
        words = bags.words.tobytes() + bags.counts.tobytes()  # type: ignore[union-attr]
        found[image_id] = head.tobytes() + words
    return found


CHANGES = {
    "nothing": ((), 0, 0),
    "add last": (("write z.png",), 1, 1),
    "insert first": (("write a.png",), 1, 1),
    "change in place": (("write d/001.png", "write f/002.png"), 2, 2),
    "delete in the middle": (("delete d/001.png", "delete d/005.png", "delete f/002.png"), 0, 0),
    "delete last": (("delete h/023.png",), 0, 0),
    "rename": (("move d/001.png d/001b.png",), 1, 0),
    "rename across": (("move b/000.png z.png",), 1, 0),
    "copy": (("copy b/000.png z.png",), 1, 0),
    "touch": (("touch d/001.png",), 1, 0),
    "all together": (("write a.png", "delete d/001.png", "move b/000.png z.png"), 2, 1),
}
"""By name: edits, bodies read, pictures through the network."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_night_costs_what_changed(name: str, words: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "pictures")
    before = index(tmp_path / "store", source, words)
    edits, looked_at, through = CHANGES[name]
    for edit in edits:
        verb, *given_ = edit.split()
        getattr(source, verb)(*given_)
    after, cost = again(tmp_path / "store")
    assert (cost.looked_at, cost.through_the_network) == (looked_at, through)
    fresh = index(tmp_path / "fresh", source, words)
    assert after.root_digest == fresh.root_digest
    assert (after.number == before.number) == (after.root_digest == before.root_digest)
    if name in ("nothing", "touch"):
        assert after == before
    mine = identities(tmp_path / "store", after)
    assert mine == identities(tmp_path / "fresh", fresh)
    old = identities(tmp_path / "store", before)
    assert {image_id: old[image_id] for image_id in old.keys() & mine.keys()} == {
        image_id: mine[image_id] for image_id in old.keys() & mine.keys()
    }


def histories(count: int) -> settings:
    """Return the settings of a test that is given so many histories, the same at every run."""
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        derandomize=True,
    )


@histories(1)
@given(days=st.lists(st.lists(st.sampled_from(sorted(EDITS)), max_size=3), max_size=2, min_size=1))
def test_any_history_ends_in_the_bytes_of_an_index_from_nothing(
    days: list[list[str]], words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    grown(days, words, tmp_path_factory.mktemp("history"))


@pytest.mark.slow
@histories(60)
@given(days=st.lists(st.lists(st.sampled_from(sorted(EDITS)), max_size=5), max_size=4, min_size=1))
def test_long_histories_end_in_the_bytes_of_an_index_from_nothing(
    days: list[list[str]], words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    grown(days, words, tmp_path_factory.mktemp("history"))


def grown(days: list[list[str]], words: str, folder: Path) -> None:
    """Let a source change for some days, and compare each night with an index from nothing."""
    chance = random.Random(str(days))
    source = filled(folder / "pictures")
    store = folder / "store"
    snapshot = index(store, source, words, **OPEN)
    for number, edits in enumerate(days):
        held, files = contents(store, snapshot), shard_files(store, snapshot)
        before = identities(store, snapshot)
        bits = features(store, snapshot)
        for edit in edits:
            EDITS[edit](source, chance)
        snapshot, cost = again(store)
        fresh = index(folder / f"fresh-{number}", source, words)
        assert snapshot.root_digest == fresh.root_digest
        after = identities(store, snapshot)
        new = [sha256 for _, sha256 in after.values() if sha256 not in held]
        assert cost.through_the_network == len(new)
        both = before.keys() & after.keys()
        assert {each: before[each] for each in both} == {each: after[each] for each in both}
        now = features(store, snapshot)
        assert {each: bits[each] for each in both} == {each: now[each] for each in both}
        if not edits:
            assert shard_files(store, snapshot) == files
    assert verify_store(open_store(str(store))).damage == ()


def test_shards_outside_the_change_keep_their_paths(words: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "pictures")
    before = index(tmp_path / "store", source, words)
    old = shard_files(tmp_path / "store", before)
    source.write("z.png")
    after, _ = again(tmp_path / "store")
    new = shard_files(tmp_path / "store", after)
    assert len(old & new) > len(old) / 2
    # One shard's table, and the files of one or two segments.
    assert len([path for path in new - old if path.startswith("looks/")]) <= 2
    assert len({path.split("/")[-1].split(".")[0] for path in new - old}) <= 4


@pytest.mark.slow
def test_answers_about_pictures_of_both_nights_differ_by_document_frequencies_alone(
    words: str, tmp_path: Path
) -> None:
    source = filled(tmp_path / "pictures")
    before = index(tmp_path / "store", source, words)
    source.write("z.png")
    source.delete("f/002.png")
    after, _ = again(tmp_path / "store")
    found = []
    for snapshot in (before, after):
        searcher = SegmentSearcher(str(tmp_path / "store"), snapshot, weighting="tf")
        coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
        ids = coordinator.image_ids()
        asked = [image_id for image_id in ids.tolist() if image_id in _ids(tmp_path, before, after)]
        layers = [layer.name for layer in snapshot.extraction.layers]
        similarities = coordinator.similarities(coordinator.features(asked, layers), layers)[1]
        rows = np.isin(ids, asked)
        found.append((asked, similarities[..., rows]))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def _ids(folder: Path, *snapshots: IndexSnapshot) -> set[int]:
    sets = [set(identities(folder / "store", each)) for each in snapshots]
    return set.intersection(*sets)


def test_the_second_index_keeps_the_words_that_the_first_trained(tmp_path: Path) -> None:
    source = filled(tmp_path / "pictures")
    first = tiny_index(tmp_path / "store", source.folder)
    source.write("a.png")
    with counted() as cost:
        second = tiny_index(tmp_path / "store", source.folder)
    assert (cost.looked_at, cost.through_the_network) == (1, 1)
    assert second.vocabularies == first.vocabularies
    assert first.keeps_descriptors
    assert not second.keeps_descriptors
    # Another folder of the same name is another corpus.
    other = filled(tmp_path / "elsewhere" / "pictures")
    other.write("q.png")
    apart = tiny_index(tmp_path / "store", other.folder, gate__removed=1)
    assert apart.vocabularies["p15"].identity() != first.vocabularies["p15"].identity()
    # Asked for other words it trains them.
    third = tiny_index(tmp_path / "store", source.folder, vocabulary__words=8)
    assert third.vocabularies["p15"].words == 8
    assert verify_store(open_store(str(tmp_path / "store"))).damage == ()


def test_a_change_that_size_and_time_do_not_show_is_found_by_rehash(
    words: str, tmp_path: Path
) -> None:
    source = filled(tmp_path / "pictures")
    first = index(tmp_path / "store", source, words)
    path = source.folder / "d/001.png"
    facts = path.stat()
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    same, cost = again(tmp_path / "store")
    assert same == first
    assert cost.looked_at == 0
    opened = open_store(str(tmp_path / "store"))
    with counted() as cost:
        found = reindex(opened, SerialRunner(), threads=1, watch=Watch(), rehash=True)
    assert cost.looked_at == PICTURES
    assert cost.through_the_network == 1
    assert found.root_digest == index(tmp_path / "fresh", source, words).root_digest
    # What was found stays known.
    later, cost = again(tmp_path / "store")
    assert (later.root_digest, cost.looked_at) == (found.root_digest, 0)


def test_a_file_written_while_it_was_listed_is_read_again(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = filled(tmp_path / "pictures")
    source.clock = 4_000_000_000_000_000_003  # in the future, as a file written after the listing
    source.touch("d/001.png")
    first = index(tmp_path / "store", source, words)
    for _ in range(2):
        same, cost = again(tmp_path / "store")
        assert same == first
        assert (cost.looked_at, cost.through_the_network) == (1, 0)


def test_a_store_without_a_snapshot_cannot_be_renewed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    with pytest.raises(InputError, match="has no snapshot to renew: make one with `lamella index`"):
        reindex(store, SerialRunner(), threads=1, watch=Watch())


def test_a_store_of_the_first_format_is_refused_in_a_sentence(tmp_path: Path) -> None:
    store = tmp_path / "store"
    open_store(str(store), create=True)
    old = b'{"format_version":1,"number":1,"seal":"x"}'
    for folder in ("snapshots", "promotions"):
        (store / folder).mkdir()
        (store / folder / "000001.json").write_bytes(old)
    with pytest.raises(OlderFormat, match="format version 1, this Lamella reads 2: index the pict"):
        reindex(open_store(str(store)), SerialRunner(), threads=1, watch=Watch())


def changed(source: Source) -> None:
    """Add, change, rename and delete a few."""
    source.write("a.png")
    source.write("d/001.png")
    source.move("b/000.png", "z.png")
    source.delete("f/002.png")


def killed(before: int, words: str, folder: Path) -> None:
    """Kill a reindex before a commit, and give it again."""
    source = filled(folder / "pictures")
    index(folder / "store", source, words)
    changed(source)
    with pytest.raises(Killed), counted_creates(die_before=before):
        again(folder / "store")
    snapshot, _ = again(folder / "store")
    fresh = index(folder / "fresh", source, words)
    assert snapshot.root_digest == fresh.root_digest
    found = verify_store(open_store(str(folder / "store")))
    assert (found.damage, found.unfinished) == ((), ())
    current = current_snapshot(open_store(str(folder / "store")))
    assert current == snapshot


@pytest.mark.parametrize("before", [2, 6])
def test_a_reindex_that_was_killed_ends_the_same(before: int, words: str, tmp_path: Path) -> None:
    killed(before, words, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("before", [1, 3, 4, 5, *range(7, 18)])
def test_a_reindex_killed_before_any_commit_ends_the_same(
    before: int, words: str, tmp_path: Path
) -> None:
    killed(before, words, tmp_path)


@pytest.mark.slow
def test_a_source_and_a_store_in_s3_cost_what_changed_too(
    words: str, tmp_path: Path, bucket: str
) -> None:
    source = filled(tmp_path / "pictures")
    place, store = upload(source.folder, f"s3://{bucket}/source"), f"s3://{bucket}/store"
    given_: dict[str, object] = {"name": "pictures", "vocabulary_from": words}
    tiny_index(store, place, **given_)
    target = parse_s3(place)
    for name in ("a.png", "d/001.png"):
        source.write(name)
        client().put(target.bucket, target.key(name), (source.folder / name).read_bytes())
    client().remove(target.bucket, target.key("f/002.png"))
    with counted() as cost:
        opened = open_store(store)
        snapshot = reindex(opened, SerialRunner(), threads=1, watch=Watch(), pictures=place)
    assert (cost.looked_at, cost.through_the_network) == (2, 2)
    fresh = tiny_index(f"s3://{bucket}/fresh", place, **given_)
    assert snapshot.root_digest == fresh.root_digest


def test_a_server_that_tells_neither_etag_nor_time_has_every_picture_read() -> None:
    assert version(Facts("a", 1, 0.0, "")) is None
    assert version(Facts("a", 1, 0.0, "x")) != version(Facts("a", 1, 0.0, "y"))
    assert version(Facts("a", 1, 1.0, "")) is not None


def test_a_snapshot_whose_job_is_gone_cannot_be_renewed(words: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "pictures")
    snapshot = index(tmp_path / "store", source, words)
    (tmp_path / "store" / snapshot.job).unlink()
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(InputError, match=r"the record of the job of snapshot 1, jobs/.*\.json, is"):
        reindex(store, SerialRunner(), threads=1, watch=Watch())


def test_a_source_that_is_empty_or_gone_leaves_the_snapshot_as_it_is(
    words: str, tmp_path: Path
) -> None:
    source = filled(tmp_path / "pictures")
    first = index(tmp_path / "store", source, words)
    for name in source.names:
        source.delete(name)
    with pytest.raises(InputError, match="holds no files"):
        again(tmp_path / "store")
    shutil.rmtree(source.folder)
    with pytest.raises(InputError, match="cannot be opened"):
        again(tmp_path / "store")
    assert current_snapshot(open_store(str(tmp_path / "store"))) == first


def test_one_picture_left_is_made_and_not_promoted(words: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "pictures")
    first = index(tmp_path / "store", source, words)
    for name in source.names[1:]:
        source.delete(name)
    with pytest.raises(NotPromoted, match=r"23 of 24 pictures of snapshot 1 are gone or changed"):
        again(tmp_path / "store")
    assert current_snapshot(open_store(str(tmp_path / "store"))) == first
