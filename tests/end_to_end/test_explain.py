"""`lamella explain` and `Index.explain`: what a person types, and what a notebook has."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lamella
from lamella import errors
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.expire import expire_snapshots
from tests.command_line import complaint
from tests.command_line import lamella as command
from tests.end_to_end.commands import Stores, id_of


def test_what_a_person_sees(stores: Stores, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    said = command("explain", stores.one, "00.png", "01.png", "--page", page)
    assert said.returncode == 0, said.stderr
    assert "01.png is at rank " in said.stdout
    assert " of 5 for 00.png" in said.stdout
    assert "words in common" in said.stdout or "word in common" in said.stdout
    assert "mapped fusion" in said.stdout
    assert "explain done 2" in said.stderr
    drawn = page.read_text(encoding="utf-8")
    assert drawn.count("data:image/jpeg;base64,") == 2
    assert '<i class="first' in drawn


def test_json_has_what_python_has(stores: Stores) -> None:
    query, result = id_of(stores.one, "00.png"), id_of(stores.one, "01.png")
    said = command("explain", stores.one, query, result, "--id", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    value = json.loads(said.stdout)
    with lamella.open(stores.one) as index:
        found = index.explain(query, result)
        assert value == json.loads(json.dumps(found.to_dict())) | {"page": None}
        assert isinstance(found, lamella.Explanation)
        assert found == index.explain("00.png", "01.png")
        answer = index.query(ids=query, k=5)
    place = answer.ids[0].tolist().index(result)
    assert (value["rank"], value["score"]) == (place + 1, answer.scores[0, place])
    assert [each["similarity"] for each in value["layers"]] == [
        answer.similarities[layer][0, place] for layer in index.layers
    ]


def test_settings_are_those_of_a_query(stores: Stores) -> None:
    settings: dict[str, Any] = {"t": 0.1, "p": 0.3, "w": [0.5, 2.0], "profile": "paper"}
    options = ["--t", "0.1", "--p", "0.3", "--w", "0.5,2", "--profile", "paper", "--snapshot", "1"]
    said = command("explain", stores.two, "00.png", "01.png", *options, "--json")
    value = json.loads(said.stdout)
    with lamella.open(stores.two, at=1) as index:
        answer = index.query(names="00.png", k=5, **settings)
        found = index.explain("00.png", "01.png", **settings)
    place = answer.names[0].tolist().index("01.png")
    assert (found.rank, found.score) == (place + 1, answer.scores[0, place])
    assert (value["rank"], value["score"]) == (found.rank, found.score)
    assert value["weighting"] == "tf"
    alone = json.loads(
        command("explain", stores.one, "00.png", "01.png", "--layers", "head", "--json").stdout
    )
    assert [each["layer"] for each in alone["layers"]] == ["head"]
    assert alone["matches"] == []


def test_pictures_from_elsewhere_and_pictures_that_moved(stores: Stores, tmp_path: Path) -> None:
    copies = Path(shutil.copytree(stores.pictures, tmp_path / "copies"))
    path = copies / "00.png"
    with lamella.open(stores.one) as index:
        found = index.explain(path, "01.png", source=copies)
        assert found.query.image_id is None
        assert found.matches == index.explain("00.png", "01.png").matches
        assert index.explain(str(path), "01.png").score == found.score
        assert index.explain(path.read_bytes(), "01.png").score == found.score
        assert index.explain(path, np.int64(id_of(stores.one, "01.png"))).score == found.score
    said = command("explain", stores.one, path, "01.png", "--pictures", copies, "--json")
    assert json.loads(said.stdout)["score"] == found.score


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("00.png", "1.png"), "none called '1.png'; names like it: "),
        (("00.png", "05.png"), "'05.png' was refused when it was indexed"),
        (("no.png", "00.png"), "'no.png' is neither"),
        (("00.png", "00.png"), "QUERY and RESULT are both 00.png"),
        (("00.png", "17", "--id"), "image 17 is not in the snapshot"),
        (("00.png", "01.png", "--snapshot", "7"), "7"),
        (("00.png", "01.png", "--layers", "p16"), "did you mean p15?"),
        (("00.png", "01.png", "--page", "/no/such/folder/a.html"), "--page"),
        (("00.png", "01.png", "--t", "2"), "2"),
    ],
)
def test_what_cannot_be_explained(stores: Stores, given: tuple[str, ...], said: str) -> None:
    assert said in complaint(command("explain", stores.one, *given))


def test_a_snapshot_that_has_expired(stores: Stores, tmp_path: Path) -> None:
    store = Path(shutil.copytree(stores.two, tmp_path / "store"))
    expire_snapshots(LocalStore(store), keep_last=1, keep_days=0)
    with pytest.raises(errors.LamellaError) as raised:
        read_snapshot(LocalStore(store), 1)
    said = command("explain", store, "00.png", "01.png", "--snapshot", "1")
    assert str(raised.value) in complaint(said, said.returncode)
    assert said.returncode != 0


def test_wrong_calls_from_python(stores: Stores) -> None:
    with lamella.open(stores.one) as index:
        with pytest.raises(errors.InputError, match="one query is explained; got 2"):
            index.explain([Path("a.png"), Path("b.png")], "01.png")  # type: ignore[arg-type]
        with pytest.raises(errors.InputError, match="image 3 is not in snapshot 1"):
            index.explain(3, "01.png")
        with pytest.raises(errors.InputError, match="image 3 is not in snapshot 1"):
            index.explain("01.png", 3)
    with pytest.raises(errors.InputError, match="was closed"):
        index.explain("00.png", "01.png")
