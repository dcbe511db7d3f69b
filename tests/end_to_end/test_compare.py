"""`lamella compare` as it is typed: two nights of a store, runs, files, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lamella.pipeline.index.tags import tag_snapshot
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.storage import open_store
from tests.command_line import complaint, lamella
from tests.end_to_end.commands import Stores, exported
from tests.nightly import Source
from tests.tiny import tiny_index

SERIAL = ("--engine", "serial")
PICTURES = 14


@pytest.fixture(scope="module")
def nights(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of two snapshots a day apart, with a run `plain` of the first."""
    folder = tmp_path_factory.mktemp("nights")
    source = Source(folder / "pictures")
    for number in range(PICTURES):
        source.write(f"{'bd'[number % 2]}/{number:03d}.png", seed=number)
    store, words = folder / "index", str(exported(stores))
    tiny_index(store, source.folder, name="pictures", vocabulary_from=words, gate__removed=1.0)
    asked = ("--queries", "snapshot", "--into", "plain", "-k", 5)
    assert lamella("query", store, *asked, *SERIAL).returncode == 0
    source.write("b/new.png")
    source.write("d/new.png")
    source.delete("d/001.png")
    source.write("b/002.png")
    reindex(open_store(str(store)), SerialRunner(), threads=1, watch=Watch())
    return store


def compared(*arguments: object) -> dict[str, Any]:
    said = lamella("compare", *arguments, *SERIAL, "--json")
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_two_nights_of_a_store(nights: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "page.html", tmp_path / "queries.parquet"
    found = compared(f"{nights}@1", nights, "--page", page, "--out", out)
    assert (found["a"], found["b"]) == ("index@1", "index@2")
    pictures = found["pictures"]
    assert pictures["new"]["names"] == ["b/new.png", "d/new.png"]
    assert (pictures["gone"]["names"], pictures["changed"]["names"]) == (
        ["d/001.png"],
        ["b/002.png"],
    )
    # Neither the picture that is gone nor the one with other contents is asked.
    assert pictures["both"] == found["queries"]["compared"] == PICTURES - 2
    whole, both = found["agreement"], found["agreement_in_both"]
    assert both["rank_biased_overlap"] > whole["rank_biased_overlap"]
    table = pq.read_table(out)
    assert table.num_rows == PICTURES - 2
    assert int(sum(table.column("first_changed").to_pylist())) == whole["first_changed"]
    assert page.read_text().count("data:image/jpeg") > 5
    assert (out.name, found["measures"]) == (Path(found["out"]).name, [])


def test_a_sample_of_queries_is_the_same_each_time(nights: Path) -> None:
    few = compared(f"{nights}@1", f"{nights}@2", "--queries", 4)
    assert few["queries"]["compared"] == 4
    assert compared(f"{nights}@1", f"{nights}@2", "--queries", 4) == few


def test_a_snapshot_is_the_same_as_itself(nights: Path) -> None:
    found = compared(f"{nights}@2", nights, "--protocol", "groups")
    assert found["b"] == str(nights)  # told apart by what was typed
    assert [row["difference"] for row in found["measures"]] == [0.0, 0.0]
    assert found["agreement"]["rank_biased_overlap"] == pytest.approx(1.0)
    said = lamella("compare", nights, nights, *SERIAL)
    assert "All rankings of" in said.stdout


def test_scores_are_those_of_evaluate(nights: Path) -> None:
    by = ("--protocol", "groups")
    said = lamella("evaluate", nights, "--snapshot", 2, *by, "--json", *SERIAL)
    report = json.loads(said.stdout)["report"]
    same = compared(f"{nights}@2", f"{nights}@snapshot:2", *by)
    assert same["queries"]["compared"] == report["queries"] == PICTURES + 1
    assert same["measures"][0]["a"] == pytest.approx(report["rows"][-1]["score"])
    # The night before lacks two of them, asks one that is gone, and one of other contents.
    found = compared(f"{nights}@1", f"{nights}@2", *by)
    assert found["queries"]["compared"] == PICTURES - 2
    assert found["queries"]["left_out"] == {"other contents": 1}
    for row in found["measures"]:
        assert row["wins"] + row["ties"] + row["losses"] == PICTURES - 2


def test_over_pictures_of_both_what_came_and_went_changes_no_score(nights: Path) -> None:
    by = ("--protocol", "groups", "--measure", "R@100")
    whole = compared(f"{nights}@1", f"{nights}@2", *by)
    both = compared(f"{nights}@1", f"{nights}@2", *by, "--in-both")
    assert (whole["queries"]["compared"], both["queries"]["compared"]) == (12, 12)
    # Every ranking is whole, so all right answers that a corpus has are found.
    assert [row["b"] for row in (*whole["measures"], *both["measures"])] == [1.0, 1.0]
    assert both["agreement"] == whole["agreement"]
    first = compared(f"{nights}@1", f"{nights}@2", "--protocol", "groups", "--in-both")
    assert first["measures"][0]["a"] != first["measures"][0]["b"]
    told = lamella("compare", f"{nights}@1", nights, *by, *SERIAL).stdout
    assert "--in-both leaves them out" in told
    told = lamella("compare", f"{nights}@1", nights, *by, "--in-both", *SERIAL).stdout
    assert "scored over the pictures that both have" in told
    assert "leaves them out" not in told


def test_a_run_against_the_snapshot_that_it_asked(nights: Path) -> None:
    found = compared(f"{nights}@plain", f"{nights}@1")
    assert found["a"] == "index@plain"
    assert found["queries"]["compared"] == PICTURES
    assert found["agreement"]["overlap"] == {"1": 1.0, "4": 1.0}  # 5, of which one is the query
    assert found["agreement"]["first_changed"] == 0
    # The next night does not have one of them, and one has other contents.
    found = compared(f"{nights}@plain", f"{nights}@2")
    assert found["queries"]["compared"] == PICTURES - 2


def test_a_file_against_the_store_that_it_was_written_from(nights: Path, tmp_path: Path) -> None:
    trec = tmp_path / "plain.trec"
    assert lamella("query", nights, "--into", "plain", "--trec", trec, *SERIAL).returncode == 0
    found = compared(trec, f"{nights}@run:plain")
    assert (found["a"], found["b"]) == ("plain.trec", "index@plain")
    assert found["agreement"]["rank_biased_overlap"] == pytest.approx(1.0)
    assert found["pictures"] is None


def run_file(path: Path, rankings: dict[str, str]) -> Path:
    lines = [
        f"{query} Q0 {name} {rank} {1 / rank} x\n"
        for query, names in rankings.items()
        for rank, name in enumerate(names, start=1)
    ]
    path.write_text("".join(lines))
    return path


def judged_runs(folder: Path, count: int) -> tuple[Path, Path, Path]:
    """Return a run that finds the right picture first, one that finds it second, and qrels."""
    names = [f"q{place}" for place in range(count)]
    good = run_file(folder / "good.trec", dict.fromkeys(names, "ab"))
    bad = run_file(folder / "bad.trec", dict.fromkeys(names, "ba"))
    qrels = folder / "qrels.txt"
    lines = [f"{name} 0 a 1\n{name} 0 b 0\n" for name in names]
    qrels.write_text("".join([*lines, "wrong 0 b 0\n"]))
    return good, bad, qrels


def test_a_loss_ends_with_1_only_where_that_is_asked_for(tmp_path: Path) -> None:
    good, bad, qrels = judged_runs(tmp_path, 12)
    by = ("--qrels", qrels, "--measure", "RR")
    said = lamella("compare", good, bad, *by, *SERIAL)
    assert said.returncode == 0
    assert said.stdout.startswith("A loss: bad.trec scores 0.500 RR, .500 below good.trec [-.500")
    assert "1 left out: no right answer" in said.stdout
    assert lamella("compare", good, bad, *by, *SERIAL, "--fail-on-loss").returncode == 1
    assert lamella("compare", bad, good, *by, *SERIAL, "--fail-on-loss").returncode == 0


def test_a_verdict_that_cannot_be_had_is_no_pass(tmp_path: Path) -> None:
    good, bad, qrels = judged_runs(tmp_path, 4)
    few = lamella("compare", good, bad, "--qrels", qrels, *SERIAL, "--fail-on-loss")
    assert "needs at least 10 queries for a verdict; both sides have 4" in complaint(few)
    none = lamella("compare", good, bad, *SERIAL, "--fail-on-loss")
    assert "--fail-on-loss needs right answers" in complaint(none)


def test_runs_over_different_queries_are_compared_over_what_both_have(tmp_path: Path) -> None:
    one = run_file(tmp_path / "one.trec", {"p": "ab", "q": "ab", "r": "ab"})
    other = run_file(tmp_path / "other.trec", {"q": "ba", "r": "ab", "s": "ab", "t": "a"})
    found = compared(one, other)
    assert found["queries"] == {
        "compared": 2,
        "a": 3,
        "b": 4,
        "left_out": {},
        "protocol": None,
        "in_both": False,
    }
    assert found["agreement"]["first_changed"] == 1
    said = lamella("compare", one, other, *SERIAL).stdout
    assert "2 queries compared; one.trec has 3, other.trec 4" in said
    nothing = run_file(tmp_path / "nothing.trec", {"z": "ab"})
    told = complaint(lamella("compare", one, nothing, *SERIAL))
    assert "one.trec has 'p' and so on, nothing.trec 'z' and so on, none of them in both" in told


def refused(*arguments: object) -> str:
    return complaint(lamella("compare", *arguments, *SERIAL))


def test_what_cannot_be_compared_is_refused_in_a_sentence(
    nights: Path, stores: Stores, tmp_path: Path
) -> None:
    good, bad, qrels = judged_runs(tmp_path, 3)
    empty = tmp_path / "empty.trec"
    empty.write_text("")
    assert "has 0" in refused(empty, good)
    assert "there is no file and no store" in refused("nowhere@3", good)
    assert "is none of" in refused(f"{nights}@maybe", good)
    assert "there is no snapshot 7" in refused(f"{nights}@7", good)
    assert "stands run, tag or snapshot; 'x' is none" in refused(f"{nights}@x:y", good)
    assert "A and B are each" in refused(f"{nights}@", good)
    assert "--in-both need right answers" in refused(good, bad, "--measure", "AP")
    assert "neither run says what it searched: give --qrels" in refused(
        good, bad, "--protocol", "groups"
    )
    assert "--in-both needs to know what both sides searched; good.trec does not" in refused(
        good, bad, "--qrels", qrels, "--in-both"
    )
    assert "--part is of copydays and gldv2" in refused(
        nights, f"{nights}@1", "--protocol", "groups", "--part", "strong"
    )
    assert "give one of them" in refused(good, bad, "--protocol", "ukb", "--qrels", qrels)
    assert "leave it out" in refused(good, bad, "--qrels", qrels, "--queries", 3)
    assert "judge pictures of the corpus" in refused(nights, f"{nights}@1", "--qrels", qrels)
    assert "none of them in both" in refused(nights, stores.one)


def test_a_name_of_two_things_must_be_told_apart(nights: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(nights, tmp_path / "index"))
    tag_snapshot(open_store(str(store)), "plain", 2)
    tag_snapshot(open_store(str(store)), "monday", 1)
    told = refused(f"{store}@plain", f"{store}@monday")
    assert f"say which, {store}@run:plain or {store}@tag:plain" in told
    found = compared(f"{store}@run:plain", f"{store}@tag:plain")
    assert (found["a"], found["b"]) == ("index@plain", "index@2")
    assert compared(f"{store}@monday", f"{store}@snapshot:2")["a"] == "index@1"
