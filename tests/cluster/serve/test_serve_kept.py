"""Answers of the server have the columns that an index keeps beside its pictures."""

import datetime as dt
import io
from collections.abc import Iterator

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from lamella.cluster.serve.answers import ARROW
from tests.end_to_end.commands import tiny_runs
from tests.parquets import write_rows
from tests.serving import asked, error_of
from tests.tiny import tiny_index, tiny_pictures

YEARS = [2018, None, 2020, 2021]
TAKEN = [dt.date(2018 + n, 5, 17) for n in range(4)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("kept")
    pictures = tiny_pictures(folder / "pictures", 4, broken=0)
    columns = {"year": pa.array(YEARS, pa.int16()), "taken": TAKEN}
    rows = write_rows(folder / "rows.parquet", pictures, columns)
    with tiny_runs():
        tiny_index(folder / "store", str(rows), corpus__columns=("year", "taken"))
    with asked(folder / "store") as (client, _):
        yield client


def test_json_has_kept_columns_of_every_result_of_every_query(client: TestClient) -> None:
    body = {"names": ["03.png", "00.png"], "k": 4}
    answers = client.post("/query", json=body).json()["answers"]
    for answer in answers:
        assert {hit["name"]: hit["meta"] for hit in answer["results"]} == {
            f"{n:02d}.png": {"year": YEARS[n], "taken": TAKEN[n].isoformat()} for n in range(4)
        }


def test_arrow_has_them_in_their_types_also_without_a_result(client: TestClient) -> None:
    for where, rows in (("year >= 2020", 2), ("year == 1", 0)):
        body = {"names": ["03.png"], "where": where}
        found = client.post("/query", json=body, headers={"Accept": ARROW}).content
        table = pa.ipc.open_stream(io.BytesIO(found)).read_all()
        assert table.num_rows == rows
        assert table.schema.field("meta.year").type == pa.int64()
        assert table.schema.field("meta.taken").type == pa.date32()
        assert sorted(table["meta.year"].to_pylist()) == [2020, 2021][:rows]


def test_a_filter_on_a_column_that_is_not_there_names_the_nearest(client: TestClient) -> None:
    asked_so = {"names": ["03.png"], "where": "yeer > 2"}
    said = error_of(client.post("/query", json=asked_so), 400, "wrong-request")
    assert "year" in said
