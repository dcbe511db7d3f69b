"""Words out of one store and into another: bit for bit, or one line that says why not."""

import ast
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from lamella.pipeline.errors import IncompatibleInputs, InputError, UnknownLayer
from lamella.pipeline.store.commit import sha256_of
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import vectors_column, write_arrow
from lamella.pipeline.vocabulary import exchange
from lamella.pipeline.vocabulary.exchange import (
    LARGEST_JSON,
    check_recipe,
    export_vocabulary,
    read_exchanged,
    recipe_digest,
    recipe_of,
)
from lamella.pipeline.vocabulary.ivf import CellsAssigner, first_cells
from lamella.pipeline.vocabulary.ivf_files import write_cells
from lamella.pipeline.vocabulary.projection import fit_projection, write_projection
from lamella.schemas.files import FileRef
from lamella.schemas.vocabulary import ProjectionSpec, RoundReport, Vocabulary, VocabularyHealth
from tests.pipeline.vocabulary.recipes import extraction, layer, seen
from tests.pipeline.vocabulary.vectors import clustered

WORDS = clustered(90, 12, 30, seed=1)
ROWS = clustered(300, 31, 30, seed=2)


def stored(store: LocalStore, name: str, write: Callable[[Path], int]) -> FileRef:
    path = store.root / name
    rows = write(path)
    return FileRef(path=name, size_bytes=path.stat().st_size, sha256=sha256_of(path), rows=rows)


def trained(tmp_path: Path, *, whole: bool = True, **changed: Any) -> tuple[LocalStore, Vocabulary]:
    """Return a store and words in it; with a projection and cells if they are `whole`."""
    (tmp_path / "store").mkdir(exist_ok=True)
    store = LocalStore(tmp_path / "store")
    table = pa.table({"centroid": vectors_column(WORDS)})
    known: dict[str, Any] = {
        "layer": "b11",
        "words": 90,
        "words_requested": 100,
        "dimensions": 12,
        "spec": "5" * 64,
        "extraction": "e" * 64,
        "recipe": recipe_digest(extraction(), "b11"),
        "rounds": (
            RoundReport(round=0, share=1, objective=0.3, changed=0, empty_words=0, imbalance=1),
        ),
        "centroids": stored(store, "centroids.arrow", lambda path: write_arrow(table, path)),
    }
    if whole:
        projection = fit_projection(ROWS, ProjectionSpec(dimensions=12, whiten=True))
        known["projection"] = stored(store, "p.arrow", lambda p: write_projection(projection, p))
        known["cells"] = stored(store, "c.arrow", lambda p: write_cells(first_cells(WORDS), p))
        known["probes"] = 3
        known["health"] = VocabularyHealth(
            held_rows=7, held_error=0.1, recall=0.99, entropy=6.1, evenness=0.9, dead=0,
            largest_share=0.1, imbalance=1.2,
        )  # fmt: skip
    return store, Vocabulary(**known | changed)


def exported(tmp_path: Path, **changed: Any) -> Path:
    store, vocabulary = trained(tmp_path, **changed)
    return export_vocabulary(store, vocabulary, extraction(), tmp_path / "out")[1]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


def name_anew(part: tuple[str, str], array: Path, value: dict[str, Any]) -> None:
    """Give a record the SHA-256 that an array has now."""
    value[part[0]][part[1]]["sha256"] = sha256_of(array)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_exchanged(path)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 900
    return text


def resaved(path: Path, array: npt.NDArray[Any]) -> None:
    """Put another array in the place of `b11.npy`, with its SHA-256 in the JSON."""
    np.save(path.parent / "b11.npy", array)
    sha256 = sha256_of(path.parent / "b11.npy")
    edit(path, lambda value: value["centroids"].update(sha256=sha256))


def test_words_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = exported(tmp_path)
    read = read_exchanged(path)
    assert (read.layer, read.probes) == ("b11", 3)
    assert read.centroids.dtype == np.float32
    assert read.centroids.tobytes() == WORDS.tobytes()
    known = fit_projection(ROWS, ProjectionSpec(dimensions=12, whiten=True))
    assert read.projection is not None
    assert read.projection.mean.tobytes() == known.mean.tobytes()
    assert read.projection.matrix.tobytes() == known.matrix.tobytes()
    assert read.projection.explained == known.explained
    cells = first_cells(WORDS)
    assert read.cells is not None
    assert read.cells.centres.tobytes() == cells.centres.tobytes()
    assert (read.cells.offsets == cells.offsets).all()
    assert (read.cells.members == cells.members).all()
    rows = clustered(200, 12, 30, seed=9)
    ours = CellsAssigner(WORDS, cells, 3).assign(rows).words
    assert (CellsAssigner(read.centroids, read.cells, 3).assign(rows).words == ours).all()
    assert read.recipe == recipe_of(extraction(), "b11")
    assert read.recipe_digest == recipe_digest(extraction(), "b11")
    assert read.health is not None
    assert read.health.recall == 0.99
    assert read.provenance is not None
    assert (read.provenance.rounds, read.provenance.words_requested) == (1, 100)


def test_other_tools_read_what_is_written(tmp_path: Path) -> None:
    path = exported(tmp_path)
    assert {each.name for each in path.parent.iterdir()} == {
        "b11.json", "b11.npy", "b11.cell-centres.npy", "b11.cell-owners.npy",
        "b11.projection-mean.npy", "b11.projection-matrix.npy",
    }  # fmt: skip
    assert np.load(path.parent / "b11.npy").tobytes() == WORDS.tobytes()
    said = json.loads(path.read_bytes())
    plain = (path.parent / "b11.npy").read_bytes()
    assert said["centroids"] == {"name": "b11.npy", "sha256": hashlib.sha256(plain).hexdigest()}
    assert said["recipe"]["weights"] == "a1" * 32
    assert str(tmp_path) not in path.read_text()


def test_an_export_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    store, vocabulary = trained(tmp_path)
    first, again = tmp_path / "first", tmp_path / "again"
    for folder in (first, again):
        export_vocabulary(store, vocabulary, extraction(), folder)
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_plain_words_need_no_more_than_two_files(tmp_path: Path) -> None:
    path = exported(tmp_path, whole=False)
    assert sorted(each.name for each in path.parent.iterdir()) == ["b11.json", "b11.npy"]
    read = read_exchanged(path)
    assert (read.projection, read.cells, read.probes, read.health) == (None, None, 0, None)


def test_the_least_json_of_the_docstring_is_enough(tmp_path: Path) -> None:
    assert exchange.__doc__ is not None
    text = exchange.__doc__[
        exchange.__doc__.index("    {") : exchange.__doc__.index("\n\n`recipe`")
    ]
    said = ast.literal_eval(text.strip())
    words = clustered(1000, 112, 30)
    np.save(tmp_path / "b11.npy", words)
    said["centroids"]["sha256"] = sha256_of(tmp_path / "b11.npy")
    said["recipe"]["weights"] = "a1" * 32
    (tmp_path / "b11.json").write_text(json.dumps(said))
    read = read_exchanged(tmp_path / "b11.json")
    check_recipe(read, extraction(), "b11")
    assert read.recipe_digest == recipe_digest(extraction(), "b11")
    assert read.centroids.tobytes() == words.tobytes()


def test_nothing_is_overwritten_and_nothing_half_made_stays(tmp_path: Path) -> None:
    store, vocabulary = trained(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "b11.json").write_text("mine")
    with pytest.raises(InputError, match=r"overwrites nothing; .*b11\.json exists"):
        export_vocabulary(store, vocabulary, extraction(), folder)
    assert [each.name for each in folder.iterdir()] == ["b11.json"]
    assert (folder / "b11.json").read_text() == "mine"
    with pytest.raises(InputError, match="goes into a folder"):
        export_vocabulary(store, vocabulary, extraction(), folder / "b11.json")
    with pytest.raises(InputError, match="goes into a folder"):
        export_vocabulary(store, vocabulary, extraction(), folder / "b11.json" / "inner")


@pytest.mark.parametrize("files", [0, 1, 2])
def test_an_export_that_was_killed_continues(tmp_path: Path, files: int) -> None:
    class Killed(BaseException):
        pass

    store, vocabulary = trained(tmp_path)
    export_vocabulary(store, vocabulary, extraction(), tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    made: list[str] = []

    def dying(path: Path, target: Path) -> Path:
        if len(made) == files:
            raise Killed
        made.append(target.name)
        return rename(path, target)

    rename = Path.rename
    with (
        pytest.raises(Killed),
        mock.patch.object(Path, "rename", dying),
        mock.patch.object(Path, "unlink"),  # the dead clean nothing up
    ):
        export_vocabulary(store, vocabulary, extraction(), tmp_path / "out")
    assert sorted(made) == sorted(
        path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".tmp"
    )
    export_vocabulary(store, vocabulary, extraction(), tmp_path / "out")
    found = [path for path in (tmp_path / "out").iterdir() if path.suffix != ".tmp"]
    assert {path.name: path.read_bytes() for path in found} == whole


def test_words_go_out_with_their_own_recipe_only(tmp_path: Path) -> None:
    store, vocabulary = trained(tmp_path)
    with pytest.raises(IncompatibleInputs, match=r"has recipe \w{12}, this extraction \w{12}: "):
        export_vocabulary(store, vocabulary, seen(short_edge=300), tmp_path / "out")
    with pytest.raises(UnknownLayer, match="no layer 'b11' here: it is one of b12"):
        export_vocabulary(store, vocabulary, layer(name="b12"), tmp_path / "out")
    none = vocabulary.model_copy(update={"centroids": None})
    with pytest.raises(InputError, match="no words here: there is nothing to export"):
        export_vocabulary(store, none, extraction(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_array_alone_is_refused_and_told_what_it_lacks(tmp_path: Path) -> None:
    np.save(tmp_path / "sift.npy", WORDS)
    text = refusal(tmp_path / "sift.npy")
    assert "write sift.json beside it" in text
    assert all(f'"{name}"' in text for name in ("format", "layer", "words", "recipe", "sha256"))
    path = exported(tmp_path)
    assert "give" in refusal(path.with_suffix(".npy"))
    assert "there is no file" in refusal(path.with_name("other.json"))
    assert "there is no file" in refusal(path.parent)


Change = Callable[[dict[str, Any]], object]
BAD_JSONS: list[tuple[Change, str]] = [
    (lambda v: v.update(format="lamella-vocabulary-2"), "format: Input should be 'lamella-vocab"),
    (lambda v: v.update(extra=1), "extra: Extra inputs are not permitted"),
    (lambda v: v.pop("recipe"), "recipe: Field required"),
    (lambda v: v.update(words=0), "words: "),
    (lambda v: v.update(words=1 << 40), "words: "),
    (lambda v: v.update(words="many"), "words: "),
    (lambda v: v.update(dimensions=1 << 40), "dimensions: "),
    (lambda v: v.update(layer="../x"), "layer: "),
    (lambda v: v.update(layer="a\x1b[2Jb"), "layer: "),
    (lambda v: v["centroids"].update(sha256="A" * 64), "centroids.sha256: "),
    (lambda v: v["recipe"].update(network="vgg16"), "recipe_digest is that of the recipe"),
    (lambda v: v["recipe"]["preprocess"].update(mean=[1, 2]), "recipe.preprocess.mean"),
    (lambda v: v["projection"].update(explained=2), "projection.explained: "),
    (lambda v: v["cells"].update(probes=0), "cells.probes: "),
    (lambda v: v["cells"].update(count=91), "at most one cell a word; got 91 for 90"),
    (lambda v: v.update({"x" * 9_000: 1}), "x{200}"),
    # What is said of the arrays, and is not so.
    (lambda v: v.update(words=89), r"of shape \(90, 12\), the JSON says float32 of shape \(89"),
    (lambda v: v.update(words=1 << 24, dimensions=65_536, projection=None, cells=None), "16777216"),
    (lambda v: v["projection"].update(descriptor_dimensions=30), r"shape \(31,\), the JSON"),
    (lambda v: v["cells"].update(count=5), r"holds float32 of shape \(19, 12\)"),
    (lambda v: v["centroids"].update(sha256="0" * 64), "the JSON says 000000000000: it was"),
    (lambda v: v["centroids"].update(name="b12.npy"), "b12.npy is not there"),
    (lambda v: v["centroids"].update(name="b11.cell-centres.npy"), r"\(19, 12\), the JSON"),
]


@pytest.mark.parametrize(("change", "said"), BAD_JSONS)
def test_a_json_that_says_what_is_not_so_is_refused(
    tmp_path: Path, change: Change, said: str
) -> None:
    path = exported(tmp_path)
    edit(path, change)
    with pytest.raises(InputError, match=said):
        read_exchanged(path)
    refusal(path)


ELSEWHERE = ["../b11.npy", "/tmp/b11.npy", "..", "sub/b11.npy", "sub\\b11.npy", ".b11.npy"]
ELSEWHERE += [
    "C:b11.npy",
    "b11.npy\n",
    "b11.npy\0",
    "",
    "b11.json",
    "s3://x.npy",
    "b" * 300 + ".npy",
    "~/b.npy",
]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("where", [("centroids",), ("projection", "mean"), ("cells", "owners")])
def test_a_name_that_leads_elsewhere_is_refused(
    tmp_path: Path, name: str, where: tuple[str, ...]
) -> None:
    path = exported(tmp_path)
    (path.parent / "sub").mkdir()
    np.save(path.parent.parent / "b11.npy", WORDS)
    np.save(path.parent / "sub" / "b11.npy", WORDS)

    def change(value: dict[str, Any]) -> None:
        for part in where:
            value = value[part]
        value["name"] = name

    edit(path, change)
    assert f"{'.'.join(where)}.name: " in refusal(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", "[" * 50_000, '{"a":' * 50_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b11.json"
    path.write_bytes(text.encode("latin-1"))
    assert "describes no vocabulary" in refusal(path)
    path.write_bytes(b" " * (LARGEST_JSON + 1))
    assert "has more than 1,048,576 bytes" in refusal(path)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = exported(tmp_path)
    wrong = WORDS.copy()
    wrong[41, 3] = np.inf
    resaved(path, wrong)
    assert "row 41 is not" in refusal(path)
    resaved(path, WORDS)
    for name, part, entry, said in (
        ("projection-matrix", ("projection", "matrix"), np.nan, "finite"),
        ("cell-centres", ("cells", "centres"), np.nan, "finite"),
        ("cell-owners", ("cells", "owners"), 19, "one of 19 cells; it names cell 19"),
    ):
        array = path.parent / f"b11.{name}.npy"
        kept, numbers = array.read_bytes(), np.load(array)
        numbers[3] = entry
        np.save(array, numbers)
        before = path.read_bytes()
        edit(path, partial(name_anew, part, array))
        assert said in refusal(path)
        array.write_bytes(kept)
        path.write_bytes(before)
    read_exchanged(path)


def test_any_changed_byte_of_the_json_is_refused_or_changes_no_word(tmp_path: Path) -> None:
    path = exported(tmp_path)
    draw, whole = np.random.default_rng(5), path.read_bytes()
    for _ in range(300):
        changed = bytearray(whole)
        changed[draw.integers(len(whole))] = draw.integers(256)
        path.write_bytes(changed)
        try:
            read = read_exchanged(path)
        except InputError:
            refusal(path)
        else:
            assert read.centroids.tobytes() == WORDS.tobytes()
            assert read.recipe_digest == recipe_digest(extraction(), "b11")
