"""Tars and Parquet files are listed without reading pictures, and read at random."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.reader import EntryReader, read_entry
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.schemas.refusals import RefusalReason


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def make_tar(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def contents(source: Path) -> dict[str, bytes]:
    listing = list_source(str(source))
    with EntryReader(listing.root) as reader:
        return {entry.name: reader.read(entry) for entry in listing.entries}


def reason(act: Callable[[], object]) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.reason


def test_tars_are_listed_in_place_and_read_at_random(tmp_path: Path) -> None:
    make_tar(tmp_path / "00001.tar", [("b.jpg", b"1b"), ("a.jpg", b"1a"), ("a.json", b"{}")])
    make_tar(tmp_path / "00000.tar", [("long/" + "n" * 150 + ".jpg", b"0"), ("é.jpg", b"00")])
    listing = list_source(str(tmp_path))
    assert listing.kind == "webdataset"
    names = [entry.name for entry in listing.entries]
    assert names[1:] == ["00000.tar/é.jpg"] + [
        f"00001.tar/{n}" for n in ("b.jpg", "a.jpg", "a.json")
    ]
    with EntryReader(listing.root) as reader:
        backwards = [reader.read(entry) for entry in reversed(listing.entries)]
        assert reader.head(listing.entries[2]) == b"1b"
    assert backwards == [b"{}", b"1a", b"1b", b"00", b"0"]
    alone = list_source(str(tmp_path / "00001.tar"))
    assert [entry.name for entry in alone.entries] == names[2:]


def test_members_that_lead_outside_are_refused_one_by_one(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", [("../a.jpg", b"1"), ("/b.jpg", b"2"), ("c..jpg", b"3")])
    listing = list_source(str(path))
    assert [entry.fault for entry in listing.entries] == [
        RefusalReason.OUTSIDE_SOURCE,
        RefusalReason.OUTSIDE_SOURCE,
        None,
    ]


def test_only_regular_members_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (
            ("folder.jpg", tarfile.DIRTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("link.txt", tarfile.LNKTYPE),
            ("file.jpg", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd" if "link" in name else ""
            tar.addfile(member)
    listing = list_source(str(tmp_path))
    assert [(entry.name, entry.fault) for entry in listing.entries] == [
        ("x.tar/link.jpg", RefusalReason.UNREADABLE),
        ("x.tar/file.jpg", None),
    ]


def test_a_tar_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", [("a.jpg", b"a" * 700), ("b.jpg", b"b" * 700)])
    data = path.read_bytes()
    end = 2 * (512 + 1024)
    for cut in range(0, end + 1, 256):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match=r"tar x\.tar"):
            list_source(str(path))
    path.write_bytes(data[:1536] + b"\xaa" * 512 + data[2048:])
    with pytest.raises(InputError, match=r"damaged or cut short after x\.tar/a\.jpg"):
        list_source(str(path))


def test_a_tar_that_shrank_refuses_what_it_lost(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", [("a.jpg", b"a" * 700)])
    (entry,) = list_source(str(path)).entries
    path.write_bytes(path.read_bytes()[:800])
    assert reason(lambda: read_entry(str(tmp_path), entry)) is RefusalReason.UNREADABLE
    (tmp_path / "other.tar").touch()  # an empty folder would look like a mount that is away
    path.unlink()
    assert reason(lambda: read_entry(str(tmp_path), entry)) is RefusalReason.MISSING


PICTURES = [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"bytes": PICTURES}, ["p.parquet#0", "p.parquet#1", "p.parquet#2"]),
        ({"image": PICTURES, "name": ["z", "y", "x"]}, ["z", "y", "x"]),
        ({"image": PICTURES, "id": [3, 1, 2], "label": [0, 0, 0]}, ["3", "1", "2"]),
        ({"bytes": PICTURES, "path": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"image": [{"bytes": b, "path": b.decode()} for b in PICTURES]}, ["one", "two", "three"]),
        ({"uri": ["1.jpg", "2.jpg", "3.jpg"]}, ["1.jpg", "2.jpg", "3.jpg"]),
        ({"path": ["1.jpg", "2.jpg", "3.jpg"], "key": ["a", "b", "a"]}, ["a", "b", "a"]),
        ({"image": [{"bytes": None, "path": f"{n}.jpg"} for n in (1, 2, 3)]}, None),
    ],
)
def test_parquet_rows_of_every_layout(
    tmp_path: Path, columns: dict[str, list[object]], names: list[str] | None
) -> None:
    fill(tmp_path, {f"{number}.jpg": data for number, data in enumerate(PICTURES, 1)})
    table = pa.table(columns)
    if columns.get("image") and isinstance(columns["image"][0], dict):
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(columns["image"], kind)})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=2)
    listing = list_source(str(tmp_path / "p.parquet"))
    assert listing.kind == "parquet"
    assert names is None or [entry.name for entry in listing.entries] == names
    with EntryReader(listing.root) as reader:
        assert [reader.read(entry) for entry in listing.entries] == PICTURES
        assert reader.read(listing.entries[0]) == b"one"
        assert reader.head(listing.entries[2]) == b"three"


def test_a_folder_of_parquet_files_is_one_data_set(tmp_path: Path) -> None:
    for part in ("part-1.parquet", "part-0.parquet"):
        pq.write_table(pa.table({"bytes": [part.encode()]}), tmp_path / part)
    assert list(contents(tmp_path).values()) == [b"part-0.parquet", b"part-1.parquet"]


def test_parquet_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"label": [1]}), path)
    with pytest.raises(InputError, match=r"has columns label \(int64\); pictures are read from"):
        list_source(str(path))
    pq.write_table(pa.table({"url": ["a.jpg", "https://a/b.jpg"]}), path)
    with pytest.raises(InputError, match=r"p\.parquet, row 1: scheme https://"):
        list_source(str(path))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"Parquet p\.parquet cannot be read"):
        list_source(str(path))


def test_parquet_rows_without_a_picture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"bytes": [b"x", None]}), path)
    _, empty = list_source(str(path)).entries
    assert reason(lambda: read_entry(str(tmp_path), empty)) is RefusalReason.MISSING
    beyond = empty._replace(offset=2)
    assert reason(lambda: read_entry(str(tmp_path), beyond)) is RefusalReason.MISSING
    path.write_bytes(path.read_bytes()[:-20])
    assert reason(lambda: read_entry(str(tmp_path), empty)) is RefusalReason.UNREADABLE


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_a_file_that_grew_since_it_was_opened_is_read_to_its_end() -> None:
    # Files of the kernel have 0 bytes until they are read, as one has that grows meanwhile.
    entry = Entry("status", "", 0, 0)
    with EntryReader("/proc/self") as reader:
        lines = reader.read(entry).splitlines()
    expected = Path("/proc/self/status").read_bytes().splitlines()
    assert [line.split()[0] for line in lines] == [line.split()[0] for line in expected]
    with EntryReader("/proc/self", DecodeLimits(max_bytes=100)) as reader:
        assert reason(lambda: reader.read(entry)) is RefusalReason.TOO_LARGE_FILE
