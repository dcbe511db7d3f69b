"""The command line as a person meets it: journeys, bad input, exit codes, one clear line each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lamella.pipeline.store.storage import open_store
from tests.command_line import Said, complaint, lamella, lamella_apart
from tests.conftest import Indexed
from tests.tiny import tiny_pictures

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SMALL = ["--engine", "serial", "--words", "32"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three small pictures of noise."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def test_index_query_status_and_snapshots_speak_json(pictures: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    indexed = lamella_apart("index", pictures, "--into", store, *SMALL, "--json")
    assert indexed.returncode == 0, indexed.stderr
    assert json.loads(indexed.stdout)["indexed"] == 3

    asked = lamella_apart(
        "query", store, pictures / "1.png", "--engine", "serial", "-k", "2", "--json"
    )
    found = json.loads(asked.stdout)
    assert [row["rank"] for row in found["rankings"]] == [1, 2]
    assert found["rankings"][0]["name"] == "1.png"
    assert found["rankings"][0]["S.head"] == pytest.approx(1.0)
    assert found["run"]["certified"] == 1

    known = found["rankings"][0]["image_id"]
    serial = ("--engine", "serial", "-k", "2", "--json")
    by_id = json.loads(lamella("query", store, "--ids", known, *serial).stdout)["rankings"]
    assert (by_id[0]["image_id"], by_id[0]["name"]) == (known, "1.png")
    assert isinstance(known, str)  # of 63 bits, more than a number of JSON holds everywhere
    by_name = json.loads(lamella("query", store, "--names", "1.png", *serial).stdout)
    assert by_name["rankings"] == by_id

    table = tmp_path / "rankings.parquet"
    lamella("query", store, "--ids", "all", "--engine", "serial", "--out", table)
    assert pq.read_table(table).num_rows == 9

    assert json.loads(lamella("status", store, "--json").stdout)["corpora"][0]["states"] == {
        "indexed": 3
    }
    (only,) = json.loads(lamella("snapshots", store, "--json").stdout)
    assert only["current"]


def test_a_run_of_queries_is_named_copied_and_shown_again(pictures: Path, tmp_path: Path) -> None:
    store, run = tmp_path / "store", tmp_path / "run.trec"
    lamella("index", pictures, "--into", store, *SMALL)
    (pictures / "bad.jpg").write_text("<html>")
    serial = ("--engine", "serial")
    asked = ("query", store, "--queries", pictures, "--into", "asked", *serial)
    first = lamella(*asked, "--trec", run)
    said = " ".join(first.stdout.split())
    assert "not asked: bad.jpg (not-an-image)" in first.stdout
    assert "k is 100 and 3 pictures are indexed: no ranking can hold more" in first.stdout
    assert "3 queries answered, 3 certified complete, 1 refused (1 not-an-image): run asked" in said
    assert "this call answered 3 in" in first.stdout
    assert len(run.read_text().splitlines()) == 9

    again = json.loads(lamella("query", store, "--into", "asked", "--json").stdout)
    assert len(again["rankings"]) == 9
    assert [row["reason"] for row in again["refusals"]] == ["not-an-image"]
    assert "this run was complete" in lamella(*asked).stdout

    pairs = lamella("query", store, "--queries", "snapshot", *serial, "--json")
    every = lamella("query", store, "--ids", "all", *serial, "--json")
    assert json.loads(pairs.stdout) == json.loads(every.stdout)

    other = lamella(*asked, "-k", "2")
    assert "(k was 100, is 2): give them as they were, or another name" in complaint(other)
    unknown = lamella("query", store, "--into", "gone")
    assert "has no complete run 'gone'" in complaint(unknown)
    assert "(k was 100, is 2)" in complaint(lamella("query", store, "--into", "asked", "-k", 2))
    same = ("query", store, "--into", "asked", "-k", 100, "--workers", 7, "--mode", "exact")
    assert (
        lamella(*same, "--json").stdout
        == lamella("query", store, "--into", "asked", "--json").stdout
    )
    assert lamella("query", store, pictures, "--ids", "1").returncode == 2

    expanded = lamella("query", store, "--ids", "all", "--expand", 2, "--into", "mean", *serial)
    assert "3 queries answered, 3 certified complete, 0 refused: run mean" in expanded.stdout
    assert "expanded by 2: scores and proofs are those of the mean of each" in expanded.stdout
    shown = ("query", store, "--into", "mean", "--expand")
    assert json.loads(lamella(*shown, 2, "--json").stdout)["run"]["expand"] == 2
    assert "(expand was 2, is 3)" in complaint(lamella(*shown, 3))
    assert "search.expand: " in complaint(lamella(*shown, -1))


def test_the_same_command_again_publishes_nothing_new(pictures: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = lamella("index", pictures, "--into", store, *SMALL, "--json")
    again = lamella("index", pictures, "--into", store, *SMALL, "--json")
    assert json.loads(first.stdout) == json.loads(again.stdout)


def test_a_rollback_is_a_promotion(pictures: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    lamella("index", pictures, "--into", store, *SMALL)
    lamella("index", pictures, "--into", store, *SMALL, "--fusion", "scaled")
    lamella("snapshots", store, "--promote", "1")
    listed = json.loads(lamella("snapshots", store, "--json").stdout)
    assert [each["current"] for each in listed] == [True, False]
    assert "no snapshot 9" in complaint(lamella("snapshots", store, "--promote", "9"))


def test_evaluate_groups_writes_a_page(indexed: Indexed, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(indexed.store, store)
    page = tmp_path / "report.html"
    result = lamella(
        *("evaluate", store, "--protocol", "groups", "--metric", "N-S", "--engine", "serial"),
        *("--page", page, "--json"),
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    report, shown = said["report"], said["page_pictures"]
    assert [row["kind"] for row in report["rows"]] == ["alone", "alone", "direct", "mapped"]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert said["page_bytes"] == page.stat().st_size
    files = list(Path(shown["folder"]).iterdir())
    assert (len(files), shown["gone"]) == (shown["pictures"], 0)
    assert sum(each.stat().st_size for each in files) == shown["bytes"]
    assert "queries" not in report["settings"]

    groups = ("evaluate", store, "--protocol", "groups", "--engine", "serial")
    assert "queries expanded by 3" in lamella(*groups, "--expand", 3).stdout
    said = json.loads(lamella(*groups, "--expand", 3, "--metric", "N-S", "--json").stdout)
    assert said["report"]["settings"]["queries"] == "expanded by 3"
    assert said["report"]["rows"] != report["rows"]


def test_an_empty_folder_and_one_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("words")
    empty = complaint(lamella("index", tmp_path / "empty", "--into", tmp_path / "s", *SMALL))
    assert "holds no files" in empty
    texts = complaint(lamella("index", tmp_path / "texts", "--into", tmp_path / "s", *SMALL))
    assert "holds no pictures: 1 file looked at" in texts
    absent = complaint(lamella("index", tmp_path / "absent", "--into", tmp_path / "s", *SMALL))
    assert "absent" in absent


def test_equal_bytes_one_pixel_and_a_sliver_are_indexed(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "0.png", pictures / "copy.png")
    Image.new("RGB", (1, 1), "red").save(pictures / "pixel.png")
    Image.new("RGB", (1, 20_000), "blue").save(pictures / "sliver.png")
    store = tmp_path / "store"
    result = lamella("index", pictures, "--into", store, *SMALL, "--json")
    assert json.loads(result.stdout)["indexed"] == 6, result.stderr
    status = json.loads(lamella("status", store, "--json").stdout)
    assert status["corpora"][0]["duplicates"] == 1
    asked = lamella("query", store, pictures / "copy.png", "--engine", "serial", "-k2", "--json")
    rows = json.loads(asked.stdout)["rankings"]
    assert {row["name"] for row in rows} == {"0.png", "copy.png"}
    assert rows[0]["score"] == rows[1]["score"]
    assert int(rows[0]["image_id"]) < int(rows[1]["image_id"])


def test_too_many_refused_pictures_stop_the_job(pictures: Path, tmp_path: Path) -> None:
    for number in range(4):
        (pictures / f"bad{number}.jpg").write_text("<html>")
    line = complaint(lamella_apart("index", pictures, "--into", tmp_path / "s", *SMALL), code=1)
    assert "4 of 7 pictures were refused" in line
    assert "--max-refused" in line
    allowed = lamella(
        "index", pictures, "--into", tmp_path / "s", *SMALL, "--max-refused", "0.6", "--json"
    )
    found = json.loads(allowed.stdout)
    assert (found["indexed"], found["refused_by_reason"]) == (3, {"not-an-image": 4})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[netwrok]\n", "did you mean network?"),
        ("[vocabulary]\nword = 3\n", "did you mean words?"),
        ('[search]\nk = "ten"\n', "search.k"),
        (
            "[fusion]\nt = [0.6, 0.5]\n[network]\nlayers = ['head', 'p15', 'b5']\n",
            "t must not fall",
        ),
        ("[network]\nlayers = ['fc9']\n", "head, b1, b2"),
        ("[network]\nname = 'vit_b_16'\n", "no default layers"),
        ("[network]\nname = 'nonet'\nlayers = ['a']\n", "there is no network 'nonet'"),
        ("[network]\nweights_sha256 = '" + "0" * 64 + "'\n", "the job says 000000000000"),
    ],
)
def test_a_wrong_job_file_gets_one_line(
    text: str, said: str, pictures: Path, tmp_path: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(text)
    result = lamella(
        "index", pictures, "--into", tmp_path / "s", "--job", job, "--engine", "serial"
    )
    assert said in complaint(result)


def test_a_query_with_a_job_for_another_network_is_refused(
    indexed: Indexed, planted: Path, tmp_path: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_text("[network]\nname = 'vgg16'\n")
    picture = next(planted.rglob("*.jpg"))
    result = lamella("query", indexed.store, picture, "--job", job, "--engine", "serial")
    line = complaint(result)
    assert "vgg16" in line
    assert "efficientnet_lite0" in line


def test_wrong_calls_exit_with_2(tmp_path: Path) -> None:
    assert lamella_apart("nonsense").returncode == 2
    assert lamella("query", tmp_path).returncode == 2
    assert "no store at" in complaint(lamella_apart("status", tmp_path / "nowhere"))
    open_store(str(tmp_path), create=True)
    assert "holds no snapshot yet" in complaint(lamella("query", tmp_path, "--ids", "1"))


def test_the_robustness_folder_loses_nothing(tmp_path: Path) -> None:
    source = SHARED / "robustness"
    if not source.is_dir():
        pytest.skip("the shared photographs are not beside the project")
    store = tmp_path / "store"
    stopped = lamella("index", source, "--into", store, *SMALL)
    assert "pictures were refused" in complaint(stopped, code=1)
    result = lamella("index", source, "--into", store, *SMALL, "--max-refused", "0.5", "--json")
    found = json.loads(result.stdout)
    assert found["images"] == 17
    assert found["indexed"] + found["refused"] == 17
    assert found["refused_by_reason"] == {"not-an-image": 4}


def test_the_demo_indexes_evaluates_and_draws_a_page(tmp_path: Path) -> None:
    folder, few = tmp_path / "demo", ("--objects", 4, "--engine", "serial")
    is_whole(lamella("demo", folder, *few), folder)

    again = lamella("demo", folder, *few, "--json")
    assert json.loads(again.stdout)["report"]["queries"] == 16

    other = lamella("demo", folder, "--objects", "9", "--engine", "serial")
    assert "holds 4 objects, 9 are wanted: give another folder" in complaint(other)


def is_whole(shown: Said, folder: Path) -> None:
    """Check what the demo showed and wrote."""
    assert shown.returncode == 0, shown.stderr
    for row in ("head alone", "p15 alone", "direct sum", "mapped fusion"):
        assert row in shown.stdout
    assert (folder / "report.html").read_text().count("data:image/jpeg;base64") > 8


@pytest.mark.parametrize(
    ("number", "times", "said_first"),
    [(signal.SIGTERM, 1, "stopped by SIGTERM; "), (signal.SIGINT, 2, "stopped; ")],
)
def test_a_stopped_command_says_that_it_continues_and_leaves_no_scratch(
    number: signal.Signals, times: int, said_first: str, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    pictures = tiny_pictures(tmp_path / "pictures", 40)
    command = [sys.executable, "-m", "lamella", "index", pictures, "--into", tmp_path / "store"]
    with subprocess.Popen(
        [*map(str, command), "--engine", "serial", "--words", "12"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "scratch")},
    ) as running:
        while not any(tmp_path.glob("store/looks/*/done/*.json")):
            assert running.poll() is None
            time.sleep(0.05)
        for _ in range(times):
            running.send_signal(number)
            time.sleep(0.2)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + number, said
    assert f"{said_first}what is done stays done: the same command continues" in said
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "Traceback" not in said
    assert "Aborted" not in said
