"""The door for Python: what a notebook does."""

import hashlib
import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import lamella
from lamella import asking, errors
from lamella.cluster.commands.query import Queries
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.jobs.rankings import read_rankings
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.search.encode import open_encoder
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.refusals import RefusalReason
from tests.conftest import Indexed
from tests.end_to_end.commands import ENGINE, query_store
from tests.pictures import drawn, jpeg_of
from tests.tiny import TINY, tiny_index, tiny_pictures

SETTINGS = {key.replace("__", "."): value for key, value in TINY.items()}


@pytest.fixture(scope="module")
def index(indexed: Indexed) -> Iterator[lamella.Index]:
    with lamella.open(indexed.store) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(indexed: Indexed) -> list[Path]:
    return sorted(path for path in indexed.source.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def ids(index: lamella.Index) -> list[int]:
    """The ids of all images, in the order of the source."""
    found: list[int] = index.images().column("image_id").to_pylist()
    return found


@pytest.fixture(scope="module")
def written(indexed: Indexed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store, for the runs of the command."""
    return Path(shutil.copytree(indexed.store, tmp_path_factory.mktemp("written") / "store"))


def commanded(store: Path, queries: Queries, settings: dict[str, Any]) -> pa.Table:
    """Return what `lamella query` stores."""
    job = load_job(None, {"search.k": 5} | settings)
    run = query_store(ENGINE, str(store), job, queries, quiet=True).run
    return read_rankings(LocalStore(store), run)


def test_a_notebook(index: lamella.Index, indexed: Indexed, pictures: list[Path]) -> None:
    assert (len(index), index.layers) == (48, ("head", "p15"))
    assert (
        repr(index) == f"<lamella.Index {indexed.store}, snapshot 1: 48 images, layers head, p15>"
    )

    found = index.query(pictures[:3], k=5)
    assert len(found) == 3
    assert found.ids.shape == (3, 5)
    assert found.ids.dtype == np.int64
    assert found.scores.shape == (3, 5)
    assert found.scores.dtype == np.float64
    assert list(found.similarities) == ["head", "p15"]
    assert {s.shape for s in found.similarities.values()} == {(3, 5)}
    assert found.certified.tolist() == [True] * 3
    assert not found.refused
    # A picture is its own best answer: its similarity is 1 in each layer, and so is its map.
    assert found.names[:, 0].tolist() == [str(p.relative_to(indexed.source)) for p in pictures[:3]]
    assert found.scores[:, 0] == pytest.approx(2.0)
    assert found.similarities["p15"][:, 0] == pytest.approx(1.0)

    table = found.to_arrow()
    assert table.num_rows == 15
    assert table.column("image_id").to_pylist() == found.ids.reshape(-1).tolist()
    assert table.column("name").to_pylist() == found.names.reshape(-1).tolist()

    like = index.query(ids=found.ids[0], k=2)
    assert like.ids[:, 0].tolist() == found.ids[0].tolist()
    by_name = index.query(names=found.names[0].tolist(), k=2)
    assert by_name.to_arrow().equals(like.to_arrow())


def test_tables_of_an_index(index: lamella.Index, indexed: Indexed, pictures: list[Path]) -> None:
    images, vectors, bags = index.images(), index.vectors("head"), index.bags("p15")
    names = [str(path.relative_to(indexed.source)) for path in pictures]
    assert images.column("name").to_pylist() == names
    known = images.column("image_id").to_pylist()
    assert known == [
        image_id_of("", n, hashlib.sha256(p.read_bytes()).digest())
        for n, p in zip(names, pictures, strict=True)
    ]
    assert images.column("indexed").to_pylist() == [True] * 48
    for table in (vectors, bags):
        assert sorted(table.column("image_id").to_pylist()) == sorted(known)
    row_of = {image_id: row for row, image_id in enumerate(vectors.column("image_id").to_pylist())}
    assert bags.column("image_id").to_pylist() == list(row_of)
    seen = index.features(pictures[4:6])
    assert seen.column("query_name").to_pylist() == [str(path) for path in pictures[4:6]]
    assert seen.column("refusal").null_count == 2
    ids = index.query(pictures[4:6], k=1).ids[:, 0].tolist()
    for column, stored in (
        ("head.vector", vectors.column("vector")),
        ("p15.words", bags.column("words")),
        ("p15.counts", bags.column("counts")),
    ):
        expected = stored.take(pa.array([row_of[image_id] for image_id in ids])).to_pylist()
        assert seen.column(column).to_pylist() == expected
        assert index.features(ids=ids).column(column).to_pylist() == expected


@pytest.mark.parametrize(
    ("mode", "expand"), [("exact", 0), ("candidates", 0), ("paper", 0), ("exact", 3)]
)
def test_pictures_are_answered_as_the_command_answers_them(
    mode: Any,
    expand: int,
    index: lamella.Index,
    indexed: Indexed,
    pictures: list[Path],
    written: Path,
) -> None:
    settings: dict[str, Any] = {"profile": "paper", "fusion.t": [0.3], "fusion.p": [0.5]}
    settings |= {"search.mode": mode, "search.expand": expand}
    stored = commanded(written, Queries(str(indexed.source)), settings)
    asked = {"mode": mode, "expand": expand, "profile": "paper", "t": 0.3, "p": 0.5}
    result = index.query(pictures, k=5, **asked)
    assert ("expanded by 3" in repr(result), result.expand) == (expand == 3, expand)
    # All but the names: the command names pictures as their source does.
    assert result.to_arrow().drop(["query_name"]).equals(stored.drop(["query_name"]))


def test_images_are_left_out_of_their_own_answers_as_by_the_command(
    index: lamella.Index, ids: list[int], pictures: list[Path], written: Path
) -> None:
    stored = commanded(written, Queries(ids="all"), {"search.exclude_self": True})
    found = index.query(ids=sorted(ids), k=5, exclude_self=True)
    assert found.to_arrow().equals(stored)
    assert found.certified.all()
    assert not (found.ids == np.sort(ids)[:, None]).any()
    # One image is missing from 48, and all others are there.
    every = index.query(ids=ids[0], k=48, exclude_self=True)
    assert sorted(every.ids[0].tolist()) == sorted({*ids[1:], -1})
    with pytest.raises(errors.InputError, match="not in their own answers: leave it out"):
        index.query(pictures[0], exclude_self=True)


def test_images_are_answered_as_the_command_answers_them(
    index: lamella.Index, ids: list[int], written: Path
) -> None:
    stored = commanded(written, Queries(ids="all"), {})
    assert index.query(ids=sorted(ids), k=5).to_arrow().equals(stored)


def test_a_picture_is_the_same_in_every_form(index: lamella.Index, tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    data = jpeg_of(300, 400, orientation=6)
    path.write_bytes(data)
    with Image.open(io.BytesIO(data)) as image:
        turned = np.rot90(np.asarray(image), -1)  # 6 is a quarter to the right
        forms: list[Any] = [str(path), path, data, bytearray(data), memoryview(data), image, turned]
        forms.append(f"file://{path}")
        found = index.query(forms, k=4)
    assert not found.refused
    assert (found.ids == found.ids[0]).all()
    assert (found.scores == found.scores[0]).all()
    alone = [index.query(form, k=4).scores[0].tolist() for form in (path, data, turned)]
    assert alone == [found.scores[0].tolist()] * 3


def test_a_transparent_image_is_laid_over_white_as_its_file_is(index: lamella.Index) -> None:
    pixels = np.dstack([drawn(80, 90, 5), np.full((80, 90), 90, np.uint8)])
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "PNG")
    found = index.query([image, file.getvalue()])
    assert (found.scores[0] == found.scores[1]).all()


def test_pictures_that_cannot_be_read_are_named_and_the_others_answered(
    index: lamella.Index, pictures: list[Path], tmp_path: Path
) -> None:
    whole = jpeg_of()
    cut = Image.open(io.BytesIO(whole[:-500]))
    asked: list[Any] = [
        tmp_path / "none.jpg",
        pictures[0],
        whole[:-500],
        b"",
        b"text",
        tmp_path,
        cut,
        whole,
    ]
    found = index.query(asked, k=3)
    assert {place: refusal.reason for place, refusal in found.refused.items()} == {
        0: RefusalReason.MISSING,
        2: RefusalReason.TRUNCATED,
        3: RefusalReason.EMPTY_FILE,
        4: RefusalReason.NOT_AN_IMAGE,
        5: RefusalReason.UNREADABLE,
        6: RefusalReason.UNREADABLE,
    }
    assert found.refused[0].name == str(tmp_path / "none.jpg")
    assert found.refused[4] == ("bytes 4", "not-an-image", "it starts with b'text'")
    answered = np.array([1, 7])
    assert (found.ids[answered] >= 0).all()
    assert found.certified.tolist() == [place in answered for place in range(8)]
    empty = np.setdiff1d(np.arange(8), answered)
    assert (found.ids[empty] == -1).all()
    assert (found.names[empty] == "").all()
    assert np.isneginf(found.scores[empty]).all()
    assert set(found.to_arrow().column("query").to_pylist()) == {1, 7}
    seen = index.features(asked)
    assert seen.column("refusal").to_pylist()[:3] == ["missing", None, "truncated"]
    assert [v is None for v in seen.column("head.vector").to_pylist()] == [
        place not in answered for place in range(8)
    ]


def test_a_picture_may_cost_as_much_as_the_limits_say(
    index: lamella.Index, indexed: Indexed, pictures: list[Path]
) -> None:
    least = DecodeLimits(max_pixels=100)
    with lamella.open(indexed.store, limits=least) as opened:
        found = opened.query(pictures[0], k=3)
        assert found.refused[0].reason == "too-many-pixels"
        assert found.fusion == indexed.snapshot.fusion
        with pytest.raises(lamella.errors.InputError, match="more pixels than the limit"):
            opened.explain(pictures[0].read_bytes(), index.query(pictures[0]).names[0, 0])


def test_nothing_but_refused_pictures_or_no_picture_is_no_error(
    index: lamella.Index, ids: list[int]
) -> None:
    for asked in ([b"text"], []):
        found, seen = index.query(asked, k=3), index.features(asked)
        assert (found.ids.shape, seen.num_rows) == ((len(asked), 3), len(asked))
        assert found.to_arrow().num_rows == 0
        assert seen.schema.equals(index.features(ids=ids[:1]).schema)


def test_rows_are_filled_up_where_there_are_fewer_images(
    index: lamella.Index, ids: list[int], pictures: list[Path]
) -> None:
    found = index.query(pictures[0], k=50)
    assert found.ids.shape == (1, 50)
    assert sorted(found.ids[0, :48].tolist()) == sorted(ids)
    assert found.ids[0, 48:].tolist() == [-1, -1]
    assert found.names[0, 48:].tolist() == ["", ""]
    assert np.isneginf(found.scores[0, 48:]).all()
    assert found.similarities["head"][0, 48:].tolist() == [0, 0]


def test_nothing_is_written_and_all_is_opened_once(
    indexed: Indexed, ids: list[int], pictures: list[Path]
) -> None:
    before = {path: path.stat() for path in indexed.store.rglob("*")}
    writes = [mock.patch.object(LocalStore, name) for name in ("put", "create", "replace")]
    with (
        mock.patch.object(asking, "open_encoder", wraps=open_encoder) as networks,
        mock.patch.object(asking, "SegmentSearcher", wraps=SegmentSearcher) as segments,
        writes[0] as put,
        writes[1] as create,
        writes[2] as replace,
        lamella.open(indexed.store) as index,
    ):
        assert (networks.call_count, segments.call_count) == (0, 0)
        for _ in range(3):
            index.query(pictures[0])
            index.query(ids=ids[1:2])
            index.features(pictures[0])
        assert (networks.call_count, segments.call_count) == (1, 1)
        assert [mocked.call_count for mocked in (put, create, replace)] == [0, 0, 0]
    after = {path: path.stat() for path in indexed.store.rglob("*")}
    assert {p: s.st_mtime_ns for p, s in after.items()} == {
        p: s.st_mtime_ns for p, s in before.items()
    }


def test_threads_share_an_index(index: lamella.Index, pictures: list[Path]) -> None:
    expected = index.query(pictures[:8], k=5).scores
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        found[number] = index.query(pictures[number], k=5).scores[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((found[number] == expected[number]).all() for number in range(8))


def test_a_closed_index_says_so_and_its_tables_stay(indexed: Indexed, ids: list[int]) -> None:
    index = lamella.open(indexed.store)
    vectors, found = index.vectors("head"), index.query(ids=ids[0])
    index.close()
    index.close()
    assert vectors.num_rows == 48
    assert found.ids.shape == (1, 10)
    for call in (lambda: index.query(ids=ids[0]), index.images, lambda: index.bags("p15")):
        with pytest.raises(
            errors.InputError, match=r"was closed: open it again with lamella\.open"
        ):
            call()


def test_an_index_is_made_and_opened(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    settings = SETTINGS | {"corpus.max_refused": 0.5}
    made = lamella.index(pictures, into=tmp_path / "index", settings=settings)
    assert (len(made), made.snapshot.number) == (5, 1)
    table = made.images()
    assert table.column("refusal").to_pylist() == [None] * 5 + ["truncated"]
    assert table.column("indexed").to_pylist() == [True] * 5 + [False]
    with pytest.raises(errors.InputError, match=r"'05\.png' that queries can find"):
        made.query(names=["05.png"])
    refused = table.column("image_id")[5].as_py()
    with pytest.raises(errors.InputError, match=f"image {refused} is not in snapshot 1.*refused"):
        made.query(ids=refused)
    again = lamella.index(pictures, into=tmp_path / "index", settings=settings)
    assert again.snapshot == made.snapshot
    with pytest.raises(errors.InputError, match=r"vocabulary.words is given twice"):
        lamella.index(pictures, into=tmp_path / "index", settings=settings, words=4)
    with pytest.raises(errors.InputError, match="there is no key wrods"):
        lamella.index(pictures, into=tmp_path / "index", settings={"wrods": 4})
    with pytest.raises(errors.InputError, match="cannot be opened"):
        lamella.index(tmp_path / "none", into=tmp_path / "other")


def test_an_index_in_s3_is_opened(bucket: str, tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", broken=0)
    url = f"s3://{bucket}/index"
    tiny_index(url, pictures)
    with lamella.open(url) as index:
        found = index.query(pictures / "02.png", k=1)
        assert found.names.tolist() == [["02.png"]]


def test_importing_lamella_is_cheap() -> None:
    heavy = {"numpy", "pyarrow", "pydantic", "PIL", "torch", "ray", "lamella.pipeline"}
    code = f"import sys, lamella; print(*sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
    assert {*lamella.__all__, "__version__"} <= set(dir(lamella))
    with pytest.raises(AttributeError, match="no attribute 'close'"):
        lamella.close  # noqa: B018
