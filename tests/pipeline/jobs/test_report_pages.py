"""Thumbnails and the files of a page: each picture read once, those that are gone said."""

import dataclasses
import io
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from lamella.cluster.commands.evaluate import Asked, evaluate_store
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.page_queries import MOST_WORDS, SCALE, telling_queries
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs import report_page
from lamella.pipeline.jobs.evaluating import Evaluated
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.report_page import Wanted, check_folder, wanted_page, write_pages
from lamella.pipeline.jobs.thumbnails import THUMBNAIL_EDGE, thumbnail, thumbnails
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.local import LocalStore
from tests.end_to_end.commands import ENGINE, Stores, tiny_runs
from tests.report_pages import drawn, jpeg, report_of
from tests.tiny import ids_by_name, tiny_job


@pytest.fixture
def place(stores: Stores, tmp_path: Path) -> Place:
    store = LocalStore(Path(shutil.copytree(stores.one, tmp_path / "store")))
    snapshot = current_snapshot(store)
    assert snapshot is not None
    pictures = shutil.copytree(stores.pictures, tmp_path / "pictures")
    return Place(store, snapshot, SerialRunner(), 1, pictures=str(pictures))


@pytest.fixture
def ids(place: Place) -> dict[str, int]:
    return ids_by_name(place.store.url, place.snapshot)


@pytest.fixture
def found(ids: dict[str, int]) -> Evaluated:
    """An evaluation of five pictures, of which two are queries of one group."""
    by_id = sorted(ids, key=ids.__getitem__)
    plan, result = drawn([f"{'a' if n < 2 else n}/{name}" for n, name in enumerate(by_id)])
    return Evaluated(report_of(plan, result), plan, result, np.array(sorted(ids.values())))


@pytest.fixture
def reads() -> Iterator[Counter[str]]:
    counted: Counter[str] = Counter()
    read = EntryReader.read

    def counting(self: EntryReader, entry: object) -> bytes:
        counted[entry.name] += 1  # type: ignore[attr-defined]
        return read(self, entry)  # type: ignore[arg-type]

    with mock.patch.object(EntryReader, "read", counting):
        yield counted


@pytest.mark.parametrize("threads", [1, 3])
def test_every_picture_becomes_a_small_jpeg_in_the_order_of_the_corpus(
    place: Place, ids: dict[str, int], threads: int
) -> None:
    told: list[Progress] = []
    place = Place(place.store, place.snapshot, place.runner, 1, told.append, place.pictures)
    made = list(thumbnails(place, list(ids.values())[::-1], threads))
    assert [image_id for image_id, _ in made] == list(ids.values())
    for _, data in made:
        assert data is not None
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (40, 40))
    assert [(each.done, each.total) for each in told] == [(n, 5) for n in range(1, 6)]


def test_pictures_that_are_gone_changed_or_no_pictures_are_none(
    place: Place, ids: dict[str, int]
) -> None:
    assert place.pictures is not None
    folder = Path(place.pictures)
    (folder / "00.png").unlink()
    shutil.copy(folder / "02.png", folder / "01.png")
    made = dict(thumbnails(place, list(ids.values())))
    gone = {name for name, image_id in ids.items() if made[image_id] is None}
    assert gone == {"00.png", "01.png"}
    assert thumbnail(b"\x89PNG\r\n\x1a\n no picture") is None


def test_a_thumbnail_keeps_the_proportions_of_its_picture() -> None:
    for size, small in (((800, 200), (2 * THUMBNAIL_EDGE, 80)), ((200, 800), (40, THUMBNAIL_EDGE))):
        data = thumbnail(jpeg(1, size))
        assert data is not None
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == small


def test_rows_come_in_the_order_of_the_corpus(place: Place, ids: dict[str, int]) -> None:
    rows = ImageTable(place.store, place.snapshot).rows_in_order(list(ids.values())[::-1])
    assert [row["name"] for row in rows] == list(ids)
    with pytest.raises(KeyError):
        next(ImageTable(place.store, place.snapshot).rows_in_order([5]))


def test_a_page_has_its_pictures_beside_it_and_each_is_read_once(
    place: Place, found: Evaluated, tmp_path: Path, reads: Counter[str]
) -> None:
    wanted = Wanted(tmp_path / "all.html")
    written = write_pages(place, found, wanted)
    assert written.path == tmp_path / "all.html"
    assert written.folder == tmp_path / "all-files"
    files = sorted(written.folder.iterdir())
    assert [each.name for each in files] == [f"{n}.jpg" for n in range(5)]
    assert (written.pictures, written.gone, written.note) == (5, 0, "")
    assert written.picture_bytes == sum(each.stat().st_size for each in files)
    assert written.page_bytes == written.path.stat().st_size
    assert "; 5 pictures in all-files, " in written.extent
    assert set(reads.values()) == {1}
    assert "base64," not in written.path.read_text()
    (stored,) = place.store.root.glob("runs/*/report.html")  # type: ignore[attr-defined]
    assert stored.read_text().count("data:image/jpeg;base64,") == 5
    assert not list(tmp_path.glob(".all-files*"))
    again = write_pages(place, found, wanted)  # over the old ones
    assert again == written


def test_a_single_file_has_everything_in_it(place: Place, found: Evaluated, tmp_path: Path) -> None:
    written = write_pages(place, found, Wanted(tmp_path / "one.html", single_file=True))
    assert written.folder is None
    assert written.path.read_text().count("data:image/jpeg;base64,") == 5
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.html", "pictures", "store"]
    assert written.extent.endswith("5 pictures in it")


def test_only_so_many_queries_have_pictures(place: Place, found: Evaluated, tmp_path: Path) -> None:
    written = write_pages(place, found, Wanted(tmp_path / "few.html", queries=0))
    assert (written.pictures, written.folder) == (0, None)
    assert not (tmp_path / "few-files").exists()
    assert written.note == ""
    assert "a/0" in written.path.read_text()


def test_pictures_that_are_gone_are_said_and_the_page_has_their_names(
    place: Place, found: Evaluated, tmp_path: Path
) -> None:
    assert place.pictures is not None
    (Path(place.pictures) / "00.png").unlink()
    written = write_pages(place, found, Wanted(tmp_path / "page.html"))
    assert written.gone == 1
    assert written.note.startswith(f"1 of 5 pictures can no longer be read in {place.pictures}, ")
    assert "00.png" in written.path.read_text()
    assert "Pictures are missing." in written.path.read_text()
    for path in Path(place.pictures).iterdir():
        path.unlink()
    none = write_pages(place, found, Wanted(tmp_path / "page.html"))
    assert none.note.startswith(f"None of 5 pictures can be read in {place.pictures} ")
    assert not (tmp_path / "page-files").exists()
    assert "without pictures" in none.extent


def test_pictures_that_may_not_be_read_are_said(
    place: Place, found: Evaluated, tmp_path: Path
) -> None:
    away = Place(place.store, place.snapshot, place.runner, 1, pictures=str(tmp_path / "absent"))
    written = write_pages(away, found)
    assert written.note.startswith("The page shows no pictures: ")
    assert written.path.parent.parent == place.store.root / "runs"  # type: ignore[attr-defined]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    wanted = Wanted(tmp_path / "page.html")
    check_folder(wanted)
    folder = tmp_path / "page-files"
    folder.mkdir()
    (folder / "12.jpg").touch()
    check_folder(wanted)
    (folder / "mine.txt").touch()
    with pytest.raises(InputError, match=r"page-files.* holds mine\.txt: give another name"):
        check_folder(wanted)
    check_folder(Wanted(tmp_path / "page.html", single_file=True))
    (tmp_path / "file-files").touch()
    with pytest.raises(InputError, match="holds file-files"):
        check_folder(Wanted(tmp_path / "file.html"))


def test_options_of_a_page_need_a_page() -> None:
    assert wanted_page(None) is None
    assert wanted_page(Path("a.html")) == Wanted(Path("a.html"), single_file=False, queries=1_000)
    assert wanted_page(Path("a.html"), single_file=True, queries=0) == Wanted(
        Path("a.html"), single_file=True, queries=0
    )
    with pytest.raises(InputError, match="--single-file says how a page is written"):
        wanted_page(None, single_file=True)
    with pytest.raises(InputError, match="--page-queries 3 says"):
        wanted_page(None, queries=3)
    with pytest.raises(InputError, match="--shared-words 2 says"):
        wanted_page(None, shared_words=2)


def test_a_page_that_fails_leaves_the_old_pictures(
    place: Place, found: Evaluated, tmp_path: Path
) -> None:
    wanted = Wanted(tmp_path / "all.html")
    write_pages(place, found, wanted)
    before = {each.name: each.read_bytes() for each in (tmp_path / "all-files").iterdir()}
    with (
        mock.patch.object(report_page, "thumbnails", side_effect=RuntimeError("stopped")),
        pytest.raises(RuntimeError, match="stopped"),
    ):
        write_pages(place, found, wanted)
    assert before == {each.name: each.read_bytes() for each in (tmp_path / "all-files").iterdir()}
    assert not list(tmp_path.glob(".all-files*"))


def test_a_query_that_is_a_part_of_its_picture_says_which(
    place: Place, found: Evaluated, tmp_path: Path
) -> None:
    """Of 40 x 40 pixels it is from 10 to 30 and from 20 to the lower edge."""
    truth = found.plan.truth.truth
    first = dataclasses.replace(truth.queries[0], box=(10.2, 19.8, 30.0, 99.0))
    asked = dataclasses.replace(truth, queries=(first, *truth.queries[1:]))
    plan = dataclasses.replace(found.plan, truth=dataclasses.replace(found.plan.truth, truth=asked))
    written = write_pages(place, dataclasses.replace(found, plan=plan), Wanted(tmp_path / "p.html"))
    number = telling_queries(found.result).index(0)
    assert f'"boxes":{{"{number}":[0.25,0.5,0.5,0.5]}}' in written.path.read_text()


def test_shared_words_of_the_first_queries_are_drawn(stores: Stores, tmp_path: Path) -> None:
    """Their weights add up to S of the local layer, as the page has it."""
    url, asked = str(stores.one), Asked(protocol="groups", pattern=r"(\d)\d")
    wanted = Wanted(tmp_path / "page.html", shared_words=2)
    store = str(shutil.copytree(url, tmp_path / "store"))
    with tiny_runs():
        _, written = evaluate_store(ENGINE, store, tiny_job(), asked, quiet=True, page=wanted)
    html = written.path.read_text()
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert sorted(data["matches"]) == ["0", "1"]
    for query, shared in data["matches"].items():
        numbers, parts, verdicts, _ = data["pictures"][int(query)]
        assert {str(n) for n, v in zip(numbers, verdicts, strict=True) if v != "q"} == set(shared)
        for place, number in enumerate(numbers):
            if words := shared.get(str(number)):
                assert len(words) <= MOST_WORDS
                assert all(layer == "p15" and mine and its for layer, _, _, mine, its in words)
                total = math.fsum(weight for _, _, weight, *_ in words)
                assert total == pytest.approx(parts[2 * place + 1] / SCALE, abs=1e-4)
    job = tiny_job(search__expand=2)
    with pytest.raises(InputError, match="--expand 2 asks with the mean of several"):
        evaluate_store(ENGINE, store, job, asked, quiet=True, page=wanted)
