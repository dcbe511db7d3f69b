"""A nightly index on the command line: what the gate stops, and what a person does then."""

import json
from pathlib import Path
from typing import Any

import pytest

import lamella as api
from lamella.pipeline.errors import NotPromoted
from tests.command_line import Said, complaint, lamella
from tests.end_to_end.commands import tiny_runs
from tests.tiny import tiny_pictures

JOB = """
[corpus]
shard_images = 3
[network.preprocess]
short_edge = 64
crop = 64
[vocabulary]
words = 12
rounds = 3
assigner = "exact"
projection = "none"
[engine]
kind = "serial"
[gate]
golden = "{golden}"
"""


class Night:
    """A folder of pictures, a job with golden queries, and a store."""

    def __init__(self, folder: Path) -> None:
        self.pictures = tiny_pictures(folder / "pictures", 10, broken=0)
        self.golden, self.job = folder / "golden.tsv", folder / "job.toml"
        self.golden.write_text("00.png\t00.png\n01.png\n", encoding="utf-8")
        self.job.write_text(JOB.format(golden=self.golden), encoding="utf-8")
        self.store = folder / "store"

    def index(self, *more: object) -> Said:
        return lamella("index", self.pictures, "--into", self.store, "--job", self.job, *more)

    def snapshots(self, *more: object) -> Said:
        return lamella("snapshots", self.store, *more)

    def state(self) -> list[tuple[Any, ...]]:
        """Return of each snapshot whether it is current, held, and passed its gate."""
        listed = json.loads(self.snapshots("--json").stdout)
        gates = [each["gate"] and each["gate"]["passed"] for each in listed]
        return [(s["current"], s["held"], gate) for s, gate in zip(listed, gates, strict=True)]


@pytest.fixture
def night(tmp_path: Path) -> Any:
    with tiny_runs():
        yield Night(tmp_path)


def test_a_mount_that_lost_its_pictures_is_not_promoted(night: Night) -> None:
    first = night.index("--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["promoted"] is True
    assert json.loads(first.stdout)["gate"] is None
    assert json.loads(night.index("--json").stdout) == json.loads(first.stdout)

    for number in range(4, 10):
        (night.pictures / f"{number:02d}.png").unlink()
    said = complaint(night.index(), 3)
    assert "snapshot 2 is made and not promoted, snapshot 1 stays current: 6 of 10 pictures" in said
    assert "60.0%, and at most 5.0% may be (gate.removed)" in said
    assert night.state() == [(True, False, None), (False, False, False)]
    # Given again: judged again, not promoted again; and a script sees the verdict.
    again = night.index("--json")
    assert complaint(again, 3) == said
    found = json.loads(again.stdout)
    assert (found["snapshot"], found["indexed"], found["promoted"]) == (2, 4, False)
    assert found["not_promoted"] in said
    removed = found["gate"]["rules"][0]
    assert (removed["rule"], removed["state"]) == ("removed", "failed")
    assert (removed["value"], removed["limit"]) == (0.6, 0.05)

    lines = night.snapshots().stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any("1 current" in line and "none" in line for line in lines)
    assert all(any(word in line for line in lines) for word in ("failed", "removed"))

    assert night.index("--force").returncode == 0
    assert night.state() == [(False, False, None), (True, False, False)]


def test_a_golden_query_that_is_gone_is_named(night: Night) -> None:
    assert night.index().returncode == 0
    (night.pictures / "01.png").unlink()
    said = complaint(night.index(), 3)
    assert f"golden query 01.png is not in snapshot 2, and all of {night.golden} must be" in said
    night.golden.write_text("00.png\n", encoding="utf-8")
    assert night.index().returncode == 0
    night.golden.unlink()
    assert "golden.tsv cannot be read: No such file" in complaint(night.index(), 2)


def test_a_rollback_holds_for_the_nights_that_follow(night: Night) -> None:
    more = tiny_pictures(night.pictures.parent / "more", 12, broken=0)
    night.index()
    (more / "10.png").rename(night.pictures / "10.png")
    night.index()
    back = night.snapshots("--promote", 1)
    assert "snapshot 1 answers queries now and is held: `lamella index` makes snap" in back.stdout
    (more / "11.png").rename(night.pictures / "11.png")
    said = complaint(night.index(), 3)
    assert "promotion 3 holds snapshot 1 since" in said
    assert f"`lamella snapshots {night.store} --release`" in said
    assert night.state() == [(True, True, None), (False, False, True), (False, False, True)]
    assert any("1 held" in line for line in night.snapshots().stdout.splitlines())

    released = night.snapshots("--release")
    assert "newer ones wait: 2 (passed), 3 (passed); promote one, or" in released.stdout
    assert "nothing to release" in complaint(night.snapshots("--release"), 2)
    assert "two promotions" in complaint(night.snapshots("--release", "--promote", 1), 2)
    assert night.index().returncode == 0
    assert night.state()[2] == (True, False, True)


def test_python_is_told_and_may_open_what_was_made(night: Night) -> None:
    night.index()
    for number in range(4, 10):
        (night.pictures / f"{number:02d}.png").unlink()
    with pytest.raises(NotPromoted, match=r"\(gate.removed\)") as caught:
        api.index(night.pictures, into=night.store, job=night.job)
    with api.open(night.store, at=caught.value.snapshot) as made, api.open(night.store) as now:
        assert (len(made), len(now)) == (4, 10)
    with api.index(night.pictures, into=night.store, job=night.job, force=True) as made:
        assert len(made) == 4
