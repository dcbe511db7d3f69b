"""Links: in folders of Hugging Face and DVC, in tars, and those that the user names."""

import io
import logging
import tarfile
from pathlib import Path

import pytest

from lamella.pipeline.corpus.passed_over import HIDDEN, LINKS
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError, StageFailed
from lamella.schemas.refusals import RefusalReason
from tests.tiny import tiny_index, tiny_pictures


def read(source: str | Path) -> dict[str, bytes]:
    listing = list_source(str(source))
    with EntryReader(listing.root, kind=listing.kind) as reader:
        return {entry.name: reader.read(entry) for entry in listing.entries}


def cache(folder: Path) -> Path:
    """Make a folder as the cache of Hugging Face is: links to files of no ending beside it."""
    tiny_pictures(folder / "blobs", broken=0)
    (folder / "snapshot").mkdir()
    for number, blob in enumerate(sorted((folder / "blobs").iterdir())):
        (folder / f"snapshot/{number}.png").symlink_to(f"../blobs/{blob.name}")
    return folder / "snapshot"


def test_a_tree_of_links_says_that_these_are_links_and_the_way_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = cache(tmp_path)
    with caplog.at_level(logging.WARNING):
        listing = list_source(str(tree))
    count = len(listing.entries)
    assert f"{count} links lead out of the folder" in caplog.text
    assert f"find -L {tree} -type f" in caplog.text
    assert {entry.fault for entry in listing.entries} == {RefusalReason.OUTSIDE_SOURCE}
    with pytest.raises(
        StageFailed, match=rf"\({count} outside-source\).*Links out of a folder are"
    ):
        tiny_index(tmp_path / "store", tree)
    (tmp_path / "list.txt").write_text("\n".join(map(str, sorted(tree.iterdir()))))
    assert tiny_index(tmp_path / "store", tmp_path / "list.txt").indexed == count


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    tree = cache(tmp_path / "hub")
    (tmp_path / "link").symlink_to(tree.parent / "blobs")
    assert len(read(tmp_path / "link")) == len(list(tree.iterdir()))
    named = read(tree / "0.png")
    assert list(named) == ["0.png"]
    assert named["0.png"] == (tree / "0.png").read_bytes()
    (tmp_path / "twice.png").symlink_to(tree / "0.png")
    assert read(tmp_path / "twice.png")["twice.png"] == named["0.png"]
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match="cannot be opened"):
        list_source(str(tmp_path / "broken.png"))


def test_a_folder_of_links_to_folders_says_how_they_are_followed(tmp_path: Path) -> None:
    tree = cache(tmp_path / "hub")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/a").symlink_to(tree)
    with pytest.raises(InputError, match=r"but 1 links to folders.*followed only where it is the"):
        list_source(str(tmp_path / "links"))


def test_hard_links_and_hidden_members_of_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind, target in (
            ("./a.png", tarfile.REGTYPE, ""),
            ("b.png", tarfile.LNKTYPE, "./a.png"),
            ("c.png", tarfile.LNKTYPE, "b.png"),
            ("d", tarfile.LNKTYPE, "a.png"),
            ("early.png", tarfile.LNKTYPE, "later.png"),
            ("early", tarfile.LNKTYPE, "later.png"),
            ("out.png", tarfile.LNKTYPE, "../a.png"),
            ("soft.png", tarfile.SYMTYPE, "a.png"),
            ("later.png", tarfile.REGTYPE, ""),
            (".DS_Store", tarfile.REGTYPE, ""),
            (".thumbs/a.png", tarfile.REGTYPE, ""),
            ("__MACOSX/._a.png", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            data = name.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    listing = list_source(str(tmp_path / "x.tar"))
    assert listing.passed_over == {HIDDEN: 3, LINKS: 1}
    faults = {entry.name.removeprefix("x.tar/"): entry.fault for entry in listing.entries}
    refused = dict.fromkeys(("early.png", "out.png", "soft.png"), RefusalReason.UNREADABLE)
    assert faults == {
        **dict.fromkeys(("./a.png", "b.png", "c.png", "d", "later.png")),
        **refused,
    }
    with EntryReader(listing.root, kind=listing.kind) as reader:
        found = {each.name: reader.read(each) for each in listing.entries if each.fault is None}
    assert found["x.tar/b.png"] == found["x.tar/c.png"] == found["x.tar/d"] == b"./a.png"
    assert found["x.tar/later.png"] == b"later.png"


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst", "x.TAR.XZ", "x.tbz2"])
def test_a_compressed_tar_is_named_as_that_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"is compressed, .*: unpack it, or write it as a plain"):
        list_source(str(tmp_path / name))


@pytest.mark.parametrize(("mode", "how"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_tar_of_a_plain_name_is_named_too(tmp_path: Path, mode: str, how: str) -> None:
    with tarfile.open(tmp_path / "x.tar", mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(InputError, match=rf"tar x\.tar is compressed \({how}\).*unpack it"):
        list_source(str(tmp_path / "x.tar"))


def test_compressed_archives_in_a_folder_are_named_with_the_way_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tar.gz", "b.tgz", "c.tar.zst", "d.zst"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        list_source(str(tmp_path))
    assert "4 compressed archives were passed over" in caplog.text
    assert "unpack what is compressed" in caplog.text
