"""The short form of `make chaos`: one round of every kind that needs no cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_one_round_of_every_fault_ends_in_the_same_bytes(tmp_path: Path) -> None:
    seed = 7
    settings = {"CHAOS_SEED": str(seed), "CHAOS_ROUNDS": "1", "CHAOS_MINUTES": "5"}
    settings["CHAOS_KINDS"] = "driver,two,twice,disk,clock"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos"],
        cwd=tmp_path,
        env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "build" / "chaos" / f"{seed}.json").read_text())
    assert summary["rounds"] == {"driver": 1, "two": 1, "twice": 1, "disk": 1, "clock": 1}
    assert summary["faults"].keys() >= {"two drivers at once", "tasks delivered twice"}
    assert (summary["lost"], summary["different"], summary["failures"]) == (0, 0, [])
