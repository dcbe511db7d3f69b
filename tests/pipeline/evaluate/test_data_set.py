"""What a report says of its data set: hashes that anyone can check, and what is not there."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.data_set import absences, data_set_lines, data_set_of
from lamella.pipeline.evaluate.page import render
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, Release
from lamella.schemas.report import DataSet, RetrievalReport
from tests.pipeline.evaluate.test_report_views import EVIL, make_report

QUERY = GroundTruthQuery("x/b.jpg", frozenset({"x/a.jpg"}), missing=frozenset({"lost"}))
DIGESTS = {"x/a.jpg": hashlib.sha256(b"a").digest(), "x/b.jpg": hashlib.sha256(b"b").digest()}


def truth_of(*files: Path, release: Release | None = None) -> GroundTruth:
    left_out = tuple((f"q{number}", "no right answer") for number in range(7))
    return GroundTruth("x", "mAP", (QUERY,), left_out, release, files=files)


def sha256sum(folder: Path, *names: str) -> str:
    """Return the SHA-256 of what `sha256sum` prints of files, as a user would check it."""
    listed = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True)
    return hashlib.sha256(listed.stdout).hexdigest()


def test_the_hash_of_several_files_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    for name in ("b_query.txt", "a_query.txt"):
        (tmp_path / name).write_text(name)
    files = [tmp_path / "b_query.txt", tmp_path / "a_query.txt"]
    found = data_set_of(truth_of(*files), DIGESTS)
    assert found.truth_files == 2
    assert found.truth_sha256 == sha256sum(tmp_path, "a_query.txt", "b_query.txt")
    one = data_set_of(truth_of(files[0]), DIGESTS)
    assert one.truth_sha256 == hashlib.sha256(b"b_query.txt").hexdigest()
    assert data_set_of(truth_of(), DIGESTS).truth_sha256 == ""


def test_the_hash_of_the_pictures_is_by_stem_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    found = data_set_of(truth_of(), DIGESTS)
    assert found.pictures == 2
    assert found.pictures_sha256 == sha256sum(tmp_path, "a", "b")
    query = GroundTruthQuery("y/b.png", frozenset({"y/a.png"}))
    moved = GroundTruth("x", "mAP", (query,))
    digests = {name.replace("x/", "y/").replace("jpg", "png"): d for name, d in DIGESTS.items()}
    assert data_set_of(moved, digests).pictures_sha256 == found.pictures_sha256
    blurred = DIGESTS | {"x/a.jpg": hashlib.sha256(b"a, blurred").digest()}
    assert data_set_of(truth_of(), blurred).pictures_sha256 != found.pictures_sha256


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt"):
        data_set_of(truth_of(tmp_path / "gone.txt"), DIGESTS)


def test_what_is_not_there_is_said_in_few_names() -> None:
    found = data_set_of(truth_of(release=Release(605, 5063, 55)), DIGESTS)
    report = make_report(data_set=found, missing=1)
    assert absences(report) == [
        "605 of the data set's 5,063 pictures are indexed: this is not the score of the whole",
        "1 right answer not indexed, which counts as missed: lost",
        "7 left out, no right answer: q0, q1, q2, q3, q4 and 2 more",
    ]
    lines = dict(data_set_lines(report))
    assert lines["pictures of the data set"] == "605 of 5,063"
    assert lines["queries of the data set"] == "2 of 55"
    whole = data_set_of(GroundTruth("x", "mAP", (QUERY,), release=Release(9, 9, 2, 20)), DIGESTS)
    report = make_report(data_set=whole)
    assert absences(report) == []
    said = dict(data_set_lines(report))["pictures of the data set"]
    assert said == "9 of 9; 20 damaged files are not counted"


def test_the_page_says_it_and_names_do_nothing_there() -> None:
    query = GroundTruthQuery("x/b.jpg", frozenset({"x/a.jpg"}), missing=frozenset({EVIL}))
    truth = GroundTruth("x", "mAP", (query,), ((EVIL, "no right answer"),))
    found = data_set_of(truth, DIGESTS)
    html = render(make_report(data_set=found, missing=1))
    assert found.pictures_sha256 in html
    assert "1 left out, no right answer" in html
    assert "<script>document" not in html
    assert "\x1b" not in html


def test_a_report_without_a_data_set_is_stored_as_before() -> None:
    report = make_report()
    assert b"data_set" not in report.to_json()
    assert b"measures" not in report.to_json()
    kept = report.model_copy(update={"data_set": data_set_of(truth_of(), DIGESTS)})
    read = RetrievalReport.from_json(kept.to_json())
    assert isinstance(read.data_set, DataSet)
    assert read == kept
