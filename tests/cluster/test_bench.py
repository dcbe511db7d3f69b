import json
from pathlib import Path

from typer.testing import CliRunner

from lamella.cluster.commands.cli import app


def test_a_trial_of_search_is_told_to_scripts_and_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["bench", "search", "-n", "600", "-q", "4", "-k", "7", "--segment-images", "400"]
    done = CliRunner().invoke(app, [*arguments, "--folder", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["pictures"], found["segments"], found["certified"]) == (600, 2, 4)
    assert found["queries_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_trial_of_search_is_told_to_people() -> None:
    done = CliRunner().invoke(app, ["bench", "search", "-n", "50", "-q", "2", "-k", "3"])
    assert done.exit_code == 0, done.output
    assert "50 in 1 segment" in done.output
    assert "2 of 2, the 3 best of each" in done.output


SMALL_JOB = (
    "[network]\nlayers = ['head', 'b11']\n[network.preprocess]\nshort_edge = 64\ncrop = 64\n"
)


def test_a_trial_of_extraction_is_told_to_scripts(planted: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(SMALL_JOB)
    options = ["-n", "4", "--job", str(job), "--batch-size", "2", "--threads", "1", "--json"]
    done = CliRunner().invoke(app, ["bench", "extract", str(planted), *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["pictures"], found["batch_size"], found["threads"]) == (4, 2, 1)
    assert found["layers"] == ["head", "b11"]
    assert found["steps"][0]["name"] == "read"
    assert found["ceiling"] > 0


def test_a_trial_of_extraction_needs_no_pictures(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(SMALL_JOB)
    done = CliRunner().invoke(app, ["bench", "extract", "-n", "5", "--job", str(job)])
    assert done.exit_code == 0, done.output
    assert "what they allow together" in done.output
    assert "a core, while others were on all" in done.output


def test_precisions_and_batch_sizes_are_compared_on_request(planted: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text("[network]\nlayers = ['head']\n[network.preprocess]\nshort_edge = 32\ncrop = 32")
    options = ["bench", "extract", str(planted), "-n", "2", "--job", str(job), "--threads", "1"]
    asked = ["--precisions", "bfloat16,float32", "--batch-sizes", "2,1"]
    done = CliRunner().invoke(app, [*options, *asked, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [each["precision"] for each in found["precisions"]] == ["float32", "bfloat16"]
    assert found["precisions"][0]["ratio"] == 1
    assert 0.9 < found["precisions"][1]["layers"]["head"]["mean_cosine"] < 1
    assert [each["batch_size"] for each in found["batch_sizes"]] == [1, 2]
    assert found["best_batch_size"] in (1, 2)
