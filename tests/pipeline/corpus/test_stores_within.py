"""A store that lies in its own source is no part of it."""

from pathlib import Path

import pytest

from lamella.pipeline.corpus.passed_over import STORES
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stores_within import check_apart, is_within, marked
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tree import MARKER
from tests.command_line import complaint, lamella
from tests.tiny import tiny_index, tiny_pictures


def test_a_store_in_its_source_is_not_indexed_with_it(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    before = list_source(str(pictures)).digest()
    first = tiny_index(pictures / "deep/index", pictures)
    tiny_index(pictures / "other", pictures)
    listing = list_source(str(pictures))
    assert listing.digest() == before
    assert listing.passed_over[STORES] > 2
    again = tiny_index(pictures / "deep/index", pictures)
    assert (again.number, again.root_digest) == (first.number, first.root_digest)


def test_a_folder_that_is_a_store_too_keeps_its_pictures(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    before = list_source(str(pictures)).digest()
    open_store(str(pictures), create=True)
    (pictures / "snapshots").mkdir()
    (pictures / "snapshots/a.png").touch()
    assert list_source(str(pictures)).digest() == before


def test_a_folder_that_only_looks_like_a_store_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a/probe").mkdir(parents=True)
    (tmp_path / "a/probe/create-only").write_bytes(b"another's")
    (tmp_path / "a/probe/a.png").touch()
    assert len(list_source(str(tmp_path)).entries) == 2


def test_a_store_that_is_its_source_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    (tmp_path / "link").symlink_to(pictures)
    names = sorted(pictures.rglob("*"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for source, into in (
        (str(pictures), str(pictures)),
        (f"{pictures}/", str(tmp_path / "link")),
        (f"file:{pictures}", str(pictures)),
        ("~/pictures", "~/pictures"),
    ):
        for command in ("index", "plan"):
            said = lamella(command, source, "--into", into, "--engine", "serial")
            assert "would lie among the pictures of the source" in complaint(said)
    assert sorted(pictures.rglob("*")) == names


def test_stores_in_s3_are_known_by_their_marker() -> None:
    check_apart("s3://bucket/pictures", "s3://bucket/index")
    check_apart("s3://bucket/pictures", "s3://bucket/pictures/index")
    with pytest.raises(InputError, match="--into S3://bucket/a/index"):
        check_apart("s3://bucket/a/", "S3://bucket/a")
    names = ["a.jpg", f"index/{MARKER}", "index/jobs/x.json", "index.jpg", f"x{MARKER}"]
    stores = marked(names)
    assert stores == ["index/"]
    assert [name for name in names if is_within(name, stores)] == names[1:3]
    top = marked([MARKER, "a.jpg"])
    assert top == [""]
    assert [is_within(name, top) for name in ("a.jpg", "snapshots/1.json", "b/a.jpg")] == [
        False, True, False,
    ]  # fmt: skip
