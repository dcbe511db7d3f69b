"""`lamella evaluate` over data sets as users have them: parts, distractors, releases, rotations."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from pyarrow.parquet import read_table
from typer.testing import CliRunner

from lamella.cluster.commands import evaluate_command
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.metrics import ranks_of
from lamella.pipeline.evaluate.sweep import score_batch
from lamella.pipeline.jobs import evaluating
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.record_rules import report_run
from lamella.schemas.report import RetrievalReport
from tests.end_to_end.commands import tiny_runs
from tests.tiny import tiny_index

NAMES = [
    *(f"ukb/ukbench{number:05d}.png" for number in range(4)),
    *("copydays/original/200000.png", "copydays/original/200100.png"),
    *("copydays/strong/200001.png", "copydays/crops/10/200100.png"),
    *(f"ro/{stem}.png" for stem in ("q0", "q1", "i0", "i1", "i2")),
    *("holidays/100000.png", "holidays/100001.png"),
    *("far/ukbench00002.png", "far/cat.png"),
]
"""Small pictures in the places of data sets, and distractors, one of which has a taken name."""

WIDE = ("holidays/100000.png",)


def draw(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    size = (48, 40) if any(str(path).endswith(name) for name in WIDE) else (40, 48)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protocols") / "pictures"
    for seed, name in enumerate(NAMES):
        draw(folder / name, seed)
    return folder


@pytest.fixture(scope="module")
def store(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of these pictures; every test writes reports of its own into it."""
    folder = tmp_path_factory.mktemp("protocols") / "store"
    with tiny_runs():
        tiny_index(folder, pictures)
        yield folder


@pytest.fixture(scope="module")
def gnd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("truth") / "gnd_roxford5k.json"
    content = {
        "imlist": ["i0", "i1", "i2"],
        "qimlist": ["q0", "q1"],
        "gnd": [
            {"bbx": [1, 2, 30, 40], "easy": [0], "hard": [1], "junk": []},
            {"bbx": [0, 0, 20, 20], "easy": [], "hard": [2], "junk": [0]},
        ],
    }
    file.write_text(json.dumps(content))
    return file


def call(*arguments: object) -> str:
    """Give the command in this process, and return what it prints; errors are raised."""
    app = typer.Typer()
    evaluate_command.register(app)
    texts = [str(each) for each in (*arguments, "--engine", "serial")]
    found = CliRunner().invoke(app, texts, env={"COLUMNS": "160"})
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def report_of(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(*arguments, "--json"))
    report: dict[str, Any] = found["report"]
    return report


def test_all_difficulties_come_in_one_command(store: Path, gnd: Path, tmp_path: Path) -> None:
    asked = (store, "--protocol", "roxford", "--truth", gnd.parent, "--difficulty", "all")
    page = tmp_path / "page.html"
    found = json.loads(call(*asked, "--page", page, "--json"))["reports"]
    levels = ("easy", "medium", "hard")
    assert [each["report"]["protocol"] for each in found] == [f"roxford {x} roi" for x in levels]
    assert [each["report"]["queries"] for each in found] == [1, 2, 2]
    pages = [tmp_path / f"page-roxford-{level}-roi.html" for level in levels]
    assert [each["page"] for each in found] == [str(page) for page in pages]
    assert all("<html" in page.read_text() for page in pages)
    for each in found:
        report = RetrievalReport.model_validate(each["report"])
        assert {name for row in report.rows for name in row.measures} == {"mP@1", "mP@5", "mP@10"}
        assert LocalStore(store).exists(f"runs/{report_run(report)}/report.json")
    easy = found[0]["report"]["data_set"]
    assert easy["left_out"] == [
        {"reason": "no easy answer", "queries": 1, "first": ["ro/q1.png"]},
    ]
    assert (easy["held"], easy["released"], easy["released_queries"]) == (5, 5, 2)


def test_the_parts_are_what_each_gives_by_itself(store: Path, gnd: Path) -> None:
    asked = (store, "--protocol", "roxford", "--truth", gnd)
    together = json.loads(call(*asked, "--difficulty", "all", "--json"))["reports"]
    for part, level in zip(together, ("easy", "medium", "hard"), strict=True):
        alone = report_of(*asked, "--difficulty", level)
        for report in (part["report"], alone):
            report.pop("elapsed_seconds")
        assert part["report"] == alone


def test_a_question_of_several_parts_is_searched_once(
    store: Path, gnd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counting(*arguments: Any) -> Any:
        asked.append(len(arguments[3]))
        return features(*arguments)

    features = evaluating.question_features
    monkeypatch.setattr(evaluating, "question_features", counting)
    call(store, "--protocol", "roxford", "--truth", gnd, "--difficulty", "all", "--json")
    assert asked == [2]


def test_the_measures_beside_are_those_of_a_plain_ranking(
    store: Path, gnd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[Any] = []

    def keeping(plan: Any, first: int, similarities: Any) -> Any:
        tables.append((plan, first, similarities[:, 0]))
        return score_batch(plan, first, similarities)

    monkeypatch.setattr(evaluating, "score_batch", keeping)
    report = report_of(store, "--protocol", "roxford", "--truth", gnd, "--box", "full")
    found = []
    for plan, query, table in tables:
        resolved = plan.truth.queries[query]
        ranks = ranks_of(table[0], resolved.positive_ids, resolved.ignored_ids).tolist()
        depth = min(5, max(ranks) + 1)
        found.append(sum(rank < depth for rank in ranks) / depth)
    assert report["rows"][0]["measures"]["mP@5"] == pytest.approx(np.mean(found))


def test_parts_are_printed_in_one_table(store: Path, gnd: Path) -> None:
    text = call(store, "--protocol", "roxford", "--truth", gnd, "--difficulty", "all", "--sweep")
    for said in ("roxford easy roi", "roxford hard roi", "mP@10", "mapped fusion"):
        assert said in text
    assert "roxford easy roi: 1 left out, no easy answer: ro/q1.png" in text
    assert "roxford hard roi: mAP over t and p" in text
    assert text.count("page of roxford") == 3


def test_one_part_prints_its_measures_and_what_is_not_there(store: Path, gnd: Path) -> None:
    text = call(store, "--protocol", "roxford", "--truth", gnd, "--difficulty", "easy")
    assert "mP@1 " in text
    assert "1 left out, no easy answer: ro/q1.png" in text


def test_copydays_is_reported_by_attack(store: Path) -> None:
    found = json.loads(call(store, "--protocol", "copydays", "--json"))["reports"]
    assert [each["report"]["protocol"] for each in found] == [
        "copydays strong",
        "copydays crops 10",
    ]
    assert found[0]["report"]["data_set"]["pictures"] == 3


def test_google_landmarks_are_scored_by_their_halves(store: Path, tmp_path: Path) -> None:
    # stems stand for the ids of the data set
    file = tmp_path / "retrieval_solution_v2.1.csv"
    file.write_text("id,images,Usage\nq0,i0 i1 i9,Private\nq1,i2,Public\ncat,None,Ignored\n")
    found = json.loads(call(store, "--protocol", "gldv2", "--truth", tmp_path, "--json"))["reports"]
    assert [each["report"]["protocol"] for each in found] == ["gldv2 public", "gldv2 private"]
    private = found[1]["report"]
    assert private["metric"] == "mAP@100"
    assert private["missing"] == 1
    for row in private["rows"]:
        assert row["lowest"] <= row["expected"] <= row["highest"] <= 2 / 3  # i9 is missed
    text = call(store, "--protocol", "gldv2", "--truth", tmp_path, "--part", "private")
    assert "mAP@100 is by rectangles over the first 100 pictures" in text


def test_copies_of_parts_have_the_part_in_their_names(store: Path, tmp_path: Path) -> None:
    copies = ("--scores", tmp_path / "scores.parquet", "--qrels-out", tmp_path / "right.qrels")
    call(store, "--protocol", "copydays", *copies, "--json")
    for part in ("strong", "crops-10"):
        assert read_table(tmp_path / f"scores-copydays-{part}.parquet").num_rows == 4
        assert (tmp_path / f"right-copydays-{part}.qrels").read_text().count("\n") > 0


def test_a_run_is_scored_by_one_part(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.trec"
    run.write_text(
        "copydays/strong/200001.png Q0 copydays/original/200100.png 1 2.0 run\n"
        "copydays/strong/200001.png Q0 copydays/original/200000.png 2 1.0 run\n"
    )
    asked = (store, "--run", run, "--protocol", "copydays")
    with pytest.raises(InputError, match=r"copydays has 2, copydays strong to .* --part"):
        call(*asked)
    found = report_of(*asked, "--part", "strong", "--measure", "mAP,RR")
    assert found["truth"] == "copydays strong"
    # the original stands second: (0 / 1 + 1 / 2) / 2, and 1 / 2
    assert [each["score"] for each in found["measures"]] == [0.25, 0.5]


@pytest.mark.parametrize("option", ["--truth", "--within", "--part", "--rotations"])
def test_options_of_protocols_are_refused_with_qrels(store: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is about a protocol; .* leave it out"):
        call(store, "--qrels", "judged.qrels", option, "x")


def test_a_distractor_with_a_taken_name_is_refused_until_the_folder_is_said(store: Path) -> None:
    with pytest.raises(InputError, match=r"far/ukbench00002\.png .* --within"):
        call(store, "--protocol", "ukb")
    report = report_of(store, "--protocol", "ukb", "--within", "ukb/")
    assert report["queries"] == 4
    assert report["indexed"] == len(NAMES)  # the distractors are ranked too
    assert report["data_set"]["pictures"] == 4


@pytest.fixture
def rotations(tmp_path: Path) -> Path:
    file = tmp_path / "holidays-rotate.yaml"
    file.write_text('{\n"100000.jpg": 90,\n}\n')
    return file


def test_holidays_says_that_a_listed_picture_lies_on_its_side(store: Path, rotations: Path) -> None:
    asked = (store, "--protocol", "holidays", "--within", "holidays")
    assert report_of(*asked)["protocol"] == "holidays"
    report = report_of(*asked, "--rotations", rotations)
    assert report["protocol"] == "holidays raw"
    assert report["data_set"]["truth_files"] == 1


def changed(store: Path, pictures: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    """Return a store whose newest snapshot has changed pictures."""
    ours = Path(shutil.copytree(pictures, folder / "pictures"))
    change(ours)
    again = Path(shutil.copytree(store, folder / "store"))
    tiny_index(again, ours, gate__removed=1.0, gate__added=1.0)
    return again


def test_a_blurred_release_and_a_turned_picture_are_told_from_the_original(
    store: Path, pictures: Path, rotations: Path, tmp_path: Path
) -> None:
    def blur_and_turn(folder: Path) -> None:
        draw(folder / "ukb/ukbench00001.png", 99)
        (folder / "far/ukbench00002.png").unlink()
        path = folder / WIDE[0]
        with Image.open(path) as image:
            upright = image.rotate(-90, expand=True)
        upright.save(path)

    asked = ("--protocol", "ukb", "--within", "ukb")
    before = report_of(store, *asked)["data_set"]
    again = changed(store, pictures, tmp_path, blur_and_turn)
    after = report_of(again, *asked)["data_set"]
    assert after["pictures_sha256"] != before["pictures_sha256"]
    same = {name: value for name, value in before.items() if name != "pictures_sha256"}
    assert same == {name: value for name, value in after.items() if name != "pictures_sha256"}
    holidays = ("--protocol", "holidays", "--within", "holidays")
    run = tmp_path / "run.trec"
    run.write_text("holidays/100000.png Q0 holidays/100001.png 1 1.0 run\n")
    assert report_of(again, "--run", run, *holidays, "--rotations", rotations)["truth"] == (
        "holidays upright"
    )
    turned = report_of(again, *holidays, "--rotations", rotations)
    assert turned["protocol"] == "holidays upright"


def test_a_data_set_with_missing_and_damaged_files_is_said(
    store: Path, pictures: Path, tmp_path: Path
) -> None:
    def lose(folder: Path) -> None:
        (folder / "ukb/ukbench00001.png").unlink()
        (folder / "ukb/ukbench00003.png").write_text("<html>302 Found</html>")
        (folder / "far/ukbench00002.png").unlink()

    again = changed(store, pictures, tmp_path, lose)
    report = report_of(again, "--protocol", "ukb")
    assert report["missing"] == 2
    assert report["refused"] == 1
    assert report["data_set"]["missing"] == ["ukbench00001", "ukbench00003"]
    assert (report["data_set"]["held"], report["data_set"]["released"]) == (2, 10_200)
    text = call(again, "--protocol", "ukb")
    assert "2 of the data set's 10,200 pictures are indexed" in text
    assert "2 right answers not indexed, which count as missed: ukbench00001, ukbench00003" in text
