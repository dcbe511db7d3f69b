"""What Python code is told when it asks wrongly, or opens what cannot be opened."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import lamella
from lamella import errors
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store
from tests.conftest import Indexed


@pytest.fixture(scope="module")
def index(indexed: Indexed) -> Iterator[lamella.Index]:
    with lamella.open(indexed.store) as opened:
        yield opened


@pytest.fixture(scope="module")
def ids(index: lamella.Index) -> list[int]:
    """The ids of all images, in the order of the source."""
    found: list[int] = index.images().column("image_id").to_pylist()
    return found


ARRAY = np.zeros((8, 8, 3), np.uint8)
WRONG_QUERIES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, errors.InputError, "one of pictures, ids and names; got none"),
    "two kinds": ({"pictures": b"", "ids": 1}, errors.InputError, "got pictures, ids"),
    "a number": ({"pictures": 7}, errors.InputError, "a picture is a path.*got int 7"),
    "a number among others": ({"pictures": [b"", 7]}, errors.InputError, "picture 1 is int 7"),
    "a path of bytes": ({"pictures": [None]}, errors.InputError, "picture 0 is NoneType"),
    "another scheme": ({"pictures": "http://a/b.jpg"}, errors.InputError, "http://.*is not read"),
    "floats": ({"pictures": ARRAY / 255}, errors.InputError, r"\(8, 8, 3\) float64: convert it"),
    "grey": ({"pictures": ARRAY[:, :, 0]}, errors.InputError, r"\(8, 8\) uint8: repeat grey"),
    "planes": ({"pictures": ARRAY.T}, errors.InputError, r"\(3, 8, 8\) uint8: bring the chann"),
    "a stack": ({"pictures": ARRAY[None]}, errors.InputError, "give list.array. for many"),
    "no pixels": ({"pictures": ARRAY[:0]}, errors.InputError, r"is \(0, 8, 3\) uint8"),
    "deep": ({"pictures": Image.new("I;16", (8, 8))}, errors.InputError, "has mode I;16: convert"),
    "an unknown id": (
        {"ids": 48},
        errors.InputError,
        "image 48 is not in snapshot 1, which has 48",
    ),
    "unknown ids": ({"ids": [-1, 2**70]}, errors.InputError, "image -1 .*1 more are not either"),
    "an id as text": ({"ids": ["1"]}, errors.InputError, "ids are whole numbers"),
    "an unknown name": ({"names": "no.jpg"}, errors.InputError, "no image of name 'no.jpg'"),
    "no k": ({"ids": 1, "k": 0}, errors.InputError, "search.k: .*greater than.*got 0"),
    "no expansion": ({"ids": 1, "expand": -1}, errors.InputError, "search.expand: .*got -1"),
    "a mode": ({"ids": 1, "mode": "fast"}, errors.InputError, "search.mode: .*got 'fast'"),
    "a name as a number": ({"names": 3}, errors.InputError, "names takes a name or.*got 3"),
    "names of names": ({"names": [["a"]]}, errors.InputError, r"names takes a name.*got \['a'\]"),
    "no layer": ({"ids": 1, "layers": []}, errors.InputError, "fusion: layers: .*at least 1 item"),
    "a layer": ({"ids": 1, "layers": "b9"}, errors.UnknownLayer, "no layer 'b9': it has head, p15"),
    "a threshold": ({"ids": 1, "t": 2.0}, errors.InputError, "fusion: .*got 2.0"),
}


@pytest.mark.parametrize("case", WRONG_QUERIES)
def test_a_wrong_query_is_told_the_rule_and_the_way_out(case: str, index: lamella.Index) -> None:
    arguments, error, said = WRONG_QUERIES[case]
    with pytest.raises(error, match=said):
        index.query(**arguments)


def test_a_wrong_layer_is_told_which_there_are(index: lamella.Index) -> None:
    with pytest.raises(errors.UnknownLayer, match="no layer 'b9': it has head, p15"):
        index.vectors("b9")
    with pytest.raises(errors.InputError, match=r"layer p15 is local.*take bags\('p15'\)"):
        index.vectors("p15")
    with pytest.raises(errors.InputError, match=r"layer head is global.*take vectors\('head'\)"):
        index.bags("head")


def test_a_known_id_beside_an_unknown_one_is_not_named(
    index: lamella.Index, ids: list[int]
) -> None:
    with pytest.raises(errors.InputError, match=r"image 48 is not in.*or there is none$"):
        index.query(ids=[ids[0], 48, ids[1]])


def test_what_cannot_be_opened_is_named(indexed: Indexed, tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match=r"there is no store at .*make one"):
        lamella.open(tmp_path / "none")
    with pytest.raises(errors.InputError, match="it has no"):
        lamella.open(tmp_path)
    open_store(str(tmp_path / "empty"), create=True)
    with pytest.raises(errors.InputError, match="holds no snapshot yet"):
        lamella.open(tmp_path / "empty")
    with pytest.raises(errors.InputError, match="there is no snapshot 7"):
        lamella.open(indexed.store, at=7)
    for arguments in ({"store": 3}, {"store": indexed.store, "at": 1.5}):
        with pytest.raises(errors.InputError, match=r"lamella\.open takes a path"):
            lamella.open(**arguments)
    with pytest.raises(errors.InputError, match="threads must be at least 1; got 0"):
        lamella.open(indexed.store, threads=0)
    newer = Path(shutil.copytree(indexed.store, tmp_path / "newer"))
    (newer / "snapshots/000001.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(errors.NewerFormat, match="in format version 99, this Lamella reads up to"):
        lamella.open(newer)
    denied = PermissionError(13, "Permission denied", str(indexed.store / "lamella.json"))
    with (
        mock.patch.object(LocalStore, "read", side_effect=denied),
        pytest.raises(errors.NoAccess, match=r"lamella\.json must be readable.*ask for reading"),
    ):
        lamella.open(indexed.store)


def test_a_table_for_a_package_that_is_absent_is_refused(
    index: lamella.Index, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = index.query(ids=ids[0], k=2)
    for package, method in (("pandas", found.to_pandas), ("polars", found.to_polars)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(errors.InputError, match=f"needs {package}.*pip install {package}"):
            method()
