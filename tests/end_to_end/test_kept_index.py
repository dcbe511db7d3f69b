"""An index with kept columns: what answers show, filters, upkeep, and what is not done again."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lamella
from lamella.pipeline.corpus import image_table
from lamella.pipeline.corpus.joined import joined
from lamella.pipeline.errors import CorruptFile, InputError
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.jobs.indexing import index_prepared, prepare
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.record_rules import broken_rule
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.forgotten_check import check_forgotten
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.retry_refused import retry_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import FileRef
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.snapshot import IndexSnapshot
from tests.command_line import complaint
from tests.command_line import lamella as command
from tests.end_to_end.commands import current, tiny_runs
from tests.parquets import dated, write_rows
from tests.s3 import upload
from tests.tiny import tiny_index, tiny_job, tiny_pictures

YEARS = [2018, 2019, None, 2021, 2022, 2023]
COLUMNS: dict[str, Any] = {
    "year": pa.array(YEARS, pa.int16()),
    "author": ["Ann", "bob", "Ann", None, 'it\'s "C"', "back\\slash"],
    "taken": [dt.datetime(2018 + n, 1, 1, 12) for n in range(6)],
    "score": [0.5, float("nan"), None, 1.5, 2.5, 3.5],
}
SMALL = """
[network.preprocess]
short_edge = 64
crop = 64
[vocabulary]
words = 12
rounds = 3
"""
KEEP = ("year", "author", "taken", "score")


class Kept:
    """A Parquet file of five pictures and a broken one, beside a folder of two others, indexed."""

    def __init__(self, folder: Path) -> None:
        self.pictures = tiny_pictures(folder / "pictures", 6, broken=1)
        self.rows = write_rows(folder / "rows.parquet", self.pictures, COLUMNS)
        tiny_pictures(folder / "more", 2, broken=0)
        self.source = joined({"rows": str(self.rows), "more": str(folder / "more")})
        self.store = LocalStore(folder / "store")
        self.snapshot = tiny_index(folder / "store", self.source, corpus__columns=KEEP)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with tiny_runs():
        yield Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def own(kept: Kept, tmp_path: Path) -> LocalStore:
    """A copy of the store, to be written to."""
    return LocalStore(Path(shutil.copytree(kept.store.root, tmp_path / "store")))


def values_of(store: LocalStore, snapshot: IndexSnapshot, column: str) -> dict[str, Any]:
    """Return a kept column by the names of pictures, from the stored tables."""
    found: dict[str, Any] = {}
    for shard in shards_of(store, snapshot):
        assert shard.columns is not None
        names = pq.read_table(store.root / shard.file.path)["name"].to_pylist()
        values = pq.read_table(store.root / shard.columns.path)[column].to_pylist()
        found |= dict(zip(names, values, strict=True))
    return found


def test_tables_and_answers_show_kept_columns(kept: Kept) -> None:
    with lamella.open(kept.store.root) as index:
        images = index.images()
        assert [n for n in images.column_names if n.startswith("meta.")] == [
            f"meta.{name}" for name in KEEP
        ]
        years = dict(zip(images["name"].to_pylist(), images["meta.year"].to_pylist(), strict=True))
        assert years == {"more/00.png": None, "more/01.png": None} | {
            f"rows/{n:02d}.png": year for n, year in enumerate(YEARS)
        }
        found = index.query(names="rows/03.png", k=3).to_arrow()
        assert found["name"][0].as_py() == "rows/03.png"
        assert found["meta.year"][0].as_py() == 2021
        assert found["meta.taken"].type == pa.timestamp("us")
        empty = index.query([], k=3).to_arrow()
        assert empty.schema == found.schema


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year >= 2019", ["rows/01.png", "rows/03.png", "rows/04.png"]),
        ("year == None", ["more/00.png", "more/01.png", "rows/02.png"]),
        ('startswith(name, "rows/0") and not year < 2021', ["rows/03.png", "rows/04.png"]),
        ('source == "more"', ["more/00.png", "more/01.png"]),
        ('taken < "2019-06-01"', ["rows/00.png", "rows/01.png"]),
        ("author == 'it\\'s \"C\"'", ["rows/04.png"]),
        ("score > 1 or score != score", ["rows/01.png", "rows/03.png", "rows/04.png"]),
        ("width == height and size_bytes > 10**0", None),
        ("year == 1", []),
    ],
)
@pytest.mark.parametrize(("mode", "expand"), [("exact", 0), ("exact", 2), ("paper", 0)])
def test_a_filter_gives_the_best_of_what_it_allows(
    kept: Kept, where: str, expected: list[str] | None, mode: Any, expand: int
) -> None:
    asked: dict[str, Any] = {"names": "rows/00.png", "mode": mode, "expand": expand}
    with lamella.open(kept.store.root) as index:
        if expected is None:
            with pytest.raises(InputError, match=r"10 \*\* 0 is nothing that a filter knows"):
                index.query(**asked, where=where)
            return
        found = index.query(**asked, k=7, where=where)
        assert sorted(name for name in found.names[0] if name) == expected
        assert found.certified.all()
        if not expand:  # in the order of all, with the same scores
            every = index.query(**asked, k=7)
            pairs = zip(every.names[0], every.scores[0], strict=True)
            ranked = [(name, score) for name, score in pairs if name in expected]
            assert ranked == list(
                zip(found.names[0][: len(expected)], found.scores[0], strict=False)
            )
        others = index.query(**asked, k=7, where=where, exclude_self=True)
        left = [name for name in others.names[0] if name]
        assert sorted(left) == [name for name in expected if name != "rows/00.png"]


def test_the_command_shows_filters_and_copies_them(own: LocalStore, tmp_path: Path) -> None:
    query = ("query", own.root, "--names", "rows/00.png")
    said = command(*query, "--where", "year >= 2021", "--into", "late")
    assert said.returncode == 0, said.stderr
    assert "of the pictures where year >= 2021" in said.stdout
    assert "2021" in said.stdout
    shown = json.loads(command("query", own.root, "--into", "late", "--json").stdout)
    assert shown["run"]["where"] == "year >= 2021"
    assert [row["meta.year"] for row in shown["rankings"]] == [2021, 2022] or [
        row["meta.year"] for row in shown["rankings"]
    ] == [2022, 2021]
    every = json.loads(command(*query, "--json").stdout)["rankings"]
    by_name = {row["name"]: row for row in every}
    assert by_name["rows/01.png"]["meta.score"] is None  # JSON has no NaN
    assert by_name["rows/00.png"]["meta.taken"] == "2018-01-01 12:00:00.000000"
    assert by_name["rows/04.png"]["meta.author"] == 'it\'s "C"'
    for name in ("a.parquet", "a.csv", "a.trec"):
        option = "--trec" if name.endswith("trec") else "--out"
        command("query", own.root, "--into", "late", option, tmp_path / name)
    assert sorted(pq.read_table(tmp_path / "a.parquet")["meta.year"].to_pylist()) == [2021, 2022]
    assert '"meta.author"' in (tmp_path / "a.csv").read_text()
    assert "2021" not in (tmp_path / "a.trec").read_text()
    other = complaint(command("query", own.root, "--into", "late", "--where", "year > 1"))
    assert "where was year >= 2021, is year > 1" in other
    told = complaint(command(*query, "--where", "yaer > 1"))
    assert "there is no column 'yaer': it has year, author, taken, score, name" in told
    assert "did you mean year?" in told
    # The snapshot of a run may be gone: then its answers are shown as they are stored.
    (own.root / "snapshots/000001.json").unlink()
    assert (
        "the snapshot that was asked is gone" in command("query", own.root, "--into", "late").stdout
    )
    alone = json.loads(command("query", own.root, "--into", "late", "--json").stdout)
    assert len(alone["rankings"]) == 2
    assert "meta.year" not in alone["rankings"][0]


def test_status_lists_kept_columns(kept: Kept) -> None:
    (corpus,) = store_status(kept.store)["corpora"]
    assert corpus["columns"][:2] == [
        {"name": "year", "type": "int64", "known": 5, "sources": {"rows": 5}},
        {"name": "author", "type": "string", "known": 5, "sources": {"rows": 5}},
    ]
    said = command("status", kept.store.root).stdout
    assert "kept year (int64): known of 5 pictures, 5 of rows" in said


def test_changed_metadata_is_a_new_snapshot_and_no_picture_is_extracted_again(
    tmp_path: Path,
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 6, broken=0)
    names = [f"pictures/{each.name}" for each in sorted(pictures.iterdir())]
    rows, store = tmp_path / "rows.parquet", LocalStore(tmp_path / "store")
    read: list[str] = []
    probe = image_table.probe_entry

    def noting(reader: Any, entry: Any, *more: Any) -> Any:
        read.append(entry.name)
        return probe(reader, entry, *more)

    def index(*columns: str, **values: Any) -> tuple[IndexSnapshot, list[str]]:
        read.clear()
        dated(rows, {"path": names, **values}, turn=len(list(tmp_path.rglob("snapshots/*"))))
        open_store(str(store.root), create=True)
        notes: list[str] = []
        prepared = prepare(str(rows), tiny_job(corpus__columns=columns))
        made = index_prepared(
            store, SerialRunner(), prepared, threads=1, watch=Watch(note=notes.append)
        )
        return made, notes

    with tiny_runs(), mock.patch.object(image_table, "probe_entry", noting):
        first, _ = index(year=[1, 2, 3, 4, 5, 6])
        assert len(read) == 6
        with_years, notes = index("year", year=[1, 2, 3, 4, 5, 6])
        assert not read  # neither does a picture's file
        assert "6 of 6 pictures in changed shards are known" in notes[0]
        assert "0 go through the network" in notes[0]
        assert with_years.root_digest != first.root_digest
        assert values_of(store, with_years, "year")["pictures/02.png"] == 3
        changed, notes = index("year", year=[1, 2, 30, 4, 5, 6])
        assert not read
        assert "; 0 go through the network" in notes[0]
        assert values_of(store, changed, "year")["pictures/02.png"] == 30
        assert changed.root_digest != with_years.root_digest
        both, _ = index("year", "tag", year=[1, 2, 30, 4, 5, 6], tag=list("abcdef"))
        assert not read
        assert values_of(store, both, "tag")["pictures/05.png"] == "f"
        again, notes = index("year", year=[1, 2, 30, 4, 5, 6])
        assert (again.root_digest, notes) == (changed.root_digest, [])
        fresh = tiny_index(tmp_path / "fresh", rows, corpus__columns=("year",))
        assert fresh.corpus_content == changed.corpus_content
        assert not verify_store(store).damage
    with lamella.open(store.root, at=changed.number) as opened:
        assert opened.query(names=names[2], k=2, where="year == 30").names[0][0] == names[2]


def test_what_is_forgotten_takes_its_row_along(own: LocalStore, kept: Kept) -> None:
    name = "rows/04.png"
    found = forget_picture(own, SerialRunner(), by="name", value=name, reason="asked", threads=1)
    assert found.pictures == 1
    assert not verify_store(own).damage
    assert check_forgotten(own, name=name) == []
    data = b"".join(path.read_bytes() for path in own.root.rglob("*.parquet"))
    assert b'it\'s "C"' not in data
    assert b"back\\slash" in data
    years = values_of(own, current(own.root), "year")
    assert name not in years
    assert years["rows/03.png"] == 2021


def test_damage_is_found_and_mended(own: LocalStore) -> None:
    before = values_of(own, current(own.root), "year")
    (path, *_) = sorted(own.root.glob("looks/*/columns/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    damage = verify_store(own).damage
    assert [each.path for each in damage] == [str(path.relative_to(own.root))]
    repair_store(own, SerialRunner(), threads=1)
    assert not verify_store(own).damage
    assert values_of(own, current(own.root), "year") == before
    collect_garbage(own, older_than_s=-1.0, forced=True)
    assert values_of(own, current(own.root), "year") == before


def test_a_stranger_s_columns_are_checked(own: LocalStore) -> None:
    snapshot = current(own.root)
    images = ImageTable(own, snapshot)
    shard = next(each for each in shards_of(own, snapshot) if each.images > 1)
    assert shard.columns is not None
    other = shard.columns.model_copy(update={"path": shard.file.path, "sha256": shard.file.sha256})
    other = other.model_copy(update={"size_bytes": shard.file.size_bytes})
    with pytest.raises(CorruptFile, match="not the form that it must have: its columns are"):
        images._with_columns(pa.table({}), shard.model_copy(update={"columns": other}))
    assert images.kept.names == list(KEEP)
    with pytest.raises(CorruptFile, match="has other columns or rows than its snapshot"):
        images._with_columns(pa.table({}), shard.model_copy(update={"columns": None}))


def test_a_record_names_columns_in_looks_alone(own: LocalStore) -> None:
    (path, *_) = sorted(own.root.glob("corpora/*/manifest.json"))
    manifest = CorpusManifest.from_json(path.read_bytes())
    name = str(path.relative_to(own.root))
    assert broken_rule(name, manifest) is None
    shard = manifest.shards[0]
    assert shard.columns is not None
    elsewhere = shard.columns.model_copy(update={"path": "snapshots/000001.json"})
    shards = (shard.model_copy(update={"columns": elsewhere}), *manifest.shards[1:])
    said = broken_rule(name, manifest.model_copy(update={"shards": shards}))
    assert said == "names snapshots/000001.json, which is no data file in looks"
    one = {"images": 1, "refused": 0, "file": _of(shard.file, 1)}
    value = shard.model_dump() | one | {"columns": _of(shard.columns, 2)}
    with pytest.raises(ValueError, match=r"has 1 images, .* 2 rows"):
        shard.model_validate(value)


def _of(file: FileRef, rows: int) -> dict[str, Any]:
    return file.model_dump() | {"rows": rows}


def test_retried_pictures_keep_their_columns(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 4, broken=0)
    names = [f"pictures/{each.name}" for each in sorted(pictures.iterdir())]
    rows = dated(tmp_path / "rows.parquet", {"path": names, "year": [1, 2, 3, 4]})
    whole = (pictures / "02.png").read_bytes()
    (pictures / "02.png").unlink()
    store = LocalStore(tmp_path / "store")
    with tiny_runs():
        first = tiny_index(store.root, rows, corpus__columns=("year",))
        assert first.refused == 1
        (pictures / "02.png").write_bytes(whole)
        done = retry_store(
            store, SerialRunner(), {RefusalReason.MISSING}, threads=1, watch=Watch()
        ).snapshot
    assert (done.indexed, done.refused) == (4, 0)
    assert values_of(store, done, "year") == dict(zip(names, [1, 2, 3, 4], strict=True))
    assert not verify_store(store).damage


def test_columns_that_are_not_there_or_have_two_types_stop_an_index(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 2, broken=0)
    a = write_rows(tmp_path / "a.parquet", pictures, {"year": [1, 2]})
    b = write_rows(tmp_path / "b.parquet", pictures, {"year": ["1", "2"]})
    into = ("--into", tmp_path / "store", "--engine", "serial")
    said = complaint(command("index", a, "--keep-columns", "yaer", *into))
    assert "no Parquet file has a column 'yaer'" in said
    assert "did you mean year?" in said
    said = complaint(command("plan", a, b, "--keep-columns", "year"))
    assert "is int64 in a/a.parquet and string in b/b.parquet" in said
    assert not (tmp_path / "store").exists()


def test_a_store_without_columns_is_filtered_by_what_it_knows(kept: Kept, tmp_path: Path) -> None:
    snapshot = tiny_index(tmp_path / "store", kept.pictures)
    assert all(each.columns is None for each in shards_of(LocalStore(tmp_path / "store"), snapshot))
    with lamella.open(tmp_path / "store") as index:
        found = index.query(names="00.png", k=5, where='name in ["01.png", "03.png"]')
        assert sorted(found.names[0]) == ["", "", "", "01.png", "03.png"]
        with pytest.raises(InputError, match="there is no column 'source': it has name, container"):
            index.query(names="00.png", where='source == "a"')


def test_a_folder_and_a_prefix_in_s3_are_one_corpus_with_counts_of_each(
    kept: Kept, bucket: str, tmp_path: Path
) -> None:
    there = upload(kept.pictures, f"s3://{bucket}/web/scans")
    rows = tmp_path / "rows"
    rows.mkdir()
    shutil.copy2(kept.rows, rows / "rows.parquet")
    table = upload(rows, f"s3://{bucket}/rows")
    store = tmp_path / "store"
    with tiny_runs():
        job = tmp_path / "job.toml"
        job.write_text(SMALL)
        given = ("--keep-columns", "year", "--engine", "serial", "--job", job)
        said = command("index", kept.pictures, there, table, "--into", store, *given)
        assert said.returncode == 0, said.stderr
    (corpus,) = json.loads(command("status", store, "--json").stdout)["corpora"]
    assert corpus["sources"] == {"pictures": 6, "rows": 6, "scans": 6}
    assert corpus["columns"] == [
        {"name": "year", "type": "int64", "known": 5, "sources": {"rows": 5}}
    ]
    assert "of scans" in command("status", store).stdout
    with lamella.open(store) as index:
        found = index.query(names="pictures/00.png", k=3, where='year == 2018 or source == "scans"')
        assert set(found.names[0][:2]) == {"rows/00.png", "scans/00.png"}
    with tiny_runs():
        renewed = reindex(LocalStore(store), SerialRunner(), threads=1, watch=Watch(), force=True)
    assert renewed.number == 1  # nothing has changed
    assert not verify_store(LocalStore(store)).damage
