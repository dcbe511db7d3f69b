"""Bulk queries: batch by batch, resumable, each query in one state, nothing mixed in a run."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.extract import backbone
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.jobs.query_run import Answered
from lamella.pipeline.jobs.rankings import stored_run
from lamella.pipeline.search import encode
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.files import DoneRecord
from lamella.schemas.query import SearchMode
from tests.builders import Killed, counted_creates
from tests.pipeline.jobs.asker import Asker, Tiny, refused, rows
from tests.tiny import tiny_index, tiny_pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    folder = tmp_path_factory.mktemp("querying")
    once = functools.lru_cache(backbone.Backbone)
    with mock.patch.object(backbone, "Backbone", once):
        pictures = tiny_pictures(folder / "pictures")
        yield Tiny(pictures, folder / "store", tiny_index(folder / "store", pictures))


@pytest.fixture
def tiny(made: Tiny, tmp_path: Path) -> Tiny:
    store = Path(shutil.copytree(made.store, tmp_path / "store"))
    return Tiny(made.pictures, store, made.snapshot)


def contents(store: Path) -> dict[str, object]:
    """Return what the done records of all runs say was made, whichever attempt made it."""
    return {
        str(path.relative_to(store)): DoneRecord.from_json(path.read_bytes()).content()
        for path in sorted(store.glob("runs/**/done/*.json"))
    }


def test_batches_are_fetched_and_answered_one_after_the_other(tiny: Tiny) -> None:
    asker = Asker(tiny)
    answered = asker.images()
    # Five images by two: 2 + 2 + 1.
    assert asker.asked == [(what, n) for n in (2, 2, 1) for what in ("fetch", "answer")]
    run = answered.run
    assert (run.asked, run.queries, run.answered, run.refused) == ("images", 5, 5, 0)
    assert (run.certified, answered.queries, len(run.rankings)) == (5, 5, 3)
    found = rows(tiny, answered)
    assert [(row["query"], row["rank"]) for row in found] == [
        (q, r) for q in sorted(tiny.ids.values()) for r in (1, 2, 3)
    ]
    assert [row["image_id"] for row in found if row["rank"] == 1] == sorted(tiny.ids.values())
    assert all(row["query"] == tiny.ids[row["query_name"]] for row in found)
    assert all(row["image_id"] == tiny.ids[row["name"]] for row in found)
    assert [(s.units_done, s.units_total) for s in asker.stands] == [(0, 5), (2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("what", ["images", "pictures"])
def test_a_run_that_was_stopped_goes_on_and_ends_in_the_same_bytes(what: str, tiny: Tiny) -> None:
    whole = Asker(Tiny(tiny.pictures, tiny.store.parent / "whole", tiny.snapshot))
    shutil.copytree(tiny.store, whole.tiny.store)

    def ask(asker: Asker) -> Answered:
        return asker.images() if what == "images" else asker.pictures(tiny.pictures)

    expected = ask(whole)
    with pytest.raises(Killed):
        ask(Asker(tiny, die_before=1))
    assert len(list(tiny.store.glob("runs/query-*/rankings/done/*"))) == 1
    assert stored_run(LocalStore(tiny.store), expected.run.run) is None

    with counted_creates() as created:
        again = Asker(tiny)
        answered = ask(again)
    # Nothing is encoded again, and the first batch is neither fetched nor searched.
    assert [name.split("/")[-1] for name in created] == ["00001.json", "00002.json", "run.json"]
    assert [n for name, n in again.asked if name == "answer"] == [2, 1]
    assert sum(n for name, n in again.asked if name == "fetch") == (3 if what == "images" else 0)
    assert answered.queries == 3
    assert contents(tiny.store) == contents(whole.tiny.store)
    assert rows(tiny, answered) == rows(whole.tiny, expected)

    third = Asker(tiny)
    assert ask(third).run == answered.run
    assert third.asked == []


def test_a_batch_that_was_answered_is_not_encoded_again(tiny: Tiny) -> None:
    with pytest.raises(Killed):
        Asker(tiny, die_before=2).pictures(tiny.pictures)
    (encoded,) = tiny.store.glob("runs/queries-*")
    shutil.rmtree(encoded)
    with mock.patch.object(encode, "encode_pictures", wraps=encode.encode_pictures) as called:
        answered = Asker(tiny).pictures(tiny.pictures)
    assert called.call_count == 1
    assert (answered.run.answered, answered.run.refused, answered.queries) == (5, 1, 1)


def test_every_picture_of_a_source_is_answered_or_refused_by_its_number(
    tiny: Tiny, tmp_path: Path
) -> None:
    questions = tmp_path / "questions"
    shutil.copytree(tiny.pictures, questions)
    (questions / "01.notes.md").write_text("no picture, and none is meant")
    (questions / "02.page.jpg").write_text("<html>")
    # In byte order: 00.png 01.notes.md 01.png 02.page.jpg 02.png 03.png 04.png 05.png
    asker = Asker(tiny)
    answered = asker.pictures(questions)
    assert refused(tiny, answered) == [
        (3, "02.page.jpg", "not-an-image"),
        (7, "05.png", "truncated"),
    ]
    run = answered.run
    assert (run.asked, run.queries, run.answered, run.refused) == ("pictures", 7, 5, 2)
    best = {row["query"]: row for row in rows(tiny, answered) if row["rank"] == 1}
    found = {query: row["image_id"] for query, row in best.items()}
    assert found == dict(zip([0, 2, 4, 5, 6], tiny.of(0, 1, 2, 3, 4), strict=True))
    assert all(row["query_name"] == row["name"] for row in best.values())
    assert all(row["score"] == pytest.approx(2.0) for row in best.values())


def test_a_source_of_damaged_pictures_is_a_run_without_rankings(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("<html>")
    (tmp_path / "list.txt").write_text("bad.jpg\ngone.jpg\n")
    answered = Asker(tiny).pictures(tmp_path / "list.txt")
    assert rows(tiny, answered) == []
    assert refused(tiny, answered) == [
        (0, "bad.jpg", "not-an-image"),
        (1, "gone.jpg", "missing"),
    ]
    assert (answered.run.queries, answered.run.answered) == (2, 0)


def test_a_source_without_pictures_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match=r"empty\.txt holds no files: give"):
        Asker(tiny).pictures(tmp_path / "empty.txt")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("words")
    with pytest.raises(InputError, match="holds no query pictures: 1 file looked at, none of"):
        Asker(tiny).pictures(tmp_path / "texts")


def test_an_answer_without_proof_is_audited(tiny: Tiny) -> None:
    exact = Asker(tiny).images()
    assert (exact.run.audited, exact.run.recall) == (0, None)
    asker = Asker(tiny, mode="candidates", candidates=3)
    run = asker.images().run
    # One query of each of the three batches is asked again, for its three exact images.
    assert [n for what, n in asker.asked if what == "answer"] == [2, 1, 2, 1, 1, 1]
    assert (run.certified, run.audited, run.audit_wanted) == (0, 3, 9)
    assert run.recall == run.audit_found / 9
    assert run.audit_found >= 3  # each query finds itself
    # All images as candidates are proof, so there is nothing to audit.
    assert Asker(tiny, mode="paper", candidates=5).images().run.audited == 0


def test_expanded_queries_make_another_run_of_the_same_answers_in_batches_of_any_size(
    tiny: Tiny,
) -> None:
    plain, run = Asker(tiny).images(), Asker(tiny, expand=2).images()
    assert (plain.run.expand, run.run.expand, run.run.certified) == (0, 2, 5)
    assert run.run.inputs != plain.run.inputs
    assert "expand" not in plain.run.model_dump()
    assert [row["score"] for row in rows(tiny, run)] != [row["score"] for row in rows(tiny, plain)]
    for size in (1, 5):
        assert rows(tiny, Asker(tiny, expand=2, size=size).images()) == rows(tiny, run)
    # All images as candidates are proof; with three the run is audited, by the same question.
    all_of_them = Asker(tiny, expand=2, mode="paper", candidates=5).images()
    assert rows(tiny, all_of_them) == rows(tiny, run)
    few = Asker(tiny, expand=2, mode="candidates", candidates=3).images().run
    assert (few.certified, few.audited, few.audit_wanted) == (0, 3, 9)


def test_a_run_of_expanded_queries_goes_on_and_takes_nothing_else_in(tiny: Tiny) -> None:
    with pytest.raises(Killed):  # a batch asks twice
        Asker(tiny, expand=2, die_before=3).images(into="mine")
    with pytest.raises(IncompatibleInputs, match="run mine was begun with"):
        Asker(tiny).images(into="mine")
    assert Asker(tiny, expand=2).images(into="mine").queries == 3
    with pytest.raises(IncompatibleInputs, match=r"\(expand was 2, is 0\)"):
        Asker(tiny).images(into="mine")


@pytest.mark.parametrize(
    ("mode", "expand", "size"),
    [("exact", 0, 2), ("exact", 2, 5), ("candidates", 0, 2), ("candidates", 2, 2)],
)
def test_a_picture_that_is_left_out_of_its_answer_makes_room_for_one_more(
    mode: SearchMode, expand: int, size: int, tiny: Tiny
) -> None:
    common: dict[str, Any] = {"mode": mode, "candidates": 4, "expand": expand, "size": size}
    # What is left of the four best once the picture itself, or else the fourth, is taken out.
    wanted: list[dict[str, Any]] = []
    whole = rows(tiny, Asker(tiny, k=4, **common).images())
    for query in sorted(tiny.ids.values()):
        mine = [row for row in whole if row["query"] == query]
        others = [row for row in mine if row["image_id"] != query][:3]
        wanted += [row | {"rank": rank} for rank, row in enumerate(others, 1)]
    answered = Asker(tiny, k=3, exclude_self=True, **common).images()
    assert rows(tiny, answered) == wanted
    run = answered.run
    assert run.exclude_self
    assert run.certified == (5 if mode == "exact" else 0)
    if mode == "candidates":  # audited too: three others are wanted of each query
        assert run.audit_wanted == 3 * run.audited


def test_all_others_are_an_answer_where_k_is_larger(tiny: Tiny) -> None:
    answered = Asker(tiny, k=9, exclude_self=True).images(tiny.of(2, 4))
    assert (answered.run.longest, answered.run.certified) == (4, 2)
    for query in tiny.of(2, 4):
        found = [row["image_id"] for row in rows(tiny, answered) if row["query"] == query]
        assert sorted(found) == sorted(set(tiny.ids.values()) - {query})


def test_a_run_with_the_pictures_themselves_is_another_run(tiny: Tiny) -> None:
    plain = Asker(tiny).images(into="mine").run
    assert "exclude_self" not in plain.model_dump()
    with pytest.raises(IncompatibleInputs, match=r"\(exclude_self was False, is True\)"):
        Asker(tiny, exclude_self=True).images(into="mine")
    with pytest.raises(InputError, match="pictures from elsewhere are not in their own answers"):
        Asker(tiny, exclude_self=True).pictures(tiny.pictures)


@pytest.mark.parametrize("mode", ["exact", "candidates"])
def test_only_answers_of_a_least_score_are_given(tiny: Tiny, mode: SearchMode) -> None:
    whole = rows(tiny, Asker(tiny, k=5).images())
    score = sorted(row["score"] for row in whole)[len(whole) // 2]  # that of an answer stays in
    answered = Asker(tiny, k=5, above=score, mode=mode).images()
    found = rows(tiny, answered)
    assert found == [row for row in whole if row["score"] >= score]
    assert 0 < len(found) < len(whole)
    assert (answered.run.above, answered.run.certified) == (score, 5)
    with pytest.raises(IncompatibleInputs, match=f"above was {score}, is None"):
        Asker(tiny, k=5, mode=mode).images(into=answered.run.run)


def test_images_are_asked_in_the_order_named_and_once(tiny: Tiny) -> None:
    answered = Asker(tiny).images(tiny.of(4, 0, 4))
    asked = [row["query"] for row in rows(tiny, answered) if row["rank"] == 1]
    assert asked == tiny.of(4, 0)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([5], "image 5 is not in the snapshot, which has 5"),
        ([-1, 7, 10**30], "image -1 and 2 more are not in the snapshot"),
        ([], "no image is asked for, the snapshot has 5"),
    ],
)
def test_images_that_are_not_there_are_named_before_anything_is_asked(
    ids: list[int], said: str, tiny: Tiny
) -> None:
    asker = Asker(tiny)
    with pytest.raises(InputError, match=said):
        asker.images(ids)
    assert asker.asked == []
    assert not (tiny.store / "runs").exists()


def test_more_than_there_is_gives_all_there_is(tiny: Tiny) -> None:
    answered = Asker(tiny, k=1000).images(tiny.of(2))
    assert [row["rank"] for row in rows(tiny, answered)] == [1, 2, 3, 4, 5]
    assert (answered.run.k, answered.run.images, answered.run.certified) == (1000, 5, 1)


def test_a_named_run_is_found_by_its_name_and_has_the_answers_of_one_without(tiny: Tiny) -> None:
    named = Asker(tiny).images(into="nightly-2026")
    assert (tiny.store / "runs/nightly-2026/run.json").is_file()
    assert stored_run(LocalStore(tiny.store), "nightly-2026") == named.run
    plain = Asker(tiny).images()
    assert plain.run.run == f"query-{plain.run.inputs[:12]}"
    assert plain.run.inputs == named.run.inputs
    assert rows(tiny, named) == rows(tiny, plain)


@pytest.mark.parametrize("name", ["a b", "../up", "", ".hidden", "x" * 41, "a/b"])
def test_a_name_that_is_no_part_of_a_path_is_refused(name: str, tiny: Tiny) -> None:
    with pytest.raises(InputError, match="a run's name has at most 40 letters"):
        Asker(tiny).images(into=name)


def test_a_complete_run_takes_nothing_else_in(tiny: Tiny) -> None:
    run = Asker(tiny).images(into="mine").run
    with pytest.raises(
        IncompatibleInputs,
        match=rf"run mine .* digest {run.inputs[:12]}, this call has \w{{12}} \(k was 3, is 4\)",
    ):
        Asker(tiny, k=4).images(into="mine")
    with pytest.raises(IncompatibleInputs, match="other queries, or batches of another size"):
        Asker(tiny).images(tiny.of(1), into="mine")
    with pytest.raises(IncompatibleInputs, match="asked was images, is pictures"):
        Asker(tiny).pictures(tiny.pictures, into="mine")
    assert Asker(tiny).images(into="mine").run == run


def test_a_run_that_was_begun_takes_nothing_else_in(tiny: Tiny) -> None:
    with pytest.raises(Killed):
        Asker(tiny, die_before=1).images(into="mine")
    with pytest.raises(
        IncompatibleInputs,
        match=r"run mine was begun with .* digest \w{12}, this call has \w{12}: give them as",
    ):
        Asker(tiny, k=4).images(into="mine")
    assert Asker(tiny).images(into="mine").queries == 3


def test_a_run_belongs_to_one_snapshot(tiny: Tiny) -> None:
    first = Asker(tiny).images(into="mine").run
    other = tiny_index(tiny.store, tiny.pictures, fusion__preset="scaled")
    with pytest.raises(
        IncompatibleInputs,
        match=rf"{first.snapshot[:12]}, this call asks snapshot 2 with {other.root_digest[:12]}: "
        "choose the other one with --snapshot",
    ):
        Asker(tiny, other).images(into="mine")
    chosen = read_snapshot(LocalStore(tiny.store), 1)
    assert Asker(tiny, chosen).images(into="mine").run == first


def test_how_fast_a_call_was_counts_its_own_queries(tiny: Tiny) -> None:
    with pytest.raises(Killed):
        Asker(tiny, die_before=2).images()
    answered = Asker(tiny).images()
    assert answered.run.answered == 5
    assert Answered(answered.run, 30, 1.5, answered.store).queries_per_second == 20.0
    assert "this call answered 1 in" in answered.summary()
    assert "this run was complete" in Asker(tiny).images().summary()
