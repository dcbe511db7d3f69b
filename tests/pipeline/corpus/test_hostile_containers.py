"""Tars, Parquet files and lists made to harm: refused by name, nothing read outside or fetched."""

import io
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lamella.pipeline.corpus import containers
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.schemas.refusals import RefusalReason

LIMITS = DecodeLimits(max_bytes=2**20)
OUTSIDE, BAD_NAME, UNREADABLE = (
    RefusalReason.OUTSIDE_SOURCE,
    RefusalReason.BAD_NAME,
    RefusalReason.UNREADABLE,
)


def picture(colour: int = 9) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 80, 160)).save(buffer, "PNG")
    return buffer.getvalue()


CANARY = picture(200)
_events: list[tuple[str, str]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and (event in ("open", "os.listdir") or event.startswith("socket.")):
        _events.append((event, str(arguments[0]) if arguments else ""))


sys.addaudithook(_audit)


@contextmanager
def observed() -> Iterator[list[tuple[str, str]]]:
    """Note what Python opens, lists and connects to inside the block."""
    global _events
    _events = []
    try:
        yield _events
    finally:
        _events = None


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder for a source, with a canary beside it that nothing may lead to."""
    (tmp_path / "canary.png").write_bytes(CANARY)
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def outcomes(source: Path) -> list[str | None]:
    """Return why each entry of a source is refused, None where it is a picture of it."""
    tree = sorted((path, path.lstat().st_mtime_ns) for path in source.parent.parent.rglob("*"))
    with observed() as events:
        listing = list_source(str(source))
        table, _, _ = probe_entries(listing.root, listing.kind, listing.entries, LIMITS)
        rows = table.to_pylist()
    canary = str(source.parent.parent / "canary")
    assert not [event for event in events if event[1].startswith(canary)]
    assert not [event for event in events if event[0].startswith("socket.")]
    assert sorted((p, p.lstat().st_mtime_ns) for p in source.parent.parent.rglob("*")) == tree
    return [row["refusal"] for row in rows]


def tar_of(path: Path, *members: tarfile.TarInfo, format_: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format_) as tar:
        for member in members:
            if member.isfile():
                member.size = len(picture())
                tar.addfile(member, io.BytesIO(picture()))
            else:
                tar.addfile(member)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("../canary.png", OUTSIDE),
        ("a/../../canary.png", OUTSIDE),
        ("a/../b.png", OUTSIDE),
        ("../..png", OUTSIDE),
        ("/etc/passwd.png", OUTSIDE),
        ("//canary.png", OUTSIDE),
        ("x" * 5000 + ".png", BAD_NAME),
        ("x/" * 100_000 + "a.png", BAD_NAME),
        ("a\nb.png", None),
        ("..\\canary.png", None),
        ("%2e%2e/canary.png", None),
        ("\u202egnp.exe.png", None),
        ("\uff0e\uff0e/canary.png", None),
        ("\u2024\u2024/canary.png", None),
        ("a//b.png", None),
        ("./a.png", None),
        ("C:\\windows\\a.png", None),
        ("file:///etc/passwd.png", None),
        ("http://127.0.0.1/a.png", None),
    ],
)
def test_a_member_s_name_leads_nowhere(inside: Path, name: str, refusal: str | None) -> None:
    tar = tar_of(inside / "x.tar", member(name), member("good.png"))
    assert outcomes(tar) == [refusal, None]
    assert len(list_source(str(tar)).entries[0].name) < 4200


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (tarfile.SYMTYPE, [UNREADABLE]),
        (tarfile.LNKTYPE, [UNREADABLE]),
        (tarfile.CHRTYPE, []),
        (tarfile.BLKTYPE, []),
        (tarfile.FIFOTYPE, []),
        (tarfile.DIRTYPE, []),
    ],
)
def test_a_member_that_is_no_file_is_not_followed(
    inside: Path, kind: bytes, expected: list[str]
) -> None:
    linked = member("a.png", kind, "../../canary.png")
    assert outcomes(tar_of(inside / "x.tar", linked, member("good.png"))) == [*expected, None]


def test_a_sparse_member_is_refused(inside: Path) -> None:
    sparse = member("a.png")
    sparse.pax_headers = {"GNU.sparse.map": "0,8", "GNU.sparse.size": str(2**60)}
    assert outcomes(tar_of(inside / "x.tar", sparse, member("good.png"))) == [UNREADABLE, None]


def test_a_member_over_the_limit_is_refused_unread(inside: Path) -> None:
    huge = member("huge.png")
    huge.size = 2**40
    with open(inside / "x.tar", "wb") as file:
        file.write(huge.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + 2**40 + 1024)  # a terabyte of nothing, on no disk
    assert outcomes(inside / "x.tar") == [RefusalReason.TOO_LARGE_FILE]


def header(size: int, kind: bytes) -> bytes:
    """Return a header that says so many bytes follow, whether they do or not."""
    info = member("x", kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return f"{length}{text}".encode()


def pax(body: bytes) -> bytes:
    return header(len(body), tarfile.XHDTYPE) + padded(body)


_FILE = header(8, tarfile.REGTYPE) + padded(b"8 bytes.")
_LONG = header(2, tarfile.GNUTYPE_LONGNAME) + padded(b"x\0")
_END = bytes(1024)
BAD_TARS: dict[str, bytes] = {
    "a header of 100 MB": header(10**8, tarfile.XHDTYPE) + bytes(10**8),
    "a long name of 100 MB": header(10**8, tarfile.GNUTYPE_LONGNAME) + b"x" * 10**8,
    "a header of exabytes": header(2**62, tarfile.XHDTYPE) + bytes(2048),
    "a long name of less than nothing": header(-(2**40), tarfile.GNUTYPE_LONGNAME) + bytes(2048),
    "a header of digits": pax(b"1" * 900_000) + _FILE,
    "a size below zero": pax(record("size", "-1024")) + _FILE,
    "a size far below zero": _FILE + pax(record("size", str(-(2**62)))) + _FILE,
    "a size of thousands of digits": pax(record("size", "9" * 5000)) + _FILE,
    "a size that is no number": pax(record("size", "nan")) + _FILE,
    "a member of exabytes": header(2**62, tarfile.REGTYPE) + _FILE,
    "a member of less than nothing": header(-1024, tarfile.REGTYPE) + _FILE,
    "headers of headers": pax(record("path", "x")) * 3_000 + _FILE,
    "long names of long names": _LONG * 3_000 + _FILE,
    "a record that says it is shorter": pax(b"0 path=x\n") + _FILE,
    "sparse without an end": header(8, tarfile.GNUTYPE_SPARSE)[:482] + b"\1" + bytes(29) + _FILE,
    "a sparse map without an end": pax(
        record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")
    ) + header(512, tarfile.REGTYPE) + b"999999999\n" + b"1\n" * 4_000_000,
    "nothing but noise": bytes(range(256)) * 40,
}  # fmt: skip


def test_a_zero_byte_in_a_member_s_name_is_a_bad_name(inside: Path) -> None:
    named = pax(record("path", "a\0b.png")) + _FILE
    (inside / "x.tar").write_bytes(named + _END)
    assert outcomes(inside / "x.tar") == [BAD_NAME]


@pytest.mark.parametrize("name", BAD_TARS)
def test_a_tar_that_lies_of_itself_is_refused_by_name(inside: Path, name: str) -> None:
    (inside / "x.tar").write_bytes(BAD_TARS[name] + _END)
    with pytest.raises(InputError, match=r"^tar x\.tar (cannot be read|is damaged)") as caught:
        list_source(str(inside / "x.tar"))
    assert "\n" not in str(caught.value)


def parquet(inside: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, inside / "p.parquet", **options)
    return inside / "p.parquet"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([[b"x"], None], pa.list_(pa.binary())),
        pa.array([{"bytes": [b"x"], "path": "a"}, None]),
        pa.array([{"bytes": "x", "path": "a"}, None]),
        pa.array([{"path": "a", "more": {"bytes": b"y"}}, None]),
        pa.array([None, None]),
        pa.array([1.5, None]),
    ],
    ids=str,
)
def test_columns_of_wrong_types_are_refused_by_name(inside: Path, column: pa.Array) -> None:
    with pytest.raises(InputError, match=r"Parquet p\.parquet has columns image"):
        list_source(str(parquet(inside, pa.table({"image": column}))))


def test_null_rows_are_missing_and_names_of_any_type_are_no_danger(inside: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None, {"bytes": None, "path": None}, {"bytes": picture(), "path": None}]
    names = pa.array([2**62, None, -(2**62)], pa.timestamp("us"))
    table = pa.table({"image": pa.array(rows, kind), "id": names})
    missing = RefusalReason.MISSING
    assert outcomes(parquet(inside, table)) == [missing, missing, None]


@pytest.mark.parametrize(
    "path", ["../canary.png", "/etc/passwd", "a/../../canary.png", "..", "/proc/self/environ"]
)
def test_a_picture_named_beside_null_bytes_lies_in_the_source(inside: Path, path: str) -> None:
    (inside / "good.png").write_bytes(picture())
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": path}, {"bytes": None, "path": "good.png"}]
    assert outcomes(parquet(inside, pa.table({"image": pa.array(rows, kind)}))) == [OUTSIDE, None]


@pytest.mark.slow
def test_names_without_end_in_a_parquet_file_are_cut(inside: Path) -> None:
    table = pa.table({"image": [picture()] * 500, "name": ["n" * 1_000_000] * 500})
    path = parquet(inside, table)
    assert path.stat().st_size < 2_000_000
    names = [entry.name for entry in list_source(str(path)).entries]
    assert len(names) == 500
    assert max(len(name) for name in names) < 200
    assert set(outcomes(path)) == {BAD_NAME}


@pytest.mark.slow
def test_a_row_group_over_the_limit_is_refused_and_not_held(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MOST_GROUP_BYTES", 50_000_000)
    table = pa.table({"image": [bytes(1_000_000)] * 1_000})
    path = parquet(inside, table)
    assert path.stat().st_size < 3_000_000  # a gigabyte, said once
    listing = list_source(str(path))
    with EntryReader(listing.root, LIMITS) as reader:
        for entry in listing.entries[:3]:
            with pytest.raises(
                Refused, match=r"row group's columns .image. take .* smaller row groups"
            ):
                reader.read(entry)


def test_a_file_cannot_claim_more_rows_than_it_has_bytes(inside: Path) -> None:
    path = parquet(inside, pa.table({"image": pa.nulls(100_000, pa.binary())}))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="names 100,000 rows in"):
        list_source(str(path))


ELSEWHERE = [
    "http://127.0.0.1/a.jpg",
    "https://example.org/a.jpg",
    "HTTP://10.0.0.1:8080/a.jpg",
    "http://[::1]/a.jpg",
    "http://169.254.169.254/latest/meta-data",
    "http://user:secret@localhost/a.jpg",
    "ftp://127.0.0.1/a.jpg",
    "ftps://127.0.0.1/a.jpg",
    "sftp://127.0.0.1/a.jpg",
    "gopher://127.0.0.1:70/a",
    "dict://127.0.0.1:11211/stat",
    "ldap://127.0.0.1/a",
    "tftp://127.0.0.1/a",
    "smb://127.0.0.1/share/a.jpg",
    "gs://bucket/a.jpg",
    "hdfs://namenode/a.jpg",
    "abfs://container@account/a.jpg",
    "jar:http://127.0.0.1/a.jar",
    "data:image/png;base64,iVBORw0KGgo=",
    "DATA:,hello",
    "file://10.0.0.1/share/a.jpg",
    "zip://a.zip::http://127.0.0.1/b.jpg",
    "filecache://a.jpg",
    "memory://a.jpg",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_no_list_can_have_anything_fetched(inside: Path, address: str) -> None:
    seen: list[str] = []
    (inside / "x.txt").write_text(f"{address}\n")
    pq.write_table(pa.table({"url": [address]}), inside / "u.parquet")
    for source in ("x.txt", "u.parquet"):
        with observed() as events:
            try:
                listing = list_source(str(inside / source))
            except InputError as error:
                seen.append(str(error))
            else:  # a name with a colon in it, of a file that is not there
                table, _, _ = probe_entries(listing.root, listing.kind, listing.entries, LIMITS)
                assert table.column("refusal").to_pylist() == ["missing"]
                assert "://" not in address or address.startswith("jar:")
        assert not [event for event in events if event[0].startswith("socket.")]
    assert not [line for line in seen if "\n" in line]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"a\0b.png", BAD_NAME),
        (b"\xff\xfe.png", BAD_NAME),
        (b"n" * 5000 + b".png", BAD_NAME),
        (b"n" * 300 + b".png", UNREADABLE),
        ("\u202egnp.png".encode(), RefusalReason.MISSING),
        (b"..\\canary.png", RefusalReason.MISSING),
        (b"/dev/zero", UNREADABLE),
        (b"/dev/stdin", UNREADABLE),
        (b".", UNREADABLE),
        (b"sub//good.png", None),
        (b"\x1b[2Jgood.png", RefusalReason.MISSING),
    ],
)
def test_a_line_of_a_list_is_a_name_and_no_more(
    inside: Path, line: bytes, refusal: str | None
) -> None:
    (inside / "sub").mkdir()
    (inside / "sub/good.png").write_bytes(picture())
    (inside / "x.lst").write_bytes(line + b"\n")
    assert outcomes(inside / "x.lst") == [refusal]


def test_a_line_without_end_is_no_list(inside: Path) -> None:
    (inside / "x.txt").write_bytes(b"ok.png\n" + b"n" * 1_000_000)
    with pytest.raises(InputError, match=r"list x\.txt, line 2: more than 65,536 bytes"):
        list_source(str(inside / "x.txt"))


def test_numbers_in_hand_made_headers_are_as_meant() -> None:
    assert struct.unpack(">q", header(-1024, tarfile.REGTYPE)[128:136])[0] == -1024
    read_number: Callable[[bytes], int] = vars(tarfile)["nti"]
    assert read_number(header(-1024, tarfile.REGTYPE)[124:136]) == -1024
    assert read_number(header(2**62, tarfile.REGTYPE)[124:136]) == 2**62
