"""What is exported where: whole or not at all, the same bytes for any cut, and wrong calls."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.errors import CorruptFile, DoesNotFit, InputError, UnknownLayer
from lamella.pipeline.export import layers as layers_module
from lamella.pipeline.export import vectors as vectors_module
from lamella.pipeline.export.formats import FORMATS
from lamella.pipeline.export.layers import Vectors
from lamella.pipeline.export.write import Wanted, export_layers
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.snapshot import IndexSnapshot
from tests.pipeline.export.copied import Copied


def export(copied: Copied, target: Path, *layers: str, **more: Any) -> dict[str, Any]:
    """Export the store of nine segments."""
    wanted = Wanted(layers, **more)
    return export_layers(LocalStore(copied.cut), copied.snapshot_cut, target, wanted)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("format", [each for each in FORMATS if each != "lance"])
def test_the_same_bytes_however_the_index_is_cut(
    copied: Copied, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 7 and 5 of 25 images end within segments of 3, and of 1,000."""
    monkeypatch.setattr(layers_module, "BATCH_BYTES", 7 * 4 * 1280)
    monkeypatch.setattr(layers_module, "BATCH_BAGS", 5)
    wanted = Wanted(format=format, weighted=True, clusters=4)  # type: ignore[arg-type]
    found = []
    for store, snapshot in (
        (copied.whole, copied.snapshot),
        (copied.cut, copied.snapshot_cut),
    ):
        same: IndexSnapshot = snapshot.model_copy(
            update={"root_digest": "0" * 64, "number": 1}  # the cut is part of what it digests
        )
        target = tmp_path / store.name
        export_layers(LocalStore(store), same, target, wanted)
        found.append(contents(target))
    assert found[0].keys() == found[1].keys()
    assert found[0] == found[1]


def test_an_export_says_what_it_is_and_how_to_open_it(copied: Copied, tmp_path: Path) -> None:
    stands: list[Progress] = []
    facts = export_layers(
        LocalStore(copied.cut), copied.snapshot_cut, tmp_path / "out", Wanted(), stands.append
    )
    assert json.loads((tmp_path / "out/export.json").read_text()) == facts
    assert facts["root_digest"] == copied.snapshot_cut.root_digest
    assert [each["name"] for each in facts["layers"]] == ["head", "p15"]
    assert facts["layers"][0]["shape"] == [facts["images"], 1280]
    said = (tmp_path / "out/README.md").read_text()
    for name, size in facts["files"].items():
        assert (tmp_path / "out" / name).stat().st_size == size
        assert name == "README.md" or name in said
    assert copied.snapshot_cut.root_digest in said
    ended = {each.stage for each in stands if each.done == each.total == facts["images"]}
    assert ended == {"export head", "export p15 words", "export p15 counts", "export names"}


def test_a_layer_is_meant_in_any_case_and_each_is_written_once(
    copied: Copied, tmp_path: Path
) -> None:
    facts = export(copied, tmp_path / "out", "HEAD", "head")
    assert set(facts["files"]) == {"head.parquet", "README.md"}


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_names(
    copied: Copied, tmp_path: Path
) -> None:
    with pytest.raises(UnknownLayer, match=r"no layer 'haed': it has head, p15: did you mean head"):
        export(copied, tmp_path / "out", "haed")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("layer", "more", "said"),
    [
        ("p15", {"format": "npy"}, "--format is a format of vectors, and p15 has words.*: head"),
        ("p15", {"clusters": 3}, "--clusters is for layers of vectors, and p15 has words.*: head"),
        ("head", {"weighted": True}, "--weighted is for layers of words, and head has.*: p15"),
        ("head", {"clusters": 26}, "26 clusters are asked for, and 25 images are indexed"),
    ],
)
def test_what_does_not_fit_a_layer_is_refused(
    copied: Copied, tmp_path: Path, layer: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        export(copied, tmp_path / "out", layer, **more)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_left_as_it_is(copied: Copied, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"goes into a folder, and .*/file is a file"):
        export(copied, tmp_path / "file")
    with pytest.raises(InputError, match=f"new or empty folder, and {tmp_path} holds 1 entries"):
        export(copied, tmp_path)
    with pytest.raises(InputError, match=r"no folder can be made in .*/file/in"):
        export(copied, tmp_path / "file" / "in" / "it")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export(copied, tmp_path / "empty", "head")
    assert (tmp_path / "empty/head.parquet").is_file()


def test_an_export_that_is_stopped_leaves_nothing(copied: Copied, tmp_path: Path) -> None:
    def stop(stand: Progress) -> None:
        if stand.stage == "export names":
            assert any(tmp_path.rglob("head.parquet"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_layers(LocalStore(copied.cut), copied.snapshot_cut, tmp_path / "out", Wanted(), stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "format", "clusters", "said"),
    [
        ("lance", "lance", None, "package lance, which is not installed .*pip install pylance"),
        ("faiss", "faiss", None, "package faiss, which is not installed .*'lamella.faiss.'"),
        ("faiss", "parquet", 3, "clusters need the package faiss, which is not installed"),
    ],
)
def test_a_package_that_is_not_there_is_named(
    copied: Copied, tmp_path: Path, module: str, format: Any, clusters: int | None, said: str
) -> None:
    with mock.patch.dict(sys.modules, {module: None}), pytest.raises(InputError, match=said):
        export(copied, tmp_path / "out", format=format, clusters=clusters)
    assert list(tmp_path.iterdir()) == []


def test_an_index_of_faiss_that_memory_cannot_hold_is_refused(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "available_memory", lambda: 100_000)
    with pytest.raises(DoesNotFit, match="that of head takes 128 kB, and 100 kB are free"):
        export(copied, tmp_path / "out", "head", format="faiss")


def test_a_name_with_a_line_break_stands_in_no_list_of_lines(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names_of(table: ImageTable, ids: Any) -> Any:
        return pa.array([f"a\n{image_id}" for image_id in ids])

    monkeypatch.setattr(ImageTable, "names_of", names_of)
    with pytest.raises(InputError, match=r"'a\\n\d+' has a line break: take --format parquet"):
        export(copied, tmp_path / "out", "head", format="npy")
    assert list(tmp_path.iterdir()) == []
    export(copied, tmp_path / "out", "head")
    names = pq.read_table(tmp_path / "out/head.parquet")["name"].to_pylist()
    assert names[0].startswith("a\n")


def test_two_files_of_one_name_are_refused(copied: Copied, tmp_path: Path) -> None:
    """A layer that is called `names`, as FAISS has ids alone, and words their rows."""
    spec = copied.snapshot_cut.extraction.layers[0]
    called = spec.model_copy(update={"name": "names"})
    other = copied.snapshot_cut.extraction.model_copy(
        update={"layers": (called, copied.snapshot_cut.extraction.layers[1])}
    )
    segments = tuple(
        segment.model_copy(
            update={
                "files": {
                    name.replace("head.", "names."): file for name, file in segment.files.items()
                }
            }
        )
        for segment in copied.snapshot_cut.segments
    )
    snapshot = copied.snapshot_cut.model_copy(update={"extraction": other, "segments": segments})
    with pytest.raises(InputError, match=r"would be called names\.parquet: export its layers one"):
        export_layers(LocalStore(copied.cut), snapshot, tmp_path / "out", Wanted())
    export_layers(LocalStore(copied.cut), snapshot, tmp_path / "out", Wanted(("names",)))


def test_vectors_that_are_not_finite_are_not_exported() -> None:
    vectors = np.ones((2, 3), np.float32)
    vectors[1, 2] = np.nan
    ids = np.array([4, 9], np.int64)
    layer = Vectors("head", 3, [(ids, vectors, np.ones(2))])
    with pytest.raises(CorruptFile, match="image 9 has a vector in layer head that is not finite"):
        list(layer.batches())


def test_a_vector_of_zeros_stays_one() -> None:
    layer = Vectors("head", 2, [(np.array([7]), np.zeros((1, 2), np.float32), np.zeros(1))])
    ((ids, vectors),) = layer.batches(unit=True)
    assert (ids.tolist(), vectors.tolist()) == ([7], [[0.0, 0.0]])
