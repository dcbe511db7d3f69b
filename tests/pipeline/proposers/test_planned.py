"""A plan tells what proposers take: bytes as they are stored, seconds, memory, requests."""

from pathlib import Path

import pytest

from lamella.pipeline.jobs.indexing import prepare
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.plan.make import make_plan
from lamella.pipeline.plan.proposers_cost import graph_growth, tuning_seconds
from lamella.schemas.plan import Plan
from lamella.schemas.query import ProposerKind
from tests.pipeline.proposers.stored import COUNT, CUTS, index, write_vectors

pytest.importorskip("faiss")


def plan_of(file: Path, proposer: str) -> Plan:
    settings = CUTS | {"index.proposer": proposer}
    job = load_job(None, settings | {"vectors": [{"name": "clip", "file": str(file)}]})
    return make_plan(prepare(None, job), sample=64)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_plan_counts_proposers_as_they_are_stored(kind: ProposerKind, tmp_path: Path) -> None:
    file = write_vectors(tmp_path)
    plan = plan_of(file, kind)
    made = index(tmp_path / "store", file, kind)
    assert made.proposers is not None
    sizes = {each.kind: each.size_bytes.mean for each in plan.stored if each.stage == "propose"}
    held = sum(segment.files["clip.proposer"].size_bytes for segment in made.segments)
    # Headers, which are much of so few images, are reckoned as about 1,000 bytes a file.
    assert sizes["proposers clip"] == pytest.approx(held, rel=0.1, abs=1_000 * plan.segments)
    frame = sum(each.size_bytes for each in made.proposers.frames.values())
    assert sizes["frame clip"] == pytest.approx(frame, abs=2_000)
    assert [stage.name for stage in plan.stages][-3:] == ["index", "propose", "tune"]
    for stage in plan.stages[-2:]:
        assert stage.seconds.mean > 0
        assert stage.tasks == plan.segments
    assert ("tune" in plan.memory) == (kind == "hnsw")  # cells are mapped, graphs are held
    if kind == "hnsw":
        assert plan.memory["tune"]["proposers"] * plan.segments >= held
    assert sum(plan.memory["propose"].values()) > 0
    assert plan.requests["propose"]["put"] == plan.segments * 2 + 3


def test_a_plan_without_proposers_does_not_speak_of_them(tmp_path: Path) -> None:
    plan = plan_of(write_vectors(tmp_path, COUNT // 4), "none")
    assert "propose" not in plan.to_json().decode()
    assert "tune" not in plan.to_json().decode()


def test_an_image_takes_longer_in_a_larger_graph_by_its_logarithm() -> None:
    # log2(2,048 / 128) is 4, and so many times as large adds one for each doubling.
    assert [graph_growth(n) for n in (1, 2_048, 4_096, 32_768)] == [1.0, 1.0, 1.25, 2.0]


def test_tuning_takes_longer_with_pictures_and_with_layers() -> None:
    few = tuning_seconds("ivf", {"high": 128}, 0, 1e5, 100)
    assert few < tuning_seconds("ivf", {"high": 128}, 0, 1e6, 100)
    assert few < tuning_seconds("ivf", {"high": 128}, 1, 1e5, 100)
    assert few < tuning_seconds("ivf", {"high": 1_280}, 0, 1e5, 100)
