"""Sources in S3: the same pictures, names and rows as in a folder, and what may lead where."""

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus import locations
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.locations import named_by, place_of
from lamella.pipeline.corpus.passed_over import STORES
from lamella.pipeline.corpus.reader import EntryReader, read_entry
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError, LoginFailed, NoSuchBucket, StoreUnavailable
from lamella.pipeline.store import s3
from lamella.pipeline.store.retry import Patience
from lamella.pipeline.store.storage import open_store
from lamella.schemas.refusals import RefusalReason
from tests.faults import Request, faulty
from tests.s3 import S3Server, environ, environment, upload
from tests.tiny import tiny_pictures

QUICK = Patience(tries=3, first_s=0.001)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one corpus in every form."""
    folder = tmp_path_factory.mktemp("source")
    pictures = tiny_pictures(folder / "pictures")
    (pictures / "notes.txt").write_text("no picture")
    (pictures / ".hidden.png").write_bytes(b"hidden")
    (pictures / "deeper").mkdir()
    (pictures / "deeper" / "größe.png").write_bytes((pictures / "00.png").read_bytes())
    (pictures / "empty.png").write_bytes(b"")
    files = sorted(pictures.glob("*.png"))
    (folder / "tars").mkdir()
    with tarfile.open(folder / "tars" / "a.tar", "w") as tar:
        for path in files:
            tar.add(path, path.name)
    (folder / "tables").mkdir()
    data = {"name": [path.name for path in files], "bytes": [path.read_bytes() for path in files]}
    pq.write_table(pa.table(data), folder / "tables" / "bytes.parquet")
    uris = ["pictures/00.png", "pictures/gone.png", "./pictures/01.png"]
    pq.write_table(pa.table({"uri": uris}), folder / "uris.parquet")
    (folder / "list.txt").write_text("# some\n" + "\n".join(uris) + "\n")
    return folder


@pytest.fixture(scope="module")
def remote(local: Path, bucket: str) -> str:
    return upload(local, f"s3://{bucket}/source")


def rows(source: str) -> tuple[Any, Counter[str]]:
    """Return the image table of a source, and how many files of each kind are ignored."""
    listing = list_source(source)
    images, _, ignored = probe_entries(listing.root, listing.kind, listing.entries, DecodeLimits())
    return images, ignored


@pytest.mark.parametrize(
    "part",
    ["pictures", "pictures/00.png", "tars", "tars/a.tar", "tables", "uris.parquet", "list.txt"],
)
def test_a_corpus_in_s3_has_the_rows_of_the_same_corpus_in_a_folder(
    local: Path, remote: str, part: str
) -> None:
    assert list_source(f"{remote}/{part}").kind == list_source(f"{local}/{part}").kind
    there, here = rows(f"{remote}/{part}"), rows(f"{local}/{part}")
    assert there[0].num_rows > 0
    assert there == here


def test_a_prefix_ends_at_a_slash(local: Path, remote: str) -> None:
    whole, cut = (list_source(f"{remote}/pictures{end}") for end in ("", "/"))
    assert tuple(whole.entries) == tuple(cut.entries)
    with pytest.raises(InputError, match="holds no files"):
        list_source(f"{remote}/pict")


def test_a_local_list_may_name_objects(remote: str, tmp_path: Path, local: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{remote}/pictures/00.png\n{local}/pictures/01.png\n")
    listing = list_source(str(tmp_path / "list.txt"))
    assert [entry.name for entry in listing.entries] == [
        f"{local}/pictures/01.png",
        f"{remote}/pictures/00.png",
    ]
    with EntryReader(listing.root, kind="list") as reader:
        one, zero = (reader.read(entry) for entry in listing.entries)
    assert (zero, one) == tuple(
        (local / "pictures" / name).read_bytes() for name in ("00.png", "01.png")
    )


def test_a_changed_object_is_another_listing(bucket: str) -> None:
    address = f"s3://{bucket}/changing"
    s3.client().put(bucket, "changing/a.png", b"one")
    before = list_source(address).digest()
    assert list_source(address).digest() == before
    s3.client().put(bucket, "changing/a.png", b"two")
    assert list_source(address).digest() != before


def test_an_object_whose_name_is_no_path_is_refused(bucket: str) -> None:
    for page in [("a.png", ""), ("s3:", "x")]:
        assert place_of(f"s3://{bucket}/p", "/".join(page)).startswith(f"s3://{bucket}/p/")
    facts = s3.Facts("odd/s3://elsewhere/a.png", 3, 0.0, "etag")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            s3.S3Client, "pages", lambda *a, **k: iter([s3.Page((facts,), ())]), raising=True
        )
        (entry,) = list_source(f"s3://{bucket}/odd/").entries
    assert entry.fault is RefusalReason.OUTSIDE_SOURCE
    with pytest.raises(Refused, match="outside-source"):
        read_entry(f"s3://{bucket}/odd", entry)


@pytest.mark.parametrize(
    ("root", "text", "place"),
    [
        ("/lists", "a.jpg", "/lists/a.jpg"),
        ("/lists", "/pics/a.jpg", "/pics/a.jpg"),
        ("/lists", "file:///pics/a%20b.jpg", "/pics/a b.jpg"),
        ("/lists", "s3://bucket/a.jpg", "s3://bucket/a.jpg"),
        ("s3://bucket/lists", "a.jpg", "s3://bucket/lists/a.jpg"),
        ("s3://bucket/lists", "./b/a.jpg", "s3://bucket/lists/b/a.jpg"),
        ("s3://bucket/lists", "S3://other/a.jpg", "s3://other/a.jpg"),
        ("s3://bucket", "a.jpg", "s3://bucket/a.jpg"),
    ],
)
def test_a_reference_leads_here(root: str, text: str, place: str) -> None:
    assert place_of(root, named_by(root, text)) == place


@pytest.mark.parametrize(
    ("root", "text"),
    [
        *(("s3://bucket/lists", text) for text in ("/etc/passwd", "file:///etc/passwd")),
        *(("s3://bucket/lists", text) for text in ("../a.jpg", "a/../../b.jpg", "FILE:///x")),
        *(
            (root, text)
            for root in ("/lists", "s3://bucket/lists")
            for text in (
                "http://host/a.jpg",
                "https://169.254.169.254/latest",
                "gs://bucket/a.jpg",
                "s3://KEY:hush@bucket/a.jpg",
                "s3://127.0.0.1:8333/bucket/a.jpg",
                "s3://bucket",
                "s3://bucket/../other/a.jpg",
            )
        ),
    ],
)
def test_a_reference_that_leads_elsewhere_is_refused(root: str, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each has its own message
        named_by(root, text)
    assert "hush" not in str(caught.value)


def test_a_list_in_s3_cannot_have_a_local_file_read(bucket: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    s3.client().put(bucket, "evil/list.txt", f"{secret}\n".encode())
    with pytest.raises(InputError, match=r"line 1: what lies in S3 may name pictures below"):
        list_source(f"s3://{bucket}/evil/list.txt")
    table = io.BytesIO()
    pq.write_table(pa.table({"uri": [str(secret)]}), table)
    s3.client().put(bucket, "evil/t.parquet", table.getvalue())
    with pytest.raises(InputError, match=r"row 0: what lies in S3"):
        list_source(f"s3://{bucket}/evil/t.parquet")
    with pytest.raises(Refused, match="unreadable"):
        read_entry(f"s3://{bucket}/evil", Entry("x", "t.parquet", 0))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "A_PICTURE", QUICK)
    monkeypatch.setattr(s3, "PATIENT", QUICK)


def test_an_object_that_never_comes_is_refused_by_name(
    s3_server: S3Server, remote: str, impatient: None
) -> None:
    entry, other = Entry("pictures/00.png"), Entry("pictures/01.png")
    for fault in ("error", "cut body", "reset"):

        def rule(request: Request, fault: Any = fault) -> Any:
            return fault if request.path.endswith("/00.png") else None

        with faulty(s3_server.endpoint, rule):
            with pytest.raises(Refused) as caught:
                read_entry(remote, entry)
            assert caught.value.reason is RefusalReason.FETCH_FAILED
            assert len(read_entry(remote, other)) > 0


def test_a_server_that_is_away_refuses_no_picture(
    s3_server: S3Server, remote: str, impatient: None
) -> None:
    """The task fails, to be done again; a refusal would stay after the server is back."""
    with faulty(s3_server.endpoint) as proxy:
        assert len(read_entry(remote, Entry("pictures/00.png"))) > 0
        proxy.rule = lambda request: "error"
        with pytest.raises(StoreUnavailable, match="run the same command again"):
            read_entry(remote, Entry("pictures/00.png"))


def test_credentials_that_expire_refuse_no_picture(s3_server: S3Server, remote: str) -> None:
    with environ(environment(s3_server.endpoint, "testkey", "wrong")), pytest.raises(LoginFailed):
        read_entry(remote, Entry("pictures/00.png"))


def test_a_source_whose_bucket_is_not_there_is_told(s3_server: S3Server) -> None:
    with pytest.raises(NoSuchBucket, match="there is no bucket no-such-bucket"):
        list_source("s3://no-such-bucket/pictures")


def test_an_object_over_the_limit_is_not_fetched(remote: str) -> None:
    with EntryReader(remote, DecodeLimits(max_bytes=10)) as reader, pytest.raises(Refused) as found:
        reader.read(Entry("pictures/00.png"))
    assert found.value.reason is RefusalReason.TOO_LARGE_FILE


def test_a_store_in_its_own_prefix_is_no_part_of_the_source(local: Path, bucket: str) -> None:
    source = upload(local / "pictures", f"s3://{bucket}/with-a-store")
    before = list_source(source)
    open_store(f"{source}/deep/index", create=True)
    after = list_source(source)
    assert [each.name for each in after.entries] == [each.name for each in before.entries]
    assert after.digest() == before.digest()
    assert after.passed_over[STORES] == 1
    hadoop = list_source(source.replace("s3://", "s3a://"))
    assert (hadoop.root, hadoop.digest()) == (before.root, before.digest())
