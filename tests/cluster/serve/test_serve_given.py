"""An index whose vectors were given, beside those of a network or alone, is served."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.end_to_end.commands import tiny_runs
from tests.serving import asked, error_of, png
from tests.tiny import tiny_index, tiny_pictures

COUNT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and a vector of each."""
    made = tmp_path_factory.mktemp("given")
    names = sorted(
        path.name for path in tiny_pictures(made / "pictures", COUNT, broken=0).iterdir()
    )
    np.save(made / "clip.npy", np.random.default_rng(7).normal(size=(COUNT, 8)).astype(np.float32))
    (made / "clip.names.txt").write_text("\n".join(names))
    return made


@pytest.fixture(scope="module")
def beside(folder: Path) -> Iterator[TestClient]:
    vectors: Any = ({"name": "clip", "file": str(folder / "clip.npy")},)
    with tiny_runs():
        tiny_index(folder / "beside", folder / "pictures", vectors=vectors)
    with asked(folder / "beside") as (client, _):
        yield client


def test_pictures_from_elsewhere_are_asked_in_the_layers_of_the_network(beside: TestClient) -> None:
    facts = beside.get("/index").json()
    assert [each["name"] for each in facts["layers"] if each["given"]] == ["clip"]
    assert facts["uploads"]
    others = ",".join(each["name"] for each in facts["layers"] if not each["given"])
    files = {"pictures": ("a.png", png(), "image/png")}
    said = error_of(beside.post("/query", files=files), 400, "wrong-request")
    assert f"--layers {others}" in said
    found = beside.post("/query", files=files, data={"layers": others}).json()
    assert [each["layer"] for each in found["fusion"]] == others.split(",")
    assert found["answers"][0]["certified"]


def test_indexed_pictures_are_asked_in_all_layers(beside: TestClient) -> None:
    (answer,) = beside.post("/query", json={"names": ["02.png"]}).json()["answers"]
    assert answer["results"][0]["name"] == "02.png"
    assert set(answer["results"][0]["similarities"]) >= {"clip", "head"}
    explained = beside.get("/explain", params={"query": "02.png", "result": "01.png"})
    assert explained.status_code == 200, explained.text


def test_vectors_alone_are_asked_by_name_and_have_no_pictures(folder: Path, tmp_path: Path) -> None:
    from lamella.indexing import index

    shutil.copytree(folder, tmp_path / "here", ignore=shutil.ignore_patterns("beside"))
    index(vectors={"clip": tmp_path / "here" / "clip.npy"}, into=tmp_path / "alone")
    with asked(tmp_path / "alone") as (client, _):
        facts = client.get("/index").json()
        assert (facts["indexed"], facts["uploads"]) == (COUNT, False)
        (answer,) = client.post("/query", json={"names": ["02.png"]}).json()["answers"]
        first = answer["results"][0]
        assert (first["name"], answer["certified"]) == ("02.png", True)
        gone = client.get(f"/pictures/{first['image_id']}/thumbnail", params={"size": 160})
        error_of(gone, 410, "picture-gone")
