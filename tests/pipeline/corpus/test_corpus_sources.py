"""Each kind of source lists its images in a fixed order and gives their bytes back."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.passed_over import FOLDER_LINKS, HIDDEN, LINKS, NO_FILES
from lamella.pipeline.corpus.reader import EntryReader, read_entry
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.schemas.refusals import RefusalReason

FILES = {"a.jpg": b"first", "B.png": b"second", "sub/c.jpg": b"third", "sub/é.gif": b"4"}
ORDER = ["B.png", "a.jpg", "sub/c.jpg", "sub/é.gif"]


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def contents(source: Path) -> dict[str, bytes]:
    listing = list_source(str(source))
    with EntryReader(listing.root) as reader:
        return {entry.name: reader.read(entry) for entry in listing.entries}


def reason(act: Callable[[], object]) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.reason


def test_a_folder_is_listed_in_byte_order_without_what_is_hidden(tmp_path: Path) -> None:
    fill(tmp_path, {**FILES, ".hidden.jpg": b"x", ".git/a.jpg": b"x", "sub/.b": b"x"})
    listing = list_source(str(tmp_path))
    assert listing.kind == "folder"
    assert [entry.name for entry in listing.entries] == ORDER
    assert contents(tmp_path) == FILES
    assert all(entry.size_bytes == len(FILES[entry.name]) for entry in listing.entries)
    assert listing.passed_over == {HIDDEN: 3}


def test_the_digest_is_that_of_the_contents_of_the_list(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        fill(tmp_path / folder, FILES)
        for name in FILES:
            os.utime(tmp_path / folder / name, ns=(5, 5))
    first, second = (list_source(str(tmp_path / folder)) for folder in ("one", "two"))
    assert first.digest() == second.digest()
    os.utime(tmp_path / "two/a.jpg", ns=(6, 6))
    assert list_source(str(tmp_path / "two")).digest() != first.digest()


def test_one_file_is_a_folder_of_one(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    assert contents(tmp_path / "a.jpg") == {"a.jpg": b"first"}
    assert list_source(f"file://{tmp_path}/a.jpg").entries[0].name == "a.jpg"


def test_links_are_followed_only_to_files_inside(tmp_path: Path) -> None:
    fill(tmp_path, {"outside.jpg": b"x", "in/a.jpg": b"y", "in/sub/b.jpg": b"z"})
    inside = tmp_path / "in"
    (inside / "link.jpg").symlink_to("sub/b.jpg")
    (inside / "leaves.jpg").symlink_to("../outside.jpg")
    (inside / "leaves.txt").symlink_to("../outside.jpg")
    (inside / "broken.jpg").symlink_to("nowhere.jpg")
    (inside / "sub/loop").symlink_to("..")
    os.mkfifo(inside / "pipe.jpg")
    listing = list_source(str(inside))
    assert [entry.name for entry in listing.entries] == [
        "a.jpg", "broken.jpg", "leaves.jpg", "link.jpg", "sub/b.jpg",
    ]  # fmt: skip
    assert listing.passed_over == {FOLDER_LINKS: 1, LINKS: 1, NO_FILES: 1}
    by_name = {entry.name: entry for entry in listing.entries}
    assert read_entry(str(inside), by_name["link.jpg"]) == b"z"
    leaves, broken = by_name["leaves.jpg"], by_name["broken.jpg"]
    assert reason(lambda: read_entry(str(inside), leaves)) is RefusalReason.OUTSIDE_SOURCE
    assert reason(lambda: read_entry(str(inside), broken)) is RefusalReason.MISSING


def test_a_name_that_is_not_utf8_is_one_refusal(tmp_path: Path) -> None:
    fill(tmp_path, {"good.jpg": b"x"})
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(b"y")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    bad, good = list_source(str(tmp_path)).entries
    assert (bad.name, bad.fault) == ("bad\\xff.jpg", RefusalReason.BAD_NAME)
    assert good.fault is None
    assert len(list_source(str(tmp_path)).digest()) == 64


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    names = ["$(rm -rf x).jpg", "a\nb.jpg", "-rf.jpg", "%2e%2e.jpg", "'\";--.jpg", "x" * 200]
    assert contents(fill(tmp_path, dict.fromkeys(names, b"x"))).keys() == set(names)


def test_a_list_names_paths_relative_to_itself(tmp_path: Path) -> None:
    fill(tmp_path / "data", FILES)
    fill(tmp_path, {"other/d.jpg": b"fourth"})
    lines = ["# a note", "", "sub/c.jpg  ", "a.jpg", "a.jpg", "../other/d.jpg", "gone.jpg", "sub"]
    path = tmp_path / "data/corpus.txt"
    path.write_text("\ufeff" + "\r\n".join([*lines, f"file://{tmp_path}/data/B.png"]))
    listing = list_source(str(path))
    assert listing.kind == "list"
    names = [entry.name for entry in listing.entries]
    assert names == sorted(names, key=str.encode)
    assert names.count("a.jpg") == 2
    with EntryReader(listing.root, kind="list") as reader:
        outcomes: dict[str, bytes | RefusalReason] = {}
        for entry in listing.entries:
            try:
                outcomes[entry.name] = reader.read(entry)
            except Refused as refused:
                outcomes[entry.name] = refused.reason
    assert outcomes == {
        "sub/c.jpg": b"third",
        "a.jpg": b"first",
        "../other/d.jpg": b"fourth",
        "gone.jpg": RefusalReason.MISSING,
        "sub": RefusalReason.UNREADABLE,
        f"{tmp_path}/data/B.png": b"second",
    }


@pytest.mark.parametrize("address", ["http://a/b.jpg", "gs://bucket/b.jpg", "file://host/b.jpg"])
def test_a_list_with_an_address_elsewhere_is_refused_by_line(tmp_path: Path, address: str) -> None:
    path = tmp_path / "corpus.lst"
    path.write_text(f"a.jpg\n{address}\n")
    with pytest.raises(InputError, match=r"corpus\.lst, line 2: .*file://"):
        list_source(str(path))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("missing", "cannot be opened: No such file"),
        ("gs://bucket/folder", "scheme gs://.*allowed: a local path"),
        ("empty", "holds no files"),
        ("empty.txt", "holds no files"),
        ("packed.tar.gz", "is compressed"),
        ("zero.tar", "tar zero.tar cannot be read"),
    ],
)
def test_sources_that_cannot_be_used_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty/.hidden").mkdir(parents=True)
    fill(tmp_path, {"empty.txt": b"# nothing\n", "packed.tar.gz": b"x", "zero.tar": b""})
    with pytest.raises(InputError, match=says):
        list_source(source)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jpg": b"x" * 11})
    with EntryReader(str(tmp_path), DecodeLimits(max_bytes=10)) as reader:
        entry = Entry("a.jpg")
        assert reason(lambda: reader.read(entry)) is RefusalReason.TOO_LARGE_FILE
        assert reader.head(entry) == b"x" * 11


def test_what_may_not_be_read_is_a_refusal(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jpg": b"x"})
    (tmp_path / "a.jpg").chmod(0)
    if os.access(tmp_path / "a.jpg", os.R_OK):
        pytest.skip("this user may read everything")
    assert reason(lambda: read_entry(str(tmp_path), Entry("a.jpg"))) is RefusalReason.UNREADABLE
