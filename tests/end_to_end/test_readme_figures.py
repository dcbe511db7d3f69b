"""The figures that the README gives of the demo are those of the demo."""

import json
import re
from pathlib import Path

import pytest

from lamella.schemas.report import RetrievalReport
from tests.command_line import lamella

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_demo_scores_what_the_readme_says(tmp_path: Path) -> None:
    found = re.findall(
        r"^\| (\S.*?) +\| ([0-9.]+ \[[0-9.]+, [0-9.]+\])", README.read_text(encoding="utf-8"), re.M
    )
    said = dict(found)
    assert set(said) == {"head alone", "p15 alone", "plain sum", "mapped fusion"}
    shown = lamella("demo", tmp_path / "demo", "--engine", "serial", "--json")
    report = RetrievalReport.model_validate(json.loads(shown.stdout)["report"])
    names = {"alone": "{} alone", "direct": "plain sum", "mapped": "mapped fusion"}
    for row in report.rows:
        assert row.interval is not None
        ends = f"[{row.interval.low:.2f}, {row.interval.high:.2f}]"
        assert said[names[row.kind].format(row.name)] == f"{row.score:.2f} {ends}"
