"""Nothing is left out of a source without a word: all tars are read to their end, all that is
passed over is counted by kind and said."""

import io
import json
import logging
import os
import socket
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from lamella.cluster.commands.cli import app
from lamella.pipeline.corpus.passed_over import (
    FOLDER_LINKS,
    HIDDEN,
    LINKS,
    MOST_KINDS,
    NO_ENDING,
    NO_FILES,
    OTHERS,
    TABLES,
    UNREADABLE,
    advice,
    few_kinds,
    in_words,
    kind_of,
)
from lamella.pipeline.corpus.reader import read_entry
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.store.storage import open_store
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from tests.tiny import tiny_index, tiny_pictures

BLOCK = 512


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    saved = io.BytesIO()
    Image.fromarray(pixels).save(saved, "PNG")
    return saved.getvalue()


def packed(members: Sequence[tuple[str, bytes]], *, end: bool = True) -> bytes:
    """Return a tar, with no more than the two blocks that end it, or without."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        used = tar.offset
    return whole.getvalue()[: used + 2 * BLOCK * end]


FIRST, SECOND = (packed([(f"{n}{m}.png", picture(10 * n + m)) for m in (1, 2)]) for n in (1, 2))


def names(source: Path) -> list[str]:
    return [entry.name for entry in list_source(str(source)).entries]


@pytest.mark.parametrize("zeros", [0, 1, 7, BLOCK, 18 * BLOCK, 2**17 + 3])
def test_tars_that_were_joined_are_read_to_the_end_of_the_last(tmp_path: Path, zeros: int) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(FIRST + bytes(zeros) + SECOND + bytes(zeros) + FIRST + bytes(zeros))
    ones, twos = (["x.tar/11.png", "x.tar/12.png"], ["x.tar/21.png", "x.tar/22.png"])
    entries = list_source(str(path)).entries
    assert [entry.name for entry in entries] == [*ones, *twos, *ones]
    for entry, seed in zip(entries, (11, 12, 21, 22, 11, 12), strict=True):
        assert read_entry(str(tmp_path), entry) == picture(seed)


def test_an_empty_tar_or_one_without_an_end_may_stand_before_another(tmp_path: Path) -> None:
    unended = packed([("0.png", picture(0))], end=False)
    for start in (bytes(20 * BLOCK), unended):
        (tmp_path / "x.tar").write_bytes(start + SECOND)
        expected = ["x.tar/0.png"] * (start is unended) + ["x.tar/21.png", "x.tar/22.png"]
        assert names(tmp_path / "x.tar") == expected


@pytest.mark.parametrize("rest", [b"\n", b"x" * BLOCK, picture(1), FIRST[1:], b"\x1f\x8b" * 900])
def test_what_stands_behind_a_tar_and_is_none_is_an_error_by_name(
    tmp_path: Path, rest: bytes
) -> None:
    (tmp_path / "x.tar").write_bytes(FIRST + bytes(BLOCK) + rest)
    where = f"{len(FIRST) + BLOCK:,}"
    with pytest.raises(InputError, match=rf"x\.tar ends before byte {where}, .* is no tar"):
        list_source(str(tmp_path))


def test_the_last_of_joined_tars_cut_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    for cut in range(BLOCK // 2, len(SECOND) - 2 * BLOCK, BLOCK // 2):
        (tmp_path / "x.tar").write_bytes(FIRST + SECOND[:cut])
        with pytest.raises(InputError, match=r"tar x\.tar"):
            list_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JSON", "json"),
        ("d/a.b.txt", "txt"),
        ("a.tar.gz", "tar.gz"),
        ("jpg", NO_ENDING),
        ("d.x/Makefile", NO_ENDING),
        ("a.", NO_ENDING),
        (".json", NO_ENDING),
        ("a.endless-ending-of-no-meaning", NO_ENDING),
        ("a.\x1b[31m", NO_ENDING),
    ],
)
def test_the_kind_of_a_file_is_its_ending(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_endings_without_number_become_few_kinds() -> None:
    counted = Counter({f"e{number}": number + 1 for number in range(10_000)})
    few = few_kinds(counted)
    assert len(few) == MOST_KINDS + 1
    assert few.total() == counted.total()
    assert few["e9999"] == 10_000
    assert few[OTHERS] == counted.total() - sum(range(10_000, 10_000 - MOST_KINDS, -1))
    assert in_words({"json": 1_200, HIDDEN: 3, "a": 3}) == "1,200 json, 3 a, 3 hidden"


@pytest.mark.parametrize(
    ("counted", "says"),
    [
        ({"parquet": 2, "pq": 1}, "3 Parquet files were passed over"),
        ({"tar": 1, "json": 9}, "1 tar was passed over"),
        ({"tar": 2, "zip": 1}, "1 compressed archive and 2 tars were"),
        ({"lst": 1}, "1 list was"),
    ],
)
def test_what_may_hold_pictures_is_said_with_what_to_do(counted: dict[str, int], says: str) -> None:
    said = advice(counted)
    assert said is not None
    assert says in said
    assert "into a folder of their own" in said
    assert advice({"json": 3, NO_ENDING: 2, HIDDEN: 1, TABLES: 2}) is None


def with_everything(folder: Path) -> Path:
    """Make a folder of pictures with one or more of each kind of other things."""
    tiny_pictures(folder)
    for name, data in {
        "labels.json": b"{}",
        "more.JSON": b"{}",
        "Makefile": b"all:",
        ".hidden.png": b"",
        ".git/a.png": b"",
        ".git/b.png": b"",
        "a.tar": FIRST,
        "b.parquet": b"PAR1",
        "sub/c.parquet": b"PAR1",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "linked").symlink_to("sub")
    (folder / "out.txt").symlink_to("/etc/passwd")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "sock"))
    return folder


EVERYTHING = {
    "json": 2,
    NO_ENDING: 1,
    HIDDEN: 2,
    "tar": 1,
    "parquet": 2,
    FOLDER_LINKS: 1,
    LINKS: 1,
    NO_FILES: 2,
    UNREADABLE: 1,
}


def test_all_that_is_passed_over_is_counted_in_the_manifest_and_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = with_everything(tmp_path / "pictures")
    tiny_index(tmp_path / "store", source)
    (path,) = (tmp_path / "store").glob("corpora/*/manifest.json")
    assert CorpusManifest.from_json(path.read_bytes()).passed_over == EVERYTHING
    (corpus,) = store_status(open_store(str(tmp_path / "store")))["corpora"]
    assert corpus["passed_over"] == EVERYTHING
    assert "1 tar and 2 Parquet files" in caplog.text or "2 Parquet files and 1 tar" in caplog.text


def test_what_is_not_listed_changes_no_digest(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    before = tiny_index(tmp_path / "store", pictures)
    (pictures / ".hidden.png").touch()
    (pictures / "linked").symlink_to(".")
    assert tiny_index(tmp_path / "other", pictures).root_digest == before.root_digest


def test_the_commands_say_what_was_passed_over(tmp_path: Path) -> None:
    pictures, store = tiny_pictures(tmp_path / "pictures"), str(tmp_path / "store")
    (pictures / "labels.json").touch()
    (pictures / "a.tar").write_bytes(FIRST)
    index = ["index", str(pictures), "--into", store, "--layers", "head", "--engine", "serial"]
    for command in (index, ["status", store]):
        said = CliRunner().invoke(app, command, catch_exceptions=False).stdout
        assert "passed over: 1 json, 1 tar" in said
        assert "1 tar was passed over, with the pictures that may be in there" in said
        found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
        found = found if command is index else found["corpora"][0]
        assert found["passed_over"] == {"json": 1, "tar": 1}


def test_a_manifest_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    tiny_index(tmp_path / "store", tiny_pictures(tmp_path / "pictures"))
    (path,) = (tmp_path / "store").glob("corpora/*/manifest.json")
    value = json.loads(path.read_bytes())
    del value["passed_over"]
    del value["seal"]
    old = CorpusManifest.model_validate(value)
    assert old.passed_over == {}


def test_a_record_with_these_counts_is_that_of_an_earlier_version_to_a_repair() -> None:
    old = DoneRecord(
        stage="corpus", key="0", inputs="x", commit_id="y", counts={"images": 1, "ignored": 2}
    )
    new = old.model_copy(update={"counts": old.counts | {"passed over: json": 2}})
    assert new.content() == old.content()
    assert DoneRecord.from_json(new.to_json()) == new


def parquet(path: Path) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table({"image": [picture(1), picture(2)]}), path)


@pytest.mark.parametrize("note", ["_SUCCESS", "_metadata", "README.md", "info.json", "part.crc"])
def test_notes_beside_a_data_set_do_not_hide_it(tmp_path: Path, note: str) -> None:
    parquet(tmp_path / "parquet/part-0.parquet")
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars/0.tar").write_bytes(FIRST)
    for kind in ("parquet", "tars"):
        (tmp_path / kind / note).touch()
        listing = list_source(str(tmp_path / kind))
        assert listing.kind == {"parquet": "parquet", "tars": "webdataset"}[kind]
        assert len(listing.entries) == 2
        assert listing.passed_over == {kind_of(note): 1}


def test_a_folder_as_img2dataset_leaves_it_is_its_tars(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"0000{number}.tar").write_bytes(FIRST)
        (tmp_path / f"0000{number}_stats.json").touch()
        pq.write_table(pa.table({"url": ["http://x"]}), tmp_path / f"0000{number}.parquet")
    listing = list_source(str(tmp_path))
    assert (listing.kind, len(listing.entries)) == ("webdataset", 4)
    assert listing.passed_over == {"json": 2, TABLES: 2}


def test_a_data_set_beside_a_picture_is_not_dropped_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parquet(tmp_path / "part-0.parquet")
    with caplog.at_level(logging.WARNING):
        assert list_source(str(tmp_path)).kind == "parquet"
    assert caplog.text == ""
    (tmp_path / "cover.png").write_bytes(picture(3))
    with caplog.at_level(logging.WARNING):
        assert list_source(str(tmp_path)).kind == "folder"
    assert "1 Parquet file was passed over" in caplog.text


def test_a_folder_without_pictures_says_what_it_holds_and_what_to_do(tmp_path: Path) -> None:
    for name in ("a.tar", "b.parquet", "c.parquet"):
        (tmp_path / "pictures" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(FIRST)
    with pytest.raises(InputError, match=r"\(2 parquet, 1 tar\)\. .*Index them by themselves"):
        tiny_index(tmp_path / "store", tmp_path / "pictures")


def test_members_that_are_no_pictures_are_counted_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (
            ("a.png", tarfile.REGTYPE),
            ("._a.png", tarfile.REGTYPE),
            ("sub", tarfile.DIRTYPE),
            ("sub/._b.png", tarfile.REGTYPE),
            ("note", tarfile.SYMTYPE),
            ("pipe", tarfile.FIFOTYPE),
            ("inner.tar", tarfile.REGTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
    listing = list_source(str(tmp_path))
    assert [entry.name for entry in listing.entries] == ["x.tar/a.png", "x.tar/inner.tar"]
    assert listing.passed_over == {HIDDEN: 2, LINKS: 1, NO_FILES: 1}
