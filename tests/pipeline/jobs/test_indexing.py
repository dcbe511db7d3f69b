"""Indexing as a job: what it accounts for, and when it stops."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from lamella.pipeline.accounts import check_refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.extract import determinism
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.indexing import (
    choose_shard_size,
    corpus_name,
    find_imports,
    settle_keep,
)
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.vocabulary import import_words
from lamella.pipeline.vocabulary.exchange import export_vocabulary
from tests import builders
from tests.builders import Killed, counted_creates, index_into, small_job
from tests.conftest import Indexed
from tests.tiny import tiny_index, tiny_pictures


@pytest.fixture
def pictures(planted: Path, tmp_path: Path) -> Path:
    """Eight pictures of their own, to be harmed."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, path in enumerate(sorted(planted.rglob("*.jpg"))[:8]):
        shutil.copy2(path, folder / f"{number}.jpg")
    return folder


def harm(folder: Path, *numbers: int) -> None:
    for number in numbers:
        path = folder / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:2_000])


def test_every_picture_is_indexed_refused_or_ignored(pictures: Path, tmp_path: Path) -> None:
    harm(pictures, 3, 5)
    (pictures / "2.jpg").write_bytes(b"")
    (pictures / "notes.txt").write_text("not a picture, and not named like one")
    snapshot = index_into(tmp_path / "store", pictures, job=small_job(corpus__shard_images=3))
    assert (snapshot.images, snapshot.indexed, snapshot.refused) == (8, 5, 3)
    assert snapshot.refused_by_reason == {"empty-file": 1, "truncated": 2}
    assert snapshot.ignored == 1
    assert sum(segment.images for segment in snapshot.segments) == 5


def test_too_many_refused_headers_stop_a_job_before_the_network(
    pictures: Path, tmp_path: Path
) -> None:
    for number in range(4):
        (pictures / f"{number}.jpg").write_bytes(b"")
    # 4 is above the 3 that never stop a job, and 50 % above the 10 % allowed.
    with pytest.raises(
        StageFailed,
        match=r"^4 of 8 pictures were refused \(4 empty-file\), 50\.0%; the job allows 10\.0%: see",
    ):
        index_into(tmp_path / "store", pictures)
    assert not (tmp_path / "store" / "activations").exists()


def test_too_many_refused_pictures_stop_a_job_and_the_reasons_are_counted(
    pictures: Path, tmp_path: Path
) -> None:
    harm(pictures, 0, 1, 2)
    (pictures / "3.jpg").write_bytes(b"")
    store = tmp_path / "store"
    with pytest.raises(
        StageFailed,
        match=r"4 of 8 .* \(3 truncated, 1 empty-file\), 50\.0%; .* raise --max-refused",
    ):
        index_into(store, pictures)
    assert current_snapshot(LocalStore(store)) is None
    # Allowed to, the same job goes on from what it had.
    snapshot = index_into(store, pictures, job=small_job(corpus__max_refused=0.5))
    assert (snapshot.indexed, snapshot.refused) == (4, 4)


def test_few_refused_never_stop_a_job() -> None:
    check_refused(3, 3, 0.0, {})
    check_refused(10, 100, 0.1, {})
    with pytest.raises(StageFailed, match="11 of 100"):
        check_refused(11, 100, 0.1, {})


def test_what_stops_a_job_names_the_top_reasons() -> None:
    reasons = {"too-slow": 1, "missing": 30, "truncated": 1_200, "changed": 1, "corrupt": 4}
    with pytest.raises(StageFailed, match="1,236 of 2,000 pictures were refused") as raised:
        check_refused(1_236, 2_000, 0.1, reasons)
    assert "(1,200 truncated, 30 missing, 4 corrupt and 2 for other reasons), 61.8%" in str(
        raised.value
    )


def test_a_corpus_without_a_readable_picture_is_no_index(pictures: Path, tmp_path: Path) -> None:
    for path in pictures.iterdir():
        path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(InputError, match=r"8 pictures and none can be read \(8 truncated\)"):
        index_into(tmp_path / "store", pictures, job=small_job(corpus__max_refused=1.0))


def test_more_words_than_descriptors_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"layer p15 gave [\d,]+ descriptors for 1,000,000 words"):
        index_into(tmp_path / "store", pictures, job=small_job(vocabulary__words=1_000_000))


def test_global_layers_alone_need_no_words(pictures: Path, tmp_path: Path) -> None:
    snapshot = index_into(tmp_path / "store", pictures, job=small_job(network__layers=["head"]))
    assert snapshot.vocabularies == {}
    assert snapshot.document_frequencies == {}
    assert set(snapshot.segments[0].files) == {
        *("images", "head.dense", "head.sketch", "head.axes", "head.drawn")
    }


def test_a_corpus_that_grew_is_another_snapshot(pictures: Path, tmp_path: Path) -> None:
    first = index_into(tmp_path / "store", pictures)
    shutil.copy(pictures / "0.jpg", pictures / "9.jpg")
    second = index_into(tmp_path / "store", pictures)
    assert (first.number, second.number, second.images) == (1, 2, 9)
    assert first.root_digest != second.root_digest


def test_a_source_that_moved_is_the_same_corpus(pictures: Path, tmp_path: Path) -> None:
    first = index_into(tmp_path / "store", pictures)
    moved = pictures.parent / "elsewhere" / pictures.name
    moved.parent.mkdir()
    pictures.rename(moved)
    assert index_into(tmp_path / "store", moved).root_digest == first.root_digest


@pytest.mark.parametrize(
    ("entries", "size"),
    [(1, 32), (700, 32), (1_000, 64), (5_000, 256), (8_000, 512), (1_000_000, 512)],
)
def test_a_shard_is_a_sixteenth_in_powers_of_two_within_bounds(entries: int, size: int) -> None:
    assert choose_shard_size(entries) == size


def test_a_corpus_is_named_after_its_source(pictures: Path) -> None:
    listing = list_source(str(pictures))
    assert corpus_name(str(pictures), listing) == "pictures"
    assert corpus_name(f"{pictures}/", listing) == "pictures"
    single = str(pictures / "0.jpg")
    assert corpus_name(single, list_source(single)) == "0"


def test_a_corpus_grown_in_steps_has_the_segments_of_one_built_at_once(tmp_path: Path) -> None:
    grown, store = tmp_path / "pictures", tmp_path / "grown"
    every = tiny_pictures(tmp_path / "every" / "pictures", 12, broken=0)
    grown.mkdir()
    steps = []
    # Shards of 4, 4, 2 and 2 pictures, by their names; words would be those of the first four.
    alone: dict[str, object] = {"index__segment_images": 6, "network__layers": ["head"]}
    for count in (4, 8, 12):
        for path in sorted(every.iterdir())[:count]:
            if not (grown / path.name).exists():
                shutil.copy2(path, grown)
        steps.append(tiny_index(store, grown, **alone, gate__added=1))
    assert [[each.images for each in step.segments] for step in steps] == [
        [4],
        [4, 4],
        [4, 4, 2, 2],
    ]
    at_once = tiny_index(tmp_path / "at-once", every, **alone)
    assert steps[-1].root_digest == at_once.root_digest
    # What did not change is one and the same segment.
    paths = [[each.files["images"].path for each in step.segments] for step in steps]
    assert paths[0][0] == paths[1][0] == paths[2][0]
    for step in steps:
        assert SegmentSearcher(str(store), step).ready() == step.images


def test_larger_segments_are_made_of_what_is_there_and_answer_the_same(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    small = tiny_index(tmp_path / "store", pictures)
    before = {path for path in tmp_path.glob("store/**/*") if path.is_file()}
    large = tiny_index(tmp_path / "store", pictures, index__segment_images=100)
    made = {path for path in tmp_path.glob("store/**/*") if path.is_file()} - before
    assert (len(small.segments), len(large.segments)) == (2, 1)
    assert (small.number, large.number) == (1, 2)
    kinds = {path.relative_to(tmp_path / "store").parts[0] for path in made}
    assert kinds == {"jobs", "segments", "totals", "snapshots", "gates", "promotions"}
    answers = []
    for snapshot in (small, large):
        searcher = SegmentSearcher(str(tmp_path / "store"), snapshot)
        coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
        layers = [entry.layer for entry in snapshot.fusion.layers]
        asked = coordinator.features(coordinator.image_ids().tolist(), layers)
        answers.append(coordinator.answer(asked, snapshot.fusion, 5))
    for name in ("image_ids", "scores", "similarities"):
        assert getattr(answers[0], name).tobytes() == getattr(answers[1], name).tobytes()


def test_descriptors_are_kept_only_if_something_is_tried_or_trained_on_them(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, words = indexed.snapshot, tmp_path / "words"
    export_vocabulary(
        LocalStore(indexed.store), snapshot.vocabularies["p15"], snapshot.extraction, words
    )
    description = words / "p15.json"
    bare = {k: v for k, v in json.loads(description.read_text()).items() if k != "cells"}
    description.write_text(json.dumps(bare))

    def keep(**settings: object) -> str | None:
        job = small_job(**settings)
        imports = find_imports(job, snapshot.extraction)
        return settle_keep(job, snapshot.extraction, imports).activations.keep

    given = {"vocabulary_from": str(words)}
    assert keep() == "all"
    assert keep(**given) == "none"
    assert keep(**given, activations__keep="all") == "all"
    # More words than are all compared with: into how many cells to look is to be found out.
    monkeypatch.setattr(import_words, "EXACT_UP_TO", 63)
    assert keep(**given) == "all"
    with pytest.raises(InputError, match=r"p15\.json has more than 63 words and does not say"):
        keep(**given, activations__keep="none")


def test_a_job_that_goes_on_on_another_kind_of_machine_says_so(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_index(tmp_path / "whole", pictures)
    assert "torch" in whole.machine
    assert " | " not in whole.machine
    with counted_creates() as created:
        tiny_index(tmp_path / "store", pictures)
    last = max(n for n, path in enumerate(created) if "activations/" in path)
    with pytest.raises(Killed), counted_creates(die_before=last):
        tiny_index(tmp_path / "killed", pictures)
    monkeypatch.setattr(determinism, "kind_of_machine", lambda device, precision: "another")
    notes: list[str] = []
    monkeypatch.setattr(builders, "Watch", partial(Watch, note=notes.append))
    mixed = tiny_index(tmp_path / "killed", pictures)
    assert [line.partition(" (")[0] for line in notes] == [
        "pictures was extracted on several kinds of machine"
    ]
    assert mixed.machine == " | ".join(sorted([whole.machine, "another"]))
    assert mixed.root_digest == whole.root_digest  # it is in no digest
