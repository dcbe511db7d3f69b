"""With words at hand one pass gives the bits of two, and no descriptor reaches the store."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.diagnostics.compare_snapshots import draw_others
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract import sink
from lamella.pipeline.index.files import read_bags, read_dense
from lamella.pipeline.index.shards import Records, finder_of, shards_of
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import read_parquet
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.retry_refused import retry_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.files import DoneRecord
from lamella.schemas.refusals import RefusalReason
from tests.builders import Killed, counted_creates, index_into
from tests.end_to_end.commands import Stores, current, exported, shard_of
from tests.end_to_end.test_retry import extracted
from tests.faulty import away
from tests.nightly import counted
from tests.tiny import tiny_index, tiny_job


@pytest.fixture(scope="module")
def words(stores: Stores) -> str:
    return str(exported(stores))


@pytest.fixture(scope="module")
def one(stores: Stores, words: str) -> Path:
    """A store made in one pass; read it, copy it, keep it."""
    store = stores.one.parent / "one-pass"
    tiny_index(store, stores.pictures, vocabulary_from=words)
    return store


def names(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


def made(store: Path, folder: str) -> dict[str, object]:
    """Return what the done records of a folder say was made, whichever attempt made it."""
    found: dict[str, object] = {
        str(path.relative_to(store)): DoneRecord.from_json(path.read_bytes()).content()
        for path in sorted((store / folder).rglob("done/*.json"))
    }
    assert len(found) >= 2
    return found


def made_from(store: Path) -> list[Records]:
    """Return what the current snapshot was made from: records of extraction and of words."""
    place, snapshot = LocalStore(store), current(store)
    found = finder_of(place, snapshot)(shards_of(place, snapshot))
    assert len(found) == 2
    return [records for records in found if records is not None]


def bags(store: Path) -> dict[int, tuple[list[int], list[int]]]:
    """Return the words and counts of each image."""
    found = {}
    for _, words in made_from(store):
        image_ids, each = read_bags(store / words.files["p15"].path)
        for image_id, first, stop in zip(
            image_ids, each.offsets[:-1], each.offsets[1:], strict=True
        ):
            found[int(image_id)] = each.words[first:stop].tolist(), each.counts[first:stop].tolist()
    return found


def refusals(store: Path) -> list[dict[str, object]]:
    files = [extracted.files["refusals"] for extracted, _ in made_from(store)]
    return [row for file in files for row in read_parquet(store / file.path).to_pylist()]


def answers(store: Path) -> bytes:
    snapshot = current(store)
    coordinator = Coordinator(LocalServers(SegmentSearcher(str(store), snapshot)), snapshot.indexed)
    layers = [entry.layer for entry in snapshot.fusion.layers]
    asked = coordinator.features(coordinator.image_ids().tolist(), layers)
    given = coordinator.answer(asked, snapshot.fusion, 5)
    return b"".join(
        getattr(given, name).tobytes() for name in ("image_ids", "scores", "similarities")
    )


def test_one_pass_gives_the_bits_of_two(
    stores: Stores, words: str, one: Path, tmp_path: Path
) -> None:
    kept = {"vocabulary_from": words, "activations__keep": "all"}
    two = tiny_index(tmp_path / "two", stores.pictures, **kept)
    once = current(one)
    assert two.keeps_descriptors
    assert not once.keeps_descriptors
    mine, theirs = bags(one), bags(tmp_path / "two")
    names = ImageTable(LocalStore(one), once).names_of(sorted(mine)).to_pylist()
    assert sorted(names) == ["00.png", "01.png", "02.png", "03.png", "04.png"]
    assert any(counts for _, counts in mine.values())
    for image_id in mine:
        assert mine[image_id] == theirs[image_id], image_id
    for a, b in zip(once.segments, two.segments, strict=True):
        for x, y in zip(
            read_dense(one / a.files["head.dense"].path),
            read_dense(tmp_path / "two" / b.files["head.dense"].path),
            strict=True,
        ):
            np.testing.assert_array_equal(x, y)
    assert refusals(one) == refusals(tmp_path / "two")
    assert len(refusals(one)) == 1
    assert once.refused_by_reason == {"truncated": 1}
    assert answers(one) == answers(tmp_path / "two")
    assert once.root_digest == two.root_digest
    # What decides segments is the same too, and so they lie in the same folder,
    assert made(one, "segments") == made(tmp_path / "two", "segments")
    # and one pass over what was indexed in two ends in the snapshot that is there.
    assert tiny_index(tmp_path / "two", stores.pictures, vocabulary_from=words) == two
    assert verify_store(LocalStore(tmp_path / "two")).damage == ()


def test_no_descriptor_is_written(one: Path) -> None:
    written = {name for name in names(one) if name.startswith("activations/")}
    layers = {(name.split("/")[2], name.rpartition(".")[2]) for name in written}
    assert layers == {
        *(("done", "json"), ("images", "parquet"), ("refusals", "parquet")),
        *(("head", "parquet"), ("p15", "arrow")),
    }
    assert not (one / "bags").exists()


def test_every_reader_finds_its_way(one: Path) -> None:
    store = LocalStore(one)
    found = verify_store(store)
    assert (found.damage, found.orphans, found.unfinished) == ((), (), ())
    (account,) = store_status(store)["corpora"]
    assert account["states"] == {"indexed": 5, "refused: truncated": 1}
    assert collect_garbage(store, older_than_s=-1.0, forced=True).removed == ()


def test_threads_change_no_byte(stores: Stores, words: str, one: Path, tmp_path: Path) -> None:
    job = tiny_job(vocabulary_from=words)
    index_into(tmp_path / "store", stores.pictures, job=job, threads=2)
    assert made(tmp_path / "store", "") == made(one, "")


def test_how_many_descriptors_are_compared_at_once_changes_no_byte(
    stores: Stores, words: str, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "GROUP_BYTES", 1)
    tiny_index(tmp_path / "store", stores.pictures, vocabulary_from=words)
    once, again = current(one), current(tmp_path / "store")
    assert bags(one) == bags(tmp_path / "store")
    assert once.root_digest == again.root_digest


@pytest.mark.slow
def test_killed_before_any_commit_a_run_ends_in_the_same_bytes(
    stores: Stores, words: str, one: Path, tmp_path: Path
) -> None:
    def run(store: Path) -> None:
        tiny_index(store, stores.pictures, vocabulary_from=words)

    with counted_creates() as creates:
        run(tmp_path / "whole")
    for number, name in enumerate(creates):
        store = tmp_path / f"killed-{number}"
        with pytest.raises(Killed), counted_creates(die_before=number):
            run(store)
        with counted_creates() as after:
            run(store)
        assert after == creates[number:], f"killed before {name}"
        assert made(store, "") == made(one, ""), f"killed before {name}"
        shutil.rmtree(store)
    assert sum("/activations/" in f"/{name}" for name in creates) == 2


def test_what_a_grown_corpus_has_in_common_is_taken_over(
    stores: Stores, words: str, one: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(one, tmp_path / "store"))
    grown = Path(shutil.copytree(stores.pictures, tmp_path / "pictures"))
    shutil.copy(grown / "00.png", grown / "06.png")
    with extracted() as keys, counted() as cost:
        second = tiny_index(store, grown, vocabulary_from=words)
    # The first shard holds the pictures it held; the other one was of two and is of three, of
    # which one is a copy of a picture that was indexed, and one cannot be read.
    assert keys == [shard_of(store, "06.png").key]
    assert shard_of(store, "00.png") == shard_of(one, "00.png")
    assert cost.through_the_network == 1
    assert (second.number, second.indexed) == (2, 6)
    fresh = tiny_index(tmp_path / "fresh", grown, vocabulary_from=words)
    assert second.root_digest == fresh.root_digest
    assert verify_store(LocalStore(store)).damage == ()
    # Other words are other bags: nothing is taken over, nor where descriptors are to be kept.
    with extracted() as keys, counted() as cost:
        tiny_index(store, grown, vocabulary_from=words, activations__keep="all")
    assert keys == [shard_of(store, name).key for name in ("00.png", "06.png")]
    assert cost.through_the_network == 7


@pytest.mark.parametrize("first_reads", [0, 1], ids=["when listed", "when extracted"])
def test_a_picture_that_was_away_is_read_again_with_its_words(
    first_reads: int, stores: Stores, words: str, one: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with away("02.png", first_reads=first_reads):
        first = tiny_index(store, stores.pictures, vocabulary_from=words)
    assert first.refused_by_reason == {"fetch-failed": 1, "truncated": 1}
    with extracted() as keys:
        done = retry_store(
            LocalStore(store),
            SerialRunner(),
            {RefusalReason.FETCH_FAILED},
            threads=1,
            watch=Watch(),
        )
    assert keys == [shard_of(store, "02.png").key]
    assert done.snapshot.root_digest == current(one).root_digest
    assert verify_store(LocalStore(store)).damage == ()


@pytest.mark.parametrize(
    "pattern",
    [
        "activations/*/p15/*",
        "activations/*/done/*.json",
        "vocabularies/*/*/vocabulary.json",
        "segments/*/p15/*.postings.arrow",
    ],
)
@pytest.mark.parametrize("kind", ["flipped", "deleted"])
def test_what_is_damaged_is_rebuilt(pattern: str, kind: str, one: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(one, tmp_path / "store"))
    path = sorted(store.glob(pattern))[0]
    if kind == "deleted":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    assert verify_store(LocalStore(store)).damage
    done = repair_store(LocalStore(store), SerialRunner(), threads=1)
    assert done.after == ()
    assert len(done.tasks) <= 1
    assert made(store, "") == made(one, "")
    assert answers(store) == answers(one)


def test_descriptors_that_are_wanted_and_gone_are_named(one: Path) -> None:
    with pytest.raises(
        InputError, match=r'^activations were not kept: .* run with activations\.keep = "all"'
    ):
        draw_others(LocalStore(one), current(one), "p15")


def test_nothing_to_train_on_and_no_words_are_refused(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'activations\.keep = "none" needs words'):
        tiny_index(tmp_path / "store", stores.pictures, activations__keep="none")
    assert not (tmp_path / "store" / "jobs").exists()
    # Without a local layer there are no words to give, and no descriptors to keep.
    settings = {"activations__keep": "none", "network__layers": ["head"]}
    assert tiny_index(tmp_path / "store", stores.pictures, **settings).indexed == 5
