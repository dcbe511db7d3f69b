import json
from pathlib import Path

from typer.testing import CliRunner

from cluster.cli import app


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
    assert "50 in 1 segments" in done.output
    assert "2 of 2, the 3 best of each" in done.output
