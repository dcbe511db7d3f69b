"""Lists of pictures as people and programs write them."""

from pathlib import Path

import pytest

from lamella.pipeline.corpus.lists import MOST_LINE_BYTES
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source, plain_source
from lamella.pipeline.errors import InputError

NAMES = ("a.jpg", "b c.jpg", "d.JPEG", "e, f.png", "ü.jpg")


def read(source: Path) -> dict[str, bytes | str]:
    listing = list_source(str(source))
    assert listing.kind == "list"
    found: dict[str, bytes | str] = {}
    with EntryReader(listing.root, kind=listing.kind) as reader:
        for entry in listing.entries:
            try:
                found[entry.name] = reader.read(entry)
            except Refused as refused:
                found[entry.name] = refused.reason.value
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


WHOLE = {name: name.encode() for name in NAMES}


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "{} 17",
        "{}\t17",
        "{}\t17\tsome more words",
        "{},17",
        "{};cat",
        "{} tabby cat, a",
        '"{}"',
        '"{}",17',
        "'{}' 3",
        "  {}  ",
        "{} | 3",
    ],
)
def test_a_label_behind_a_path_and_quotes_around_it_are_no_part_of_it(
    folder: Path, form: str
) -> None:
    (folder / "x.txt").write_text("\n".join(form.format(name) for name in NAMES))
    assert read(folder / "x.txt") == WHOLE


def test_a_line_that_is_a_path_as_it_stands_is_one(folder: Path) -> None:
    strange = ["a.jpg 17", '"a.jpg"', "a.jpg\t1", "~", "a.jpg,1"]
    for name in strange:
        (folder / name).write_bytes(b"strange " + name.encode())
    (folder / "x.txt").write_text("\n".join(strange))
    assert read(folder / "x.txt") == {name: b"strange " + name.encode() for name in strange}


def test_what_leads_nowhere_keeps_its_whole_line(folder: Path) -> None:
    (folder / "x.txt").write_text("gone.jpg 17\n'open.jpg\na b c\n")
    assert read(folder / "x.txt") == dict.fromkeys(("gone.jpg 17", "'open.jpg", "a b c"), "missing")


def test_quotes_in_quotes_are_doubled_as_in_a_table(folder: Path) -> None:
    (folder / 'a "b".jpg').write_bytes(b"x")
    (folder / "x.txt").write_text('"a ""b"".jpg",3\n')
    assert read(folder / "x.txt") == {'a "b".jpg': b"x"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_may_be_in_utf_16(folder: Path, encoding: str, end: str) -> None:
    (folder / "x.txt").write_bytes((end.join(["# note", "", *NAMES]) + end).encode(encoding))
    assert read(folder / "x.txt") == WHOLE
    one = "a.jpg 3".encode(encoding)
    (folder / "x.txt").write_bytes(one)
    assert read(folder / "x.txt") == {"a.jpg": b"a.jpg"}


def test_utf_16_that_is_cut_says_so(folder: Path) -> None:
    (folder / "x.txt").write_bytes("a.jpg\nb".encode("utf-16")[:-1])
    with pytest.raises(InputError, match="neither whole UTF-16 nor UTF-8: save it as UTF-8"):
        list_source(str(folder / "x.txt"))
    (folder / "x.txt").write_bytes(("n" * (MOST_LINE_BYTES + 1)).encode("utf-16"))
    with pytest.raises(InputError, match="line 1: more than 65,536 bytes"):
        list_source(str(folder / "x.txt"))


def test_names_that_end_in_zero_bytes_are_those_of_find(folder: Path) -> None:
    (folder / "x.txt").write_bytes(b"".join(name.encode() + b"\0" for name in NAMES))
    assert read(folder / "x.txt") == WHOLE
    many = [f"{number:06}.jpg" for number in range(20_000)]
    (folder / "x.txt").write_bytes("\0".join(many).encode())
    assert [entry.name for entry in list_source(str(folder / "x.txt")).entries] == many
    (folder / "x.txt").write_bytes(b"a.jpg\0" + b"n" * 200_000)
    with pytest.raises(InputError, match="line 2: more than 65,536 bytes"):
        list_source(str(folder / "x.txt"))


def test_addresses_as_java_writes_them_lead_to_the_file(folder: Path) -> None:
    place = f"{folder}/b%20c.jpg"
    lines = [f"file:{place}", f"file://{place}", f"FILE://localhost{place}", f"file:{place} 3"]
    (folder / "x.txt").write_text("\n".join(lines))
    listing = list_source(str(folder / "x.txt"))
    assert [entry.name for entry in listing.entries] == [f"{folder}/b c.jpg"] * 4
    assert list_source(f"file:{folder}").entries[0].name == "a.jpg"
    (folder / "x.txt").write_text("file://other/a.jpg")
    with pytest.raises(InputError, match="must name an absolute path"):
        list_source(str(folder / "x.txt"))


def test_a_source_is_what_people_mean() -> None:
    assert plain_source("s3a://bucket/a") == plain_source("S3N://bucket/a") == "s3://bucket/a"
    assert plain_source("file:/a b") == "file:///a b"
    for same in ("file:///a", "s3://bucket/a", "a:b", "file:a", "/a/~", "a~"):
        assert plain_source(same) == same


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "lists").mkdir()
    (folder / "lists/x.txt").write_text('~/a.jpg\n~/b c.jpg 3\n"~/d.JPEG"\n')
    assert list(read(folder / "lists/x.txt").values()) == [b"a.jpg", b"b c.jpg", b"d.JPEG"]
    assert len(list_source("~/lists/x.txt").entries) == 3
    assert list_source("~").root == str(folder)
    monkeypatch.chdir(folder)
    (folder / "~").mkdir()
    (folder / "~/z.jpg").touch()
    assert [entry.name for entry in list_source("~").entries] == ["z.jpg"]
