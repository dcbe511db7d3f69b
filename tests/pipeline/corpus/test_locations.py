"""Names that come out of data lead to nothing outside of the source, whatever links there are."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.locations import check_below, is_below
from lamella.pipeline.corpus.reader import read_entry
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.extract.work import PictureSource
from lamella.schemas.corpus import SourceKind
from lamella.schemas.extraction import PreprocessSpec
from lamella.schemas.refusals import RefusalReason

SECRET, OWN = b"secret", b"own"
OUTSIDE = RefusalReason.OUTSIDE_SOURCE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a picture, beside one with a secret; links lead in and out."""
    inside = tmp_path / "source"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret.jpg").write_bytes(SECRET)
    (tmp_path / "source-2").mkdir()
    (tmp_path / "source-2/secret.jpg").write_bytes(SECRET)
    (inside / "own.jpg").write_bytes(OWN)
    (inside / "sub/own.jpg").write_bytes(OWN)
    (inside / "to_own.jpg").symlink_to("sub/own.jpg")
    (inside / "absolute.jpg").symlink_to(inside / "own.jpg")
    (inside / "to_sub").symlink_to("sub")
    (inside / "out.jpg").symlink_to(tmp_path / "elsewhere/secret.jpg")
    (inside / "out").symlink_to(tmp_path / "elsewhere")
    (inside / "twice.jpg").symlink_to("out.jpg")
    (inside / "near").symlink_to("../source-2")
    return inside


def outcome(root: Path | str, entry: Entry, kind: SourceKind = "folder") -> bytes | RefusalReason:
    try:
        return read_entry(str(root), entry, kind)
    except Refused as refused:
        return refused.reason


INSIDE = ["own.jpg", "sub/own.jpg", "./own.jpg", "to_own.jpg", "absolute.jpg", "to_sub/own.jpg"]
LEAVING = [
    *("out.jpg", "out/secret.jpg", "twice.jpg", "near/secret.jpg", "to_sub/../out.jpg"),
    *("../elsewhere/secret.jpg", "sub/../../elsewhere/secret.jpg", "..", "/etc/passwd"),
    *("../source-2/secret.jpg", "s3://bucket/secret.jpg", "S3://bucket/secret.jpg"),
]


@pytest.mark.parametrize("name", INSIDE)
def test_a_name_of_a_table_leads_to_what_lies_below_the_root(source: Path, name: str) -> None:
    assert outcome(source, Entry(name)) == OWN
    os.symlink(source, source.parent / "linked")  # a root may be a link
    assert outcome(source.parent / "linked", Entry(name)) == OWN
    assert outcome(f"{source}/", Entry(name)) == OWN


@pytest.mark.parametrize("name", [*LEAVING, "{}/elsewhere/secret.jpg"])
def test_a_name_of_a_table_leads_nowhere_else(source: Path, name: str) -> None:
    name = name.format(source.parent)
    for kind in ("folder", "webdataset", "parquet"):
        assert outcome(source, Entry(name), kind) is OUTSIDE
    row = {"name": name, "container": "", "offset": 0, "size_bytes": 1, "refusal": None}
    row |= {"height": 9, "width": 9}
    opened = PictureSource(str(source), DecodeLimits())
    with pytest.raises(Refused, match="outside-source"):
        opened.see(row, (), PreprocessSpec())


def test_a_link_that_is_turned_outwards_after_the_listing_is_not_followed(source: Path) -> None:
    (entry,) = (each for each in list_source(str(source)).entries if each.name == "to_own.jpg")
    assert entry.fault is None
    (source / "to_own.jpg").unlink()
    (source / "to_own.jpg").symlink_to(source.parent / "elsewhere/secret.jpg")
    assert outcome(source, entry) is OUTSIDE
    (source / "sub").rename(source / "other")
    (source / "sub").symlink_to(source.parent / "elsewhere")
    assert outcome(source, Entry("sub/secret.jpg")) is OUTSIDE


@pytest.mark.parametrize("name", ["out.jpg", "../elsewhere/secret.jpg", "out/secret.jpg"])
def test_a_list_may_lead_elsewhere_for_who_gave_it_chose_so(source: Path, name: str) -> None:
    (source / "list.txt").write_text(f"{name}\n{source.parent}/elsewhere/secret.jpg\n")
    listing = list_source(str(source / "list.txt"))
    assert [outcome(listing.root, each, "list") for each in listing.entries] == [SECRET, SECRET]


def structs(folder: Path, paths: Sequence[str]) -> Path:
    """Write a Parquet file of structs that name files instead of holding bytes."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": path} for path in paths]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), folder / "t.parquet")
    return folder / "t.parquet"


def test_the_path_of_a_struct_stays_in_the_folder_of_its_file(source: Path) -> None:
    secret = source.parent / "elsewhere/secret.jpg"
    leaving = [*LEAVING, str(secret), f"file://{secret}", f"FILE://{secret}", "data:,x"]
    listing = list_source(str(structs(source, [*INSIDE, *leaving])))
    found = [outcome(listing.root, entry, listing.kind) for entry in listing.entries]
    assert found == [OWN] * len(INSIDE) + [OUTSIDE] * len(leaving)


def test_the_path_of_a_struct_stays_in_its_folder_though_the_source_is_larger(
    source: Path,
) -> None:
    structs(source / "sub", ["own.jpg", "../own.jpg", "up.jpg"])
    (source / "sub/up.jpg").symlink_to("../own.jpg")
    entries = [Entry("x", "sub/t.parquet", row) for row in range(3)]
    found = [outcome(source, entry, "parquet") for entry in entries]
    assert found == [OWN, OUTSIDE, OUTSIDE]


def test_a_column_of_paths_may_lead_elsewhere(source: Path) -> None:
    secret = source.parent / "elsewhere/secret.jpg"
    uris = [str(secret), f"file://{secret}", "../elsewhere/secret.jpg", "out.jpg", "own.jpg"]
    pq.write_table(pa.table({"uri": uris}), source / "t.parquet")
    listing = list_source(str(source / "t.parquet"))
    found = [outcome(listing.root, entry, listing.kind) for entry in listing.entries]
    assert found == [SECRET] * 4 + [OWN]


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_a_container_of_a_table_lies_below_the_root(source: Path, ending: str) -> None:
    elsewhere = source.parent / "elsewhere"
    for folder in (source, elsewhere):
        pq.write_table(pa.table({"bytes": [SECRET]}), folder / "x.parquet")
        (folder / "x.tar").write_bytes(SECRET + bytes(600))
    (source / "x.tar").rename(source / "sub/x.tar")
    (source / "x.parquet").rename(source / "sub/x.parquet")
    for container in (f"sub/x.{ending}", f"to_sub/x.{ending}"):
        assert outcome(source, Entry("x", container, 0, len(SECRET)), "parquet") == SECRET
    for container in (f"../elsewhere/x.{ending}", f"{elsewhere}/x.{ending}", f"out/x.{ending}"):
        assert outcome(source, Entry("x", container, 0, len(SECRET)), "parquet") is OUTSIDE


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_a_container_that_is_a_link_and_was_named_alone_is_read(source: Path, ending: str) -> None:
    pq.write_table(pa.table({"bytes": [SECRET]}), source.parent / "elsewhere/x.parquet")
    subprocess.run(
        ["tar", "cf", source.parent / "elsewhere/x.tar", "-C", source, "own.jpg"], check=True
    )
    link = source / f"given.{ending}"
    link.symlink_to(source.parent / f"elsewhere/x.{ending}")
    listing = list_source(str(link))
    found = [outcome(listing.root, entry, listing.kind) for entry in listing.entries]
    assert found == [OWN if ending == "tar" else SECRET]


def test_in_s3_a_name_is_taken_below_the_prefix_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def read(place: str, *others: Any) -> bytes:
        asked.append(place)
        return OWN

    monkeypatch.setattr("lamella.pipeline.corpus.reader.read_object", read)
    monkeypatch.setattr("lamella.pipeline.corpus.prefetch.read_object", read)
    assert outcome("s3://bucket/p", Entry("a.jpg")) == OWN
    for name in ("s3://other/a.jpg", "../a.jpg", "/a.jpg", "a/../../b.jpg"):
        assert outcome("s3://bucket/p", Entry(name)) is OUTSIDE
        table, _, _ = probe_entries("s3://bucket/p", "folder", [Entry(name)], DecodeLimits())
        assert table.column("refusal").to_pylist() == ["outside-source"]
        rows = [{"name": name, "container": "", "size_bytes": 1}]
        with PictureSource("s3://bucket/p", DecodeLimits()).expecting(rows):
            pass
    assert asked == ["s3://bucket/p/a.jpg"], "what is refused is not fetched ahead either"
    assert outcome("s3://bucket/p", Entry("s3://other/a.jpg"), "list") == OWN


def test_where_a_file_lies_is_asked_of_the_kernel_once(source: Path) -> None:
    real = os.path.realpath(source)
    with open(source / "own.jpg", "rb") as file:
        check_below(str(source / "own.jpg"), real, file.fileno())
        (source / "own.jpg").unlink()  # its name is gone; where it was is still known
        check_below(str(source / "own.jpg"), real, file.fileno())
    with open(source / "out.jpg", "rb") as file, pytest.raises(Refused):
        check_below(str(source / "out.jpg"), real, file.fileno())
    with pytest.raises(Refused):
        check_below(str(source / "out.jpg"), real)
    check_below(str(source / "to_own.jpg"), "/")


def test_without_proc_the_links_are_followed_here(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(path: str) -> str:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", away)
        patch.setattr(os.path, "realpath", {str(source / "own.jpg"): "/x/own.jpg"}.get)
        check_below(str(source / "own.jpg"), "/x", 0)
        with pytest.raises(Refused):
            check_below(str(source / "own.jpg"), "/y", 0)


@pytest.mark.parametrize(
    ("name", "below"),
    [("a", True), ("a/b..c", True), ("data:1.jpg", True), ("a:b", True), ("..", False)],
)
def test_names_are_below_by_themselves_or_not(name: str, below: bool) -> None:
    assert is_below(name) is below


def test_a_plain_user_whose_memory_is_closed_reads_too(source: Path) -> None:
    code = (
        "import ctypes, os\n"
        "from lamella.pipeline.corpus.locations import check_below\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "path = '/usr/bin/env'\n"
        "check_below(path, '/usr', os.open(path, os.O_RDONLY))\n"
        "os.readlink('/proc/self/fd/0')"  # and so it was no other way that found it
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
