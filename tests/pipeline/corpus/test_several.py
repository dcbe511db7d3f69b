"""Several sources on one line, patterns, and what is piped in: one listing, in the order given."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_rows
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.several import list_piped, list_several
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from tests.tiny import tiny_pictures


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with four pictures in `p`, two in `p/deep`, and a list of two."""
    tiny_pictures(tmp_path / "p", 4, broken=0)
    tiny_pictures(tmp_path / "p/deep", 2, broken=0)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/some.txt").write_text("../p/03.png\n../p/00.png\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(listing: Listing) -> list[str]:
    return [entry.name for entry in listing.entries]


def all_read(listing: Listing) -> bool:
    rows = probe_rows(listing.root, listing.kind, listing.entries, DecodeLimits())
    return all(row is not None and row["refusal"] is None for row in rows)


def test_one_source_is_listed_as_ever(here: Path) -> None:
    for source in ("p", "p/00.png", "lists/some.txt", str(here / "p")):
        one, same = list_several([source]), list_source(source)
        assert (one.kind, one.root) == (same.kind, same.root)
        assert tuple(one.entries) == tuple(same.entries)


def test_several_are_named_as_they_were_given_in_that_order(here: Path) -> None:
    outside = str(here / "p/02.png")
    found = list_several(["p/03.png", outside, "p/deep", "lists/some.txt", "p/../p/01.png"])
    assert names(found) == [
        "p/03.png",
        outside,
        *("p/deep/00.png", "p/deep/01.png"),
        *("lists/../p/00.png", "lists/../p/03.png"),
        "p/../p/01.png",
    ]
    assert (found.kind, found.root) == ("list", str(here))
    assert all_read(found)


def test_a_picture_that_is_named_twice_is_asked_twice(here: Path) -> None:
    found = list_several(["p/03.png", "p/00.png", "p/03.png"])
    assert [(entry.name, entry.occurrence) for entry in found.entries] == [
        ("p/03.png", 0),
        ("p/00.png", 0),
        ("p/03.png", 1),
    ]


def test_a_pattern_stands_for_what_it_matches(here: Path) -> None:
    assert names(list_several(["p/0[12].png"])) == ["p/01.png", "p/02.png"]
    every = ["p/00.png", "p/01.png", "p/02.png", "p/03.png", "p/deep/00.png", "p/deep/01.png"]
    assert names(list_several(["p/**/*.png"])) == every
    (here / "p/x[1].png").write_bytes((here / "p/00.png").read_bytes())
    (here / "p/x1.png").write_bytes((here / "p/00.png").read_bytes())
    assert names(list_several(["p/x[1].png", "p/x*.png"])) == [
        *("p/x[1].png", "p/x1.png", "p/x[1].png"),
    ]


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (["p/00.png", "p/nothing-*.png"], "source p/nothing-.*no file has such a name"),
        (["p/00.png", "p/gone.png"], "source p/gone.png cannot be opened"),
    ],
)
def test_what_is_not_there_is_named(here: Path, sources: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        list_several(sources)


def test_tars_are_asked_alone(here: Path) -> None:
    import tarfile

    with tarfile.open("some.tar", "w") as tar:
        tar.add("p/00.png")
    assert list_several(["some.tar"]).kind == "webdataset"
    with pytest.raises(InputError, match=r"some\.tar is webdataset: ask by it alone"):
        list_several(["p/00.png", "some.tar"])


def test_a_picture_can_be_piped_in(here: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for suffix in ("PNG", "JPEG", "WEBP"):
        data = io.BytesIO()
        Image.open("p/00.png").save(data, suffix)
        found = list_piped(io.BytesIO(data.getvalue()), scratch)
        assert names(found) == ["standard-input"]
        assert all_read(found)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_a_list_can_be_piped_in_whose_paths_are_of_the_current_folder(
    end: bytes, here: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    lines = [b"p/02.png", os.fsencode(here / "p/01.png"), b"./p/00.png"]
    found = list_piped(io.BytesIO(end.join(lines) + end), scratch)
    assert sorted(names(found)) == sorted(line.decode() for line in lines)
    assert found.root == str(here)
    assert all_read(found)


def test_nothing_piped_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="standard input holds nothing: pipe in a picture, or"):
        list_piped(io.BytesIO(b"\n"), tmp_path)
