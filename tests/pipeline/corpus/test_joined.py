"""Several sources as one corpus: names, listing, reading, moving, and stores that lie."""

import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lamella
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.entries import Entry
from lamella.pipeline.corpus.image_table import probe_rows
from lamella.pipeline.corpus.joined import joined, moved, part_for, parts_of, shown, source_of
from lamella.pipeline.corpus.joined_listing import list_corpus
from lamella.pipeline.corpus.locations import may_fetch, place_of
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.roots import picture_root
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.verify import verify_store
from tests.tiny import ids_by_name, tiny_index, tiny_pictures


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Sources of all kinds: a folder, a list of pictures in it, a tar, a Parquet file."""
    folder = tiny_pictures(tmp_path / "data/oxford", 3, broken=0)
    (folder / "notes.md").write_text("no picture")
    (tmp_path / "some.txt").write_text(f"{folder}/01.png\ndata/oxford/00.png\n")
    with tarfile.open(tmp_path / "web.tar", "w") as tar:
        tar.add(folder / "02.png", "b/02.png")
    table = pa.table({"name": ["a.png"], "photo": [(folder / "00.png").read_bytes()]})
    pq.write_table(table, tmp_path / "rows.parquet")
    return {
        "oxford": str(folder),
        "some": str(tmp_path / "some.txt"),
        "web": str(tmp_path / "web.tar"),
        "rows": str(tmp_path / "rows.parquet"),
    }


def test_a_place_without_a_name_is_called_by_its_last_part(places: dict[str, str]) -> None:
    assert parts_of(source_of(list(places.values()))) == places
    assert list(parts_of(source_of(["b-c=/x", "b=/y"]))) == ["b-c", "b"]  # "b-c/" before "b/"
    assert source_of(["/x"]) == "/x"
    assert parts_of(source_of(["s3://bucket/a/", "web=/w"])) == {"a": "s3://bucket/a/", "web": "/w"}
    assert parts_of(source_of(["one=/x"])) == {"one": "/x"}


def test_a_file_whose_name_has_a_sign_of_equality_is_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    assert source_of(["a=b"]) == "a=b"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "a corpus has a source"),
        (["/a/images", "/b/images"], "are both called 'images': name them, as in images=/a/images"),
        (["x,y=/a", "/b"], "has 1 to 64 letters"),
        (["/", "/b"], "has 1 to 64 letters"),
        (["..=/a", "/b"], "has 1 to 64 letters"),
    ],
)
def test_names_that_are_none_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source_of(given)


def test_sources_of_all_kinds_are_one_listing(places: dict[str, str]) -> None:
    found = list_corpus(joined(places), "photo")
    assert [(each.name, each.container) for each in found.entries] == [
        *((f"oxford/{name}", "") for name in ("00.png", "01.png", "02.png", "notes.md")),
        ("rows/a.png", "rows/rows.parquet"),
        (f"some/{places['oxford']}/01.png", ""),  # its name begins with a slash
        ("some/data/oxford/00.png", ""),
        ("web/web.tar/b/02.png", "web/web.tar"),
    ]
    assert parts_of(found.kind) == {
        "oxford": "folder",
        "some": "list",
        "web": "webdataset",
        "rows": "parquet:photo",
    }
    rows = probe_rows(found.root, found.kind, found.entries, DecodeLimits())
    assert [row and row["refusal"] for row in rows] == [None] * 8
    assert [row is None for row in rows] == [each.name.endswith(".md") for each in found.entries]
    first, same = rows[0], rows[4]
    assert first is not None
    assert same is not None
    assert first["sha256"] == same["sha256"]


def test_a_column_must_be_one_of_some_source(places: dict[str, str]) -> None:
    del places["rows"]
    with pytest.raises(InputError, match="none of the sources oxford, some, web holds any"):
        list_corpus(joined(places), "photo")


def test_the_digest_changes_with_a_kind(places: dict[str, str], tmp_path: Path) -> None:
    folder = list_corpus(joined({"a": places["oxford"]}))
    lines = tmp_path / "data/oxford.txt"
    lines.write_text("".join(f"oxford/{name}\n" for name in ("00.png", "01.png", "02.png")))
    assert list_corpus(joined({"a": str(lines)})).digest() != folder.digest()
    assert list_corpus(joined({"a": places["oxford"]})).digest() == folder.digest()


ROOT = joined({"a": "/data/a", "b": "s3://bucket/b"})
KIND = joined({"a": "folder", "b": "list"})


def test_a_name_leads_to_its_own_source() -> None:
    assert place_of(ROOT, "a/x/1.jpg") == "/data/a/x/1.jpg"
    assert place_of(ROOT, "b/x/1.jpg") == "s3://bucket/b/x/1.jpg"
    assert part_for("/data", "a/x.jpg") == ("/data", "a/x.jpg")
    assert shown(ROOT) == "a=/data/a, b=s3://bucket/b"
    assert shown("/data") == "/data"


@pytest.mark.parametrize(
    "entry",
    [
        Entry("c/1.jpg"),
        Entry("1.jpg"),
        Entry("a/../../etc/passwd"),
        Entry("a//etc/passwd"),
        Entry("a/1.jpg", "c/web.tar"),
        Entry("a/1.jpg", "b/web.tar"),
        Entry("s3://elsewhere/1.jpg"),
        Entry("a/s3://elsewhere/1.jpg"),
    ],
)
def test_a_name_of_no_source_or_outside_of_it_is_refused(entry: Entry) -> None:
    with EntryReader(ROOT, kind=KIND) as reader, pytest.raises(Refused, match="outside-source"):
        reader.read(entry)
    assert entry.container or not may_fetch(KIND, entry.name)


@pytest.mark.parametrize("text", ["several:[]", 'several:{"a":1}', 'several:{"b":"1","a":"2"}'])
def test_a_damaged_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="several sources are a name and a text each"):
        parts_of(text)


def test_sources_that_moved_are_named_one_by_one_or_by_their_folder(tmp_path: Path) -> None:
    assert moved(ROOT, "a=/new") == joined({"a": "/new", "b": "s3://bucket/b"})
    assert moved(ROOT, "/new/") == joined({"a": "/new/a", "b": "/new/b"})
    with pytest.raises(InputError, match="has the sources 'a', 'b'; --pictures names 'c'"):
        moved(ROOT, "c=/new")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    store = open_store(str(tmp_path / "store"), create=True)
    assert picture_root(store, ROOT, str(tmp_path)) == joined(
        {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    )


def test_an_index_of_two_sources_is_renewed_moved_and_sound(tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    tiny_pictures(data / "oxford", 4, broken=0)
    tiny_pictures(data / "more", 6, broken=1)
    source = source_of([str(data / "oxford"), str(data / "more")])
    snapshot = tiny_index(store, source)
    assert (snapshot.indexed, snapshot.refused, snapshot.corpus) == (9, 1, "more-oxford")
    ids = ids_by_name(store, snapshot)
    assert list(ids) == [f"more/{n:02d}.png" for n in range(5)] + [
        f"oxford/{n:02d}.png" for n in range(4)
    ]
    again = tiny_index(tmp_path / "again", source_of([str(data / "more"), str(data / "oxford")]))
    assert again.root_digest == snapshot.root_digest
    (data / "oxford/03.png").unlink()
    opened = open_store(str(store))
    renewed = reindex(opened, SerialRunner(), threads=1, watch=Watch(), force=True)
    assert renewed.indexed == 8
    assert not verify_store(opened).damage
    smallest = min(store_status(opened)["corpora"], key=lambda corpus: corpus["images"])
    assert smallest["sources"] == {"more": 6, "oxford": 3}
    shutil.move(data, tmp_path / "elsewhere")
    table = ImageTable(opened, renewed, pictures=str(tmp_path / "elsewhere"))
    assert table.picture_bytes(ids["oxford/00.png"]) == table.picture_bytes(ids["more/00.png"])
    with lamella.open(store) as index:
        found = index.query(names="oxford/00.png", k=2)
        assert sorted(found.names[0]) == ["more/00.png", "oxford/00.png"]


def test_python_takes_sources_by_name(tmp_path: Path) -> None:
    for name in "ab":
        tiny_pictures(tmp_path / name / "images", 2, broken=0)
    with pytest.raises(InputError, match="has 1 to 64 letters"):
        lamella.index({"x,y": tmp_path / "a/images"}, into=tmp_path / "store")
    with pytest.raises(InputError, match=r"source .*/none cannot be opened"):
        lamella.index(
            {"x": tmp_path / "a/images", "y": str(tmp_path / "none")}, into=tmp_path / "s"
        )
