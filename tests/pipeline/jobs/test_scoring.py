"""Runs as they are opened for scoring: names and order of a stored run, batch after batch."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery
from lamella.pipeline.jobs.rankings import read_rankings
from lamella.pipeline.jobs.scoring import (
    Judgements,
    corpus_names,
    open_run,
    ranked_file,
    ranked_run,
    read_judgements,
    snapshot_of,
    write_judgements,
)
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.store.local import LocalStore
from tests.end_to_end.commands import Stores, current
from tests.pipeline.jobs.ranked import ranked
from tests.tiny import ids_by_name


def test_a_stored_run_is_read_as_its_tables_say(tmp_path: Path) -> None:
    run, store = ranked(tmp_path), LocalStore(tmp_path)
    seen: list[Progress] = []
    found = ranked_run(store, run, progress=seen.append)
    # Query q finds images q, q + 1 ... 8, best first, with 1 / (image + 3).
    assert found.queries == tuple(f"query {query}" for query in range(8))
    assert found.ranked == tuple(
        tuple(f"image {image}" for image in range(query, 9)) for query in range(8)
    )
    assert found.scores[7].tolist() == [1 / 10, 1 / 11]
    assert found.depth == 9
    table = read_rankings(store, run)
    assert [name for names in found.ranked for name in names] == table["name"].to_pylist()
    assert np.concatenate(found.scores).tolist() == table["score"].to_pylist()
    assert [(each.done, each.total) for each in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_batches_change_nothing(tmp_path: Path) -> None:
    one = ranked_run(LocalStore(tmp_path / "a"), ranked(tmp_path / "a", [list(range(8))]))
    many = ranked_run(LocalStore(tmp_path / "b"), ranked(tmp_path / "b", [[q] for q in range(8)]))
    assert (one.queries, one.ranked) == (many.queries, many.ranked)
    names = {id(name) for ranking in many.ranked for name in ranking}
    assert len(names) == 9, "each name is held once, from whatever batch"


def test_a_run_without_answers_is_refused(tmp_path: Path) -> None:
    run = ranked(tmp_path, [[]]).model_copy(update={"queries": 3, "refused": 3})
    with pytest.raises(InputError, match="run mine has 0 of 3 queries answered"):
        ranked_run(LocalStore(tmp_path), run)


def test_the_snapshot_of_a_run_is_found_by_its_root(stores: Stores) -> None:
    store = LocalStore(stores.two)
    promoted = current(stores.two)
    found = snapshot_of(store, promoted.root_digest)
    assert found is not None
    assert found.number == promoted.number == 2
    assert snapshot_of(store, "0" * 64) is None


def test_the_names_of_a_corpus_are_sorted_and_have_their_ids(stores: Stores) -> None:
    table = corpus_names(LocalStore(stores.one), current(stores.one))
    pairs = zip(table["name"].to_pylist(), table["image_id"].to_pylist(), strict=True)
    assert list(pairs) == list(ids_by_name(stores.one, current(stores.one)).items())


def test_a_file_is_about_the_promoted_snapshot(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text("q Q0 00.png 1 2 t\nq Q0 01.png 2 1 t\n")
    opened = open_run(LocalStore(stores.two), str(tmp_path / "a.run"))
    assert opened.snapshot == current(stores.two)
    assert (opened.name, opened.depth, opened.complete) == ("a.run", 2, False)
    first = open_run(LocalStore(stores.two), str(tmp_path / "a.run"), 1)
    assert first.snapshot is not None
    assert first.snapshot.number == 1


def test_a_run_as_deep_as_the_corpus_is_complete(stores: Stores, tmp_path: Path) -> None:
    names = ids_by_name(stores.one, current(stores.one))
    (tmp_path / "a.run").write_text("".join(f"q Q0 {name} 1 1 t\n" for name in names))
    assert open_run(LocalStore(stores.one), str(tmp_path / "a.run")).complete


def test_judgements_are_written_with_the_ids_of_known_names(stores: Stores, tmp_path: Path) -> None:
    corpus = corpus_names(LocalStore(stores.one), current(stores.one))
    query = GroundTruthQuery("00.png", frozenset({"01.png"}), missing=frozenset({"gone"}))
    path = tmp_path / "out"
    beside = write_judgements(GroundTruth("test", "mAP", (query,)), corpus, path)
    assert beside == tmp_path / "out.ids.parquet"
    ids = ids_by_name(stores.one, current(stores.one))
    assert pq.read_table(beside).to_pylist() == [
        {"name": name, "image_id": ids[name]} for name in ("00.png", "01.png")
    ]
    found = read_judgements(path, list(ids), indexed_queries=True, strict=False)
    assert (found.truth.queries, found.unknown) == ((query,), ("gone",))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="'gone' first"):
        read_judgements(path, list(ids), indexed_queries=True, strict=True)
    assert write_judgements(found.truth, None, tmp_path / "alone") is None
    assert (tmp_path / "alone").read_bytes() == path.read_bytes()


def test_runs_and_qrels_may_be_piped_in(tmp_path: Path) -> None:
    def piped(text: str, read: Callable[[Path], object]) -> object:
        path = tmp_path / f"pipe {len(text)}"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_text, args=(text,))
        writer.start()
        found = read(path)
        writer.join()
        return found

    run = piped("q Q0 a 1 2 t\nq Q0 b 2 1 t\n", ranked_file)
    assert isinstance(run, Ranked)
    assert run.ranked == (("a", "b"),)
    judged = piped(
        "q 0 a 1\n",
        lambda path: read_judgements(path, None, indexed_queries=False, strict=False),
    )
    assert isinstance(judged, Judgements)
    assert judged.truth.queries == (GroundTruthQuery("q", frozenset({"a"})),)
    assert judged.sha256 is None
