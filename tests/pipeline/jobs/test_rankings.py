"""The rankings of a run as tables, and what a person is shown of them."""

from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs import rankings
from lamella.pipeline.jobs.rankings import first_rankings, known_run, refused_by
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.rankings import rankings_schema
from tests.pipeline.jobs.ranked import answered, ranked, refusing


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


def test_of_several_queries_the_best_other_image_of_each_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankings, "SHOWN_QUERIES", 5)
    run, store = ranked(tmp_path), LocalStore(tmp_path)
    shown = first_rankings(store, run).to_pylist()
    # Query q finds images q, q + 1, ...: the first is itself.
    assert [(row["query"], row["image_id"]) for row in shown] == [(q, q + 1) for q in range(5)]
    pictures = run.model_copy(update={"asked": "pictures"})
    shown = first_rankings(store, pictures).to_pylist()
    assert [(row["query"], row["image_id"]) for row in shown] == [(q, q) for q in range(5)]


def test_of_one_query_the_first_ranks_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankings, "SHOWN_RANKS", 4)
    run = ranked(tmp_path, ([], [3]))
    shown = first_rankings(LocalStore(tmp_path), run).to_pylist()
    assert [(row["query"], row["rank"]) for row in shown] == [(3, rank) for rank in (1, 2, 3, 4)]


def test_refusals_are_counted_by_reason_the_commonest_first(tmp_path: Path) -> None:
    run = refusing(tmp_path, ranked(tmp_path), ["missing", "truncated", "truncated"])
    found = refused_by(LocalStore(tmp_path), run)
    assert list(found.items()) == [("truncated", 2), ("missing", 1)]


def test_a_run_is_known_once_its_record_is_there(tmp_path: Path) -> None:
    store, made = LocalStore(tmp_path), ranked(tmp_path)
    with pytest.raises(InputError, match="has no complete run 'mine': name one"):
        known_run(store, "mine")
    store.create(tree.RUN.at(run="mine"), made.to_json())
    assert known_run(store, "mine") == made
