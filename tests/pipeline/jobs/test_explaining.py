"""Explanations of tiny stores: figures of a query, words found again, pictures that are gone."""

import itertools
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.matches import Match
from lamella.pipeline.evaluate.pair import Explanation
from lamella.pipeline.extract.given import Given
from lamella.pipeline.jobs import pictures_again
from lamella.pipeline.jobs.explaining import explain_pair, matched_words
from lamella.pipeline.jobs.pair_names import chosen_query, chosen_result
from lamella.pipeline.jobs.pictures_again import Opening, opening_at, seen_again, shown_picture
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search import located
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.storage import open_store
from lamella.schemas.query import FusionSpec
from tests.end_to_end.commands import Stores, current, tiny_runs
from tests.tiny import ids_by_name, tiny_index

LAYERS = ("head", "p15")


class Open:
    """A tiny store, opened."""

    def __init__(self, store: Path, pictures: Path | None = None) -> None:
        self.snapshot = current(store)
        self.searcher = SegmentSearcher(str(store), self.snapshot)
        self.coordinator = Coordinator(LocalServers(self.searcher), self.snapshot.indexed)
        told = None if pictures is None else str(pictures)
        opened = open_store(str(store))
        place = Place(opened, self.snapshot, SerialRunner(), 1, pictures=told)
        self.opening = opening_at(place, self.coordinator, None)
        self.ids = ids_by_name(store, self.snapshot)

    def explain(
        self,
        query: int | Given,
        result: int,
        fusion: FusionSpec | None = None,
        opening: Opening | None = None,
    ) -> Explanation:
        spec = fusion or self.snapshot.fusion
        weighting = self.snapshot.weighting
        return explain_pair(opening or self.opening, self.searcher, query, result, spec, weighting)

    def matched(self, pairs: list[tuple[int, int]], **more: Any) -> dict[Any, tuple[Match, ...]]:
        weights = self.searcher.word_weights()
        return matched_words(self.opening, pairs, LAYERS, weights, **more)


@pytest.fixture(scope="module")
def one(stores: Stores) -> Open:
    return Open(stores.one)


@pytest.fixture
def moved(stores: Stores, tmp_path: Path) -> Path:
    """Copies of the pictures, which a test may change."""
    return Path(shutil.copytree(stores.pictures, tmp_path / "pictures"))


def check_words(found: Explanation) -> None:
    assert (found.query.found, found.result.found) == ("same", "same")
    for layer in found.local_layers:
        matches = found.matches_of(layer.layer)
        assert math.fsum(m.weight for m in matches) == pytest.approx(layer.similarity, abs=1e-14)
        assert [m.weight for m in matches] == sorted((m.weight for m in matches), reverse=True)
        assert len(matches) <= layer.shared <= min(layer.query_words, layer.result_words)
        for match in matches:
            for box in (*match.query_boxes, *match.result_boxes):
                assert min(box) >= 0.0
                assert box[0] + box[2] <= 1.0 + 1e-9
                assert box[1] + box[3] <= 1.0 + 1e-9
            assert match.query_boxes
            assert match.result_boxes


def test_figures_are_those_of_a_query_to_the_bit(one: Open) -> None:
    ids, fusion = list(one.ids.values()), one.snapshot.fusion
    batch = one.coordinator.features(ids, LAYERS)
    answer = one.coordinator.answer(batch, fusion, len(ids))
    for place, query in enumerate(ids):
        for rank, result in enumerate(answer.image_ids[place].tolist(), start=1):
            if result == query:
                continue
            found = one.explain(query, result)
            assert (found.rank, found.images) == (rank, len(ids))
            assert found.score == answer.scores[place, rank - 1]
            similarities = [layer.similarity for layer in found.layers]
            assert similarities == answer.similarities[place, rank - 1].tolist()
            assert sum(layer.part for layer in found.layers) == found.score
            around = answer.image_ids[place].tolist()
            assert [near.image_id for near in found.above] == around[max(rank - 3, 0) : rank - 1]
            assert [near.image_id for near in found.below] == around[rank : rank + 2]
            check_words(found)


def test_all_words_are_found_again(one: Open) -> None:
    seen = seen_again(one.opening, list(one.ids.values()), LAYERS)
    assert [each.found for each in seen.values()] == ["same"] * len(one.ids)
    # Every word of a picture has a place in it, and the cells of all words are those of the grid.
    places = [each.again.places["p15"] for each in seen.values() if each.again]
    for found in places:
        cells = set(itertools.chain.from_iterable(found.at.values()))
        assert cells == set(itertools.product(*map(range, found.grid)))


def test_many_pairs_take_one_pass_a_picture(one: Open) -> None:
    ids = list(one.ids.values())
    pairs = list(itertools.permutations(ids[:4], 2))
    with counted_reads() as read:
        found = one.matched(pairs)
    assert sorted(read) == sorted(ids[:4])
    assert list(found) == pairs
    for (query, result), matches in found.items():
        assert matches == one.explain(query, result).matches


@contextmanager
def counted_reads() -> Iterator[list[int]]:
    """Note the ids of the pictures that go through the network."""
    noted: list[int] = []
    locate = located.locate_pictures

    def counting(encoder: Any, source: Any, rows: Any) -> Any:
        noted.extend(row["image_id"] for row in rows)
        return locate(encoder, source, rows)

    with mock.patch.object(pictures_again, "locate_pictures", counting):
        yield noted


def test_a_query_may_be_a_part_of_a_picture(one: Open) -> None:
    query, result = list(one.ids.values())[:2]
    whole = one.matched([(query, result)])
    assert one.matched([(query, result)], crops={query: (0, 0, 40, 40)}) == whole
    half = one.matched([(query, result)], crops={query: (20, 0, 40, 40)})
    boxes = [box for match in half[query, result] for box in match.query_boxes]
    assert boxes
    assert min(x for x, _, _, _ in boxes) >= 0.5
    assert max(x + width for x, _, width, _ in boxes) <= 1.0 + 1e-9


def test_a_picture_that_has_changed_is_explained_without_places(
    stores: Stores, moved: Path, one: Open
) -> None:
    query, result = one.ids["00.png"], one.ids["01.png"]
    shutil.copyfile(moved / "02.png", moved / "01.png")
    found = Open(stores.one, moved).explain(query, result)
    assert found.query.note == ""
    assert "it has changed since it was indexed" in found.result.note
    assert found.result.found == "not read"
    before = one.explain(query, result)
    assert replace(found, result=before.result, matches=before.matches) == before
    assert found.matches == tuple(replace(each, result_boxes=()) for each in before.matches)


def test_a_picture_that_is_gone(stores: Stores, moved: Path, one: Open) -> None:
    query, result = one.ids["00.png"], one.ids["01.png"]
    (moved / "00.png").unlink()
    opened = Open(stores.one, moved)
    found = opened.explain(query, result)
    assert "cannot be read any more, nothing is there" in found.query.note
    assert found.result.found == "same"
    assert shown_picture(opened.opening, query) is None
    assert opened.matched([(query, result)], crops={query: (0, 0, 20, 20)}) == {}


def test_all_pictures_gone(stores: Stores, moved: Path, one: Open) -> None:
    query, result = one.ids["00.png"], one.ids["01.png"]
    opened = Open(stores.one, moved)
    shutil.rmtree(moved)
    found = opened.explain(query, result)
    assert (found.query.found, found.result.found) == ("not read", "not read")
    assert str(moved) in found.result.note
    assert found.score == one.explain(query, result).score


def test_without_the_network_there_are_no_places(one: Open) -> None:
    def away() -> Any:
        raise InputError("no weights on this machine")

    query, result = one.ids["00.png"], one.ids["01.png"]
    found = one.explain(query, result, opening=replace(one.opening, encoder=away))
    assert found.result.note == "no weights on this machine"
    assert found.matches
    alone = one.snapshot.fusion.alone("head")
    found = one.explain(query, result, alone, replace(one.opening, encoder=away))
    assert (found.result.note, found.matches, found.local_layers) == ("", (), ())
    assert [each.kind for each in found.ranks] == ["alone", "mapped"]


def test_other_words_than_the_index_has_are_told_of(one: Open) -> None:
    query, result = one.ids["00.png"], one.ids["01.png"]
    with mock.patch.object(pictures_again, "same_words", return_value=False):
        found = one.explain(query, result)
    assert found.result.found == "others"
    assert "its words in p15 are not quite those of the index" in found.result.note
    assert found.matches == one.explain(query, result).matches


def test_a_picture_from_elsewhere(one: Open, stores: Stores) -> None:
    result = one.ids["01.png"]
    path = stores.pictures / "00.png"
    twin = one.explain(one.ids["00.png"], result)
    for content in (str(path), path.read_bytes()):
        found = one.explain(Given("mine.png", content), result)
        assert (found.query.name, found.query.image_id) == ("mine.png", None)
        assert replace(found, query=twin.query) == twin
        shown = shown_picture(one.opening, Given("mine.png", content))
        assert shown is not None
        assert (shown.width, shown.height) == (40, 40)
    broken = Given("broken.png", str(stores.pictures / "05.png"))
    with pytest.raises(InputError, match=r"'broken\.png' cannot be read: "):
        one.explain(broken, result)
    assert shown_picture(one.opening, broken) is None


def test_pixels_as_a_query(one: Open) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    given = Given("array 0", pixels)
    found = one.explain(given, one.ids["01.png"])
    assert 1 <= found.rank <= found.images
    shown = shown_picture(one.opening, given)
    assert shown is not None
    assert (shown.width, shown.height) == (60, 40)


def test_a_picture_is_not_explained_by_itself(one: Open) -> None:
    with pytest.raises(InputError, match=r"QUERY and RESULT are both 00\.png \(image"):
        one.explain(one.ids["00.png"], one.ids["00.png"])


def test_layers_of_residuals(stores: Stores, tmp_path: Path) -> None:
    with tiny_runs():
        tiny_index(tmp_path / "store", stores.pictures, encoding__kind="asmk")
        opened = Open(tmp_path / "store")
        ids = list(opened.ids.values())
        for query, result in itertools.permutations(ids[:3], 2):
            check_words(opened.explain(query, result))


def test_an_index_without_local_layers(stores: Stores, tmp_path: Path) -> None:
    with tiny_runs(), counted_reads() as read:
        tiny_index(tmp_path / "store", stores.pictures, network__layers=["head"])
        opened = Open(tmp_path / "store")
        query, result = list(opened.ids.values())[:2]
        found = opened.explain(query, result)
        assert (found.matches, found.local_layers, read) == ((), (), [])
        assert matched_words(opened.opening, [(query, result)], ["head"], {}) == {}


def test_names_go_before_files(one: Open, stores: Stores, tmp_path: Path) -> None:
    images, snapshot = one.opening.images, one.snapshot
    assert chosen_query(images, snapshot, "00.png") == one.ids["00.png"]
    assert chosen_result(images, snapshot, "00.png") == one.ids["00.png"]
    given = chosen_query(images, snapshot, str(stores.pictures / "00.png"))
    assert isinstance(given, Given)
    image_id = one.ids["01.png"]
    assert chosen_result(images, snapshot, str(image_id), by_id=True) == image_id
    (tmp_path / "17").write_bytes(b"x")
    assert isinstance(chosen_query(images, snapshot, str(tmp_path / "17")), Given)


@pytest.mark.parametrize(
    ("text", "by_id", "said"),
    [
        ("x/00.png", False, "has none called 'x/00.png'; names like it: 00.png"),
        ("0.png", False, "has none called '0.png'; names like it: "),
        ("05.png", False, "picture '05.png' was refused when it was indexed"),
        ("17", True, "image 17 is not in the snapshot, which has 5 images"),
        ("9" * 30, True, "is not in the snapshot"),
        ("17", False, "has none called '17'"),
    ],
)
def test_results_that_are_not_there(one: Open, text: str, by_id: bool, said: str) -> None:
    with pytest.raises(InputError) as raised:
        chosen_result(one.opening.images, one.snapshot, text, by_id=by_id)
    assert said in str(raised.value)


def test_queries_that_are_not_there(one: Open, tmp_path: Path) -> None:
    def ask(text: str) -> None:
        chosen_query(one.opening.images, one.snapshot, text)

    with pytest.raises(InputError, match=r"'no\.jpg' is neither"):
        ask("no.jpg")
    with pytest.raises(InputError, match="is a folder: name a file in it"):
        ask(str(tmp_path))
    with pytest.raises(InputError, match=r"picture cannot be read from 'ftp://a/b\.jpg'"):
        ask("ftp://a/b.jpg")


def test_a_name_of_several_pictures_asks_for_an_id(one: Open) -> None:
    with (
        mock.patch.object(ImageTable, "all_named", return_value=([3, 9], 0)),
        pytest.raises(InputError, match=r"2 indexed pictures are called 'a': .* --id \(3, 9\)"),
    ):
        chosen_result(one.opening.images, one.snapshot, "a")
