"""Rankings as tables, as TREC runs and as copies: the same answers in each."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs import rankings
from lamella.pipeline.jobs.rankings import (
    copy_rankings,
    first_rankings,
    known_run,
    ranking_table,
    read_rankings,
    write_trec,
)
from lamella.pipeline.search.segment import Answer
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import sha256_of
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.files import FileRef
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.rankings import QueryRun, rankings_schema

FUSION = FusionSpec(layers=(LayerMap(layer="high", t=0.5, p=0.5), LayerMap(layer="low")))


class Names:
    """Gives a name to every image id."""

    def names_of(self, ids: Any) -> Any:
        return pa.array([f"image {image_id}" for image_id in ids.tolist()])


def answered(ids: list[int], k: int, images: int) -> Any:
    """Return the table of queries that find images `id`, `id + 1`... as far as there are any."""
    found = np.array([[q + n if q + n < images else -1 for n in range(k)] for q in ids], np.int64)
    scores = np.where(found >= 0, 1 / (found + 3.0), -np.inf)
    similarities = np.stack([found + 0.25, found + 0.5], axis=2)
    answer = Answer(found, scores, similarities, np.array([q % 2 == 0 for q in ids]))
    names = pa.chunked_array([[f"query {query}"] for query in ids], pa.string())
    return ranking_table(np.array(ids, np.int64), names, answer, FUSION, Names())  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStore, QueryRun]:
    """Queries 0 to 7 of 9 images, in batches of 3, 0, 3 and 2."""
    folder = tmp_path / "runs/mine/rankings"
    folder.mkdir(parents=True)
    files = []
    for number, ids in enumerate(([0, 1, 2], [], [3, 4, 5], [6, 7])):
        path = folder / f"{number:05d}.{number:012x}.parquet"
        rows = write_parquet(answered(ids, 12, 9) if ids else empty(), path)
        files.append(
            FileRef(
                path=path.relative_to(tmp_path).as_posix(),
                size_bytes=path.stat().st_size,
                sha256=sha256_of(path),
                rows=rows,
            )
        )
    made = QueryRun(
        run="mine",
        inputs="a" * 64,
        snapshot="b" * 64,
        asked="images",
        fusion=FUSION,
        weighting="tf",
        mode="exact",
        k=12,
        images=9,
        queries=8,
        answered=8,
        refused=0,
        certified=4,
        rankings=tuple(files),
        refusals=(),
    )
    return LocalStore(tmp_path), made


def empty() -> Any:
    return rankings_schema(["high", "low"]).empty_table()


def test_a_ranking_has_a_row_for_what_was_found_and_none_for_what_was_not() -> None:
    table = answered([3, 7], 3, 9)
    assert table.schema == rankings_schema(["high", "low"])
    # Query 7 finds images 7 and 8, and there is no ninth.
    assert table.select(["query", "query_name", "rank", "image_id", "name"]).to_pylist() == [
        {"query": q, "query_name": f"query {q}", "rank": r, "image_id": i, "name": f"image {i}"}
        for q, r, i in ((3, 1, 3), (3, 2, 4), (3, 3, 5), (7, 1, 7), (7, 2, 8))
    ]
    assert table.column("score").to_pylist() == [1 / 6, 1 / 7, 1 / 8, 1 / 10, 1 / 11]
    assert table.column("S.low").to_pylist() == [3.5, 4.5, 5.5, 7.5, 8.5]
    assert table.column("certified").to_pylist() == [False] * 5


def test_a_copy_is_all_batches_one_after_the_other(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    copy_rankings(*run, tmp_path / "copy.parquet")
    assert pq.read_table(tmp_path / "copy.parquet").equals(read_rankings(*run))
    # 9 - q images are found for query q: 9 + 8 + 7 + 6 + 5 + 4 + 3 + 2.
    assert read_rankings(*run).num_rows == 44


def test_a_trec_run_has_six_columns_and_every_digit(
    run: tuple[LocalStore, QueryRun], tmp_path: Path
) -> None:
    write_trec(*run, tmp_path / "run.trec")
    lines = [line.split(" ") for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert lines[0] == ["0", "Q0", "0", "1", "0.3333333333333333", "mine"]
    rows = read_rankings(*run).to_pylist()
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert [int(line[n]) for n in (0, 2, 3)] == [row["query"], row["image_id"], row["rank"]]
        assert float(line[4]) == row["score"]
        assert (line[1], line[5]) == ("Q0", "mine")


def test_what_is_shown_are_the_first_ranks_of_the_first_queries(
    run: tuple[LocalStore, QueryRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankings, "SHOWN_RANKS", 2)
    table, more = first_rankings(*run)
    assert [(row["query"], row["rank"]) for row in table.to_pylist()] == [
        (query, rank) for query in range(5) for rank in (1, 2)
    ]
    assert more == 3


def test_a_run_is_known_once_its_record_is_there(
    run: tuple[LocalStore, QueryRun],
) -> None:
    store, made = run
    with pytest.raises(InputError, match="has no complete run 'mine': name one"):
        known_run(store, "mine")
    store.create(tree.RUN.at(run="mine"), made.to_json())
    assert known_run(store, "mine") == made
