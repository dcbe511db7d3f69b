"""Copies of rankings for other programs: the same answers in each, whole or not at all."""

import csv
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs import ranking_copies, rankings
from lamella.pipeline.jobs.ranking_copies import check_kind, copy_rankings, json_of, write_trec
from lamella.pipeline.jobs.rankings import ranking_tables, read_rankings
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.rankings import QueryRun
from tests.pipeline.jobs.ranked import ranked, refusing


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, QueryRun]:
    """Queries 0 to 7 of 9 images, in batches of 3, 0, 3 and 2."""
    return LocalStore(tmp_path), ranked(tmp_path)


def test_a_copy_holds_what_the_end_of_its_name_says(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    table = read_rankings(*run)
    # 9 - q images are found for query q: 9 + 8 + 7 + 6 + 5 + 4 + 3 + 2.
    assert table.num_rows == 44
    for name in ("copy.parquet", "copy.PQ", "copy.csv", "copy.json"):
        copy_rankings(*run, tmp_path / name)
    assert pq.read_table(tmp_path / "copy.parquet").equals(table)
    assert pq.read_table(tmp_path / "copy.PQ").equals(table)
    with (tmp_path / "copy.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = table.to_pylist()
    assert [int(line["image_id"]) for line in lines] == [row["image_id"] for row in rows]
    assert [float(line["score"]) for line in lines] == [row["score"] for row in rows]
    assert json.loads((tmp_path / "copy.json").read_text()) == json.loads("".join(json_of(*run)))


@pytest.mark.parametrize("name", ["copy", "copy.xlsx", "copy.parquet.gz", ".csv"])
def test_a_copy_whose_name_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"ends in \.parquet, \.csv or \.json; got \.?c"):
        check_kind(Path(name))


@pytest.mark.parametrize("name", ["copy.parquet", "copy.csv", "copy.json", "copy.trec"])
def test_a_copy_that_fails_leaves_what_was_there(
    name: str, run: tuple[LocalStore, QueryRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = ranking_tables(*run)

    def cut_short(store: LocalStore, made: QueryRun) -> Iterator[Any]:
        yield first
        raise OSError(28, "No space left on device")

    for module in (rankings, ranking_copies):
        monkeypatch.setattr(module, "ranking_tables", cut_short)
    (tmp_path / name).write_text("of yesterday")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        (write_trec if name.endswith("trec") else copy_rankings)(*run, tmp_path / name)
    assert (tmp_path / name).read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_copy_has_the_rights_of_any_new_file(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    (tmp_path / "other").touch()
    copy_rankings(*run, tmp_path / "copy.csv")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "copy.csv")]
    assert modes[0] == modes[1]


def test_json_says_why_pictures_were_refused_and_where_the_run_is(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    store, made = run
    made = refusing(tmp_path, made, ["truncated", "missing", "truncated"])
    kept = json.loads("".join(json_of(store, made)))
    assert kept["run"]["refused_by_reason"] == {"truncated": 2, "missing": 1}
    assert kept["run"]["stored"] == f"{store.url}/runs/mine/run.json"
    assert len(kept["run"]["rankings"]) == 4
    assert "error" not in kept
    gone = json.loads("".join(json_of(store, made, kept=False, error={"code": 2})))
    assert (gone["run"]["stored"], gone["run"]["rankings"], gone["run"]["refusals"]) == (
        None,
        [],
        [],
    )
    assert gone["error"] == {"code": 2}
    assert gone["rankings"] == kept["rankings"]


def test_a_trec_run_has_six_columns_and_every_digit(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    write_trec(*run, tmp_path / "run.trec", ids=True)
    lines = [line.split(" ") for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert lines[0] == ["0", "Q0", "0", "1", "0.3333333333333333", "mine"]
    rows = read_rankings(*run).to_pylist()
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert [int(line[n]) for n in (0, 2, 3)] == [row["query"], row["image_id"], row["rank"]]
        assert float(line[4]) == row["score"]
        assert (line[1], line[5]) == ("Q0", "mine")


def test_a_trec_run_has_names_that_are_one_word_each(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    write_trec(*run, tmp_path / "run.trec")
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    rows = read_rankings(*run).to_pylist()
    assert lines[0][:3] == ["query%200", "Q0", "image%200"]
    for line, row in zip(lines, rows, strict=True):
        assert len(line) == 6
        assert [unquote(line[0]), unquote(line[2])] == [row["query_name"], row["name"]]


@pytest.mark.parametrize(
    "name", ["a b", "tab\there", "new\nline", "100%", "%20", "a\u2028b", "a\xa0b", "a\x1cb", "é😀"]
)
def test_any_name_comes_back_from_a_trec_run(
    name: str, run: tuple[LocalStore, QueryRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_rankings(*run).slice(0, 1)
    named = table.set_column(4, table.schema.field("name"), pa.array([name], pa.string()))
    monkeypatch.setattr(ranking_copies, "ranking_tables", lambda store, made: iter([named]))
    write_trec(*run, tmp_path / "run.trec")
    (line,) = (tmp_path / "run.trec").read_text().splitlines()
    assert unquote(line.split()[2]) == name


@pytest.mark.parametrize(
    ("column", "said"),
    [("query_name", "two queries have the name 'same'"), ("name", "two pictures of a ranking")],
)
def test_names_that_stand_for_two_are_no_ids(
    column: str,
    said: str,
    run: tuple[LocalStore, QueryRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = [
        table.set_column(
            table.schema.get_field_index(column),
            table.schema.field(column),
            pa.array(["same"] * table.num_rows, pa.string()),
        )
        for table in ranking_tables(*run)
    ]
    monkeypatch.setattr(ranking_copies, "ranking_tables", lambda store, made: iter(tables))
    with pytest.raises(InputError, match=f"{said}.*--trec-ids"):
        write_trec(*run, tmp_path / "run.trec")
    assert not (tmp_path / "run.trec").exists()
    write_trec(*run, tmp_path / "run.trec", ids=True)
