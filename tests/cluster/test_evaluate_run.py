"""`lamella evaluate --run` and `--qrels`: what is scored, written, counted and refused."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus import reader
from lamella.pipeline.evaluate.measures import has_lab
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.expire import expire_snapshot
from tests.command_line import complaint, lamella
from tests.conftest import Indexed

SHARED = ("AP", "RR", "P@5", "R@3", "nDCG@10", "AP@5")
"""Measures that other tools have too."""


@pytest.fixture(scope="module")
def store(indexed: Indexed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of every picture, `pairs`, and one of some, which find themselves too."""
    folder = tmp_path_factory.mktemp("runs") / "store"
    shutil.copytree(indexed.store, folder)
    query(folder, "--queries", "snapshot", "--exclude-self", "-k", 20, "--into", "pairs")
    ids = dict.fromkeys(str(row["query"]) for row in rankings(folder, "pairs"))
    query(folder, "--ids", ",".join(list(ids)[:6]), "-k", 5, "--into", "some")
    return folder


def query(store: Path, *asked: object) -> dict[str, Any]:
    """Return what a query says in JSON."""
    said = lamella("query", store, *asked, "--json")
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def rankings(store: Path, run: str) -> list[dict[str, Any]]:
    """Return the rows of a run."""
    found: list[dict[str, Any]] = query(store, "--into", run)["rankings"]
    return found


def report(*arguments: object) -> dict[str, Any]:
    """Return the report of an evaluation."""
    said = lamella("evaluate", *arguments, "--json")
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)["report"]
    return found


def means(found: Mapping[str, Any]) -> dict[str, float]:
    return {row["measure"]: row["score"] for row in found["measures"]}


def test_a_run_scores_as_its_snapshot_does(store: Path, tmp_path: Path) -> None:
    asked = ("--protocol", "groups", "--scores", tmp_path / "scores.parquet")
    found = report(store, "--run", "pairs", *asked)
    snapshot = report(store, *asked[:2], "--engine", "serial")
    mapped = snapshot["rows"][-1]
    # The three other views of every object are among the first twenty, so nothing is cut off.
    assert means(found)["R@10"] == 1.0
    assert means(found)["mAP"] == pytest.approx(mapped["score"], abs=1e-12)
    assert means(found)["AP"] == pytest.approx(mapped["rectangles"], abs=1e-12)
    assert found["measures"][0]["interval"] == mapped["interval"]
    assert found["bootstrap"] == snapshot["bootstrap"]
    assert found["snapshot"] == snapshot["snapshot"]
    assert (found["depth"], found["complete"], found["queries"]) == (20, False, 48)
    scores = pq.read_table(tmp_path / "scores.parquet")
    assert scores.num_rows == 48
    assert sum(scores.column("mAP").to_pylist()) / 48 == pytest.approx(mapped["score"])


def test_no_picture_and_no_segment_is_opened(store: Path) -> None:
    broken = mock.Mock(side_effect=AssertionError)
    with (
        mock.patch.object(SegmentSearcher, "__init__", broken),
        mock.patch.object(reader.EntryReader, "__init__", broken),
    ):
        assert report(store, "--run", "pairs", "--protocol", "groups")["queries"] == 48


@pytest.mark.skipif(not has_lab(), reason="needs ir-measures, of lamella[lab]")
def test_exports_score_the_same_by_ir_measures_and_pytrec_eval(store: Path, tmp_path: Path) -> None:
    import ir_measures
    import pytrec_eval

    names = sorted({row["name"] for row in rankings(store, "pairs")})
    qrels = tmp_path / "judged.qrels"
    # Of every picture the next ones are right, by grade, junk, and wrong; some queries lack all.
    qrels.write_text(
        "".join(
            f"{name} 0 {names[(place + step) % len(names)]} {rel}\n"
            for place, name in enumerate(names[:40])
            for step, rel in ((1, 1 + place % 3), (2, 1), (3, -1), (5, 0), (7, 2))
        )
        + f"{names[45]} 0 {names[1]} -1\n{names[3]} 0 gone.jpg 1\nelsewhere.jpg 0 {names[0]} 1\n"
    )
    files = ("--qrels-out", tmp_path / "out.qrels", "--run-out", tmp_path / "out.run")
    scores = ("--scores", tmp_path / "scores.parquet", "--measure", ",".join(SHARED))
    found = report(store, "--run", "pairs", "--qrels", qrels, *files, *scores)
    assert found["left_out"]["no right answer"] == {"count": 1, "first": [names[45]]}
    assert found["unknown_judged"] == {"count": 1, "first": ["gone.jpg"]}
    assert found["unanswered"] == {"count": 1, "first": ["elsewhere.jpg"]}
    assert found["unjudged"]["count"] == 8
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    ours = {(row["query"], name): row[name] for row in rows for name in SHARED}
    measures = [ir_measures.parse_measure(name) for name in SHARED]
    judged = list(ir_measures.read_trec_qrels(str(tmp_path / "out.qrels")))
    ranked = list(ir_measures.read_trec_run(str(tmp_path / "out.run")))
    agreed = 0
    for each in ir_measures.iter_calc(measures, judged, ranked):
        assert ours[each.query_id, str(each.measure)] == pytest.approx(each.value, abs=1e-9)
        agreed += 1
    assert agreed == len(ours) == 41 * len(SHARED)
    with (tmp_path / "out.qrels").open() as right, (tmp_path / "out.run").open() as found_there:
        evaluator = pytrec_eval.RelevanceEvaluator(
            pytrec_eval.parse_qrel(right), {"map", "recip_rank", "P_5"}
        )
        by_query = evaluator.evaluate(pytrec_eval.parse_run(found_there))
    assert len(by_query) == 40
    for query, values in by_query.items():
        for name, theirs in (("AP", "map"), ("RR", "recip_rank"), ("P@5", "P_5")):
            assert ours[query, name] == pytest.approx(values[theirs], abs=1e-9)


def test_a_protocol_and_its_qrels_score_the_same(store: Path, tmp_path: Path) -> None:
    qrels, run = tmp_path / "groups.qrels", tmp_path / "pairs.run"
    first = report(
        *(store, "--run", "pairs", "--protocol", "groups"),
        *("--qrels-out", qrels, "--run-out", run),
    )
    again = report(store, "--run", "pairs", "--qrels", qrels)
    from_file = report(store, "--run", run, "--qrels", qrels)
    assert means(again) == means(from_file) == means(first)
    assert again["truth"] == "qrels groups.qrels"
    ids = pq.read_table(tmp_path / "groups.qrels.ids.parquet").to_pylist()
    known = {row["name"]: int(row["image_id"]) for row in rankings(store, "pairs")}
    assert {row["name"]: row["image_id"] for row in ids} == known
    by_snapshot = [
        report(store, *asked, "--engine", "serial")
        for asked in (("--protocol", "groups"), ("--qrels", qrels))
    ]
    assert by_snapshot[0]["rows"] == by_snapshot[1]["rows"]


def test_scores_of_a_snapshot_have_a_row_a_query_and_ranking(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    found = report(store, "--protocol", "groups", "--scores", path, "--engine", "serial")
    table = pq.read_table(path)
    assert table.column_names == [
        *("query", "ranking", "group", "mAP", "AP", "lowest", "mean", "highest")
    ]
    rows = table.to_pylist()
    for row in found["rows"]:
        mine = [each for each in rows if each["ranking"] == row["name"]]
        assert len(mine) == row["queries"]
        for column, value in (("mAP", row["score"]), ("lowest", row["lowest"])):
            assert sum(each[column] for each in mine) / len(mine) == pytest.approx(value)
        assert all(each["lowest"] <= each["mean"] <= each["highest"] for each in mine)
    assert len({row["group"] for row in rows}) == 12
    assert pq.ParquetFile(path).metadata.row_group(0).column(3).compression == "ZSTD"


def test_a_person_is_told_what_was_scored_and_what_was_not(store: Path, tmp_path: Path) -> None:
    name = rankings(store, "some")[0]["query_name"]
    qrels = tmp_path / "q"
    qrels.write_text(
        f"{name} 0 x\x1b[31m.jpg 1\n{name} 0 {rankings(store, 'pairs')[0]['name']} 1\n"
    )
    said = lamella("evaluate", store, "--run", "some", "--qrels", qrels, "--measure", "AP,R@1")
    assert said.returncode == 0, said.stderr
    assert "run some by qrels q: 1 query, the first 5 pictures of each ranking" in said.stdout
    assert "AP of the first 5" in said.stdout
    assert "R@1 of the first" not in said.stdout
    assert "5 queries of the run without judgements, left out: " in said.stdout
    assert (
        f"1 query that found their own picture, which is not judged and counts as wrong: {name}"
        in (said.stdout)
    )
    assert (
        "1 judged picture that the corpus lacks; right ones count as missed: x\\x1b" in said.stdout
    )
    assert "\x1b" not in said.stdout


def test_where_the_snapshot_expired_qrels_are_needed(store: Path, tmp_path: Path) -> None:
    old = tmp_path / "store"
    shutil.copytree(store, old)
    qrels = tmp_path / "groups.qrels"
    first = report(store, "--run", "pairs", "--protocol", "groups", "--qrels-out", qrels)
    expire_snapshot(LocalStore(old), 1, "for a test", forced=True)
    refused = lamella("evaluate", old, "--run", "pairs", "--protocol", "groups")
    assert "the snapshot that run pairs asked" in complaint(refused)
    assert "has expired: give --qrels" in complaint(refused)
    found = report(old, "--run", "pairs", "--qrels", qrels)
    assert means(found) == means(first)
    assert found["names_known"] is False
    shown = lamella("evaluate", old, "--run", "pairs", "--qrels", qrels)
    assert "the snapshot that the run asked has expired" in shown.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--run", "nothing", "--protocol", "groups"), "has no run 'nothing'"),
        (("--run", "../no/x", "--protocol", "groups"), "has no run '../no/x', and there is no"),
        (("--run", "/etc", "--protocol", "groups"), "/etc: Is a directory"),
        (("--run", "pairs"), "by --protocol or by --qrels; got neither"),
        (("--protocol", "groups", "--qrels", "x"), "got both"),
        (("--run", "pairs", "--qrels", "/nothing"), "/nothing: No such file"),
        (("--run", "pairs", "--protocol", "ukb"), "UKB pictures are called"),
        (("--run", "pairs", "--protocol", "groups", "--expand", 2), "--expand is for asking"),
        (("--run", "pairs", "--protocol", "groups", "--snapshot", 1), "knows which snapshot"),
        (("--run", "pairs", "--protocol", "groups", "--measure", "mapp"), "got 'mapp'"),
        (("--protocol", "groups", "--measure", "AP"), "--measure is about a run"),
        (("--protocol", "groups", "--run-out", "x"), "--run-out is about a run"),
        (("--run", "pairs", "--protocol", "groups", "--scores", "/no/x"), "--scores takes a file"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(given: tuple[object, ...], said: str, store: Path) -> None:
    assert said in complaint(lamella("evaluate", store, *given))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (b"", "at least 1 line"),
        (b"q Q0 a 1 .5\n", "line 1 of"),
        (b"\x89PNG\r\n\x1a\n\xff", "text in UTF-8"),
        (b"q Q0 a 1 .5 t\n", "none of them in both"),
    ],
)
def test_a_file_that_is_no_run_of_these_queries_is_refused(
    run: bytes, said: str, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.run").write_bytes(run)
    refused = lamella("evaluate", store, "--run", tmp_path / "a.run", "--protocol", "groups")
    assert said in complaint(refused)


def test_strict_refuses_what_the_corpus_lacks(store: Path, tmp_path: Path) -> None:
    name = rankings(store, "some")[0]["query_name"]
    (tmp_path / "q").write_text(f"{name} 0 {name} 1\n{name} 0 gone.jpg 0\n")
    (tmp_path / "r").write_text(f"{name} Q0 other.jpg 1 1 t\n{name} Q0 {name} 2 .5 t\n")
    judged = ("--qrels", tmp_path / "q")
    for asked in (("--run", "some"), ("--engine", "serial")):
        said = complaint(lamella("evaluate", store, *asked, *judged, "--strict"))
        assert "every picture of q in the corpus; 1 are not among the 48 here" in said
        assert "'gone.jpg' first" in said
    (tmp_path / "q").write_text(f"{name} 0 {name} 1\n")
    found = report(store, "--run", tmp_path / "r", *judged)
    assert found["unknown_ranked"] == {"count": 1, "first": ["other.jpg"]}
    assert means(found)["RR"] == 0.5
    strict = lamella("evaluate", store, "--run", tmp_path / "r", *judged, "--strict")
    assert "every picture of run r in the corpus" in complaint(strict)


def test_qrels_of_another_corpus_are_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "q").write_text("q1 0 doc7 1\n")
    for asked in (("--run", "pairs"), ("--engine", "serial")):
        said = complaint(lamella("evaluate", store, *asked, "--qrels", tmp_path / "q"))
        assert "of the 1 that q judges none is among the 48 here" in said
        assert "q names 'doc7' first" in said
