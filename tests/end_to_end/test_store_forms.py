"""A right SHA-256 is no right form: files that were sealed wrong are refused, each by its name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.errors import CorruptFile, LamellaError
from lamella.pipeline.index.files import read_dense, read_image_ids, write_dense, write_postings
from lamella.pipeline.index.postings import Postings
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import write_arrow, write_parquet
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.corpus import IMAGES
from lamella.schemas.files import DoneRecord
from tests.end_to_end.commands import COMMANDS, Stores, current
from tests.fuzz.sealing import Forger
from tests.tiny import tiny_index


@pytest.fixture
def store(stores: Stores, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores.one, tmp_path / "store"))


def forge(store: Path, pattern: str, write: Callable[[Path], Any]) -> str:
    """Write a file anew, and seal the store again; return its path in the store."""
    path = sorted(store.glob(pattern))[0]
    name = path.relative_to(store).as_posix()
    forger = Forger(store)
    write(path)
    forger.put(name, path.read_bytes())
    forger.seal()
    return name


def rows(*values: int) -> Callable[[Path], Any]:
    """Return what writes posting lists of 12 words, of which the first has these rows."""
    offsets = np.array([0, *[len(values)] * 12], np.int64)
    lists = Postings(offsets, np.array(values, np.uint32), np.ones(len(values), np.uint8))
    return lambda path: write_postings(lists, path)


def table(**columns: Any) -> Callable[[Path], Any]:
    return lambda path: write_arrow(pa.table(columns), path)


def members(*image_ids: int, shard: int = 0, first_row: int = 0) -> Callable[[Path], Any]:
    """Return what writes a segment's list of images."""
    count = len(image_ids)
    numbers = {"shard": [shard] * count, "row": range(first_row, first_row + count)}
    columns = {name: pa.array(numbers[name], pa.int32()) for name in numbers}
    return table(image_id=pa.array(image_ids, pa.int64()), **columns)


def image_rows(**changes: Any) -> Callable[[Path], Any]:
    known: dict[str, Any] = dict.fromkeys(IMAGES.names) | {
        "image_id": 7,
        "name": "00.png",
        "container": "",
        "offset": 0,
        "sha256": bytes(32),
        "width": 40,
        "height": 40,
        "detail": "",
    }
    rows = [known | {"name": f"{number}.png"} | changes for number in range(4)]
    return lambda path: write_parquet(pa.Table.from_pylist(rows, schema=IMAGES), path)


SEGMENTS = {
    "rows that do not rise": ("p15/{first}.*.postings.arrow", rows(2, 1), "must rise"),
    "rows of no image": ("p15/{first}.*.postings.arrow", rows(0, 4_000_000_000), "end at"),
    "fewer postings": ("p15/{first}.*.postings.arrow", rows(0), "postings for"),
    "ids that fall": ("images/{first}.*.arrow", members(3, 2, 1, 0), "must rise"),
    "more ids": ("images/{first}.*.arrow", members(0, 1, 2, 3, 10**9), "the snapshot says"),
    "other columns": ("images/{first}.*.arrow", table(image_id=[0.0, 1.0, 2.0]), "image_id double"),
    "no arrow file": (
        "head/{first}.*.dense.arrow",
        lambda path: path.write_bytes(b"x" * 999),
        "no Arrow",
    ),
    "an empty file": (
        "head/{first}.*.sketch.arrow",
        lambda path: path.write_bytes(b""),
        "sketch.arrow",
    ),
}


@pytest.mark.parametrize("kind", SEGMENTS)
def test_a_segment_that_was_sealed_wrong_is_not_searched(
    kind: str, stores: Stores, store: Path
) -> None:
    pattern, write, said = SEGMENTS[kind]
    first = current(store).segments[0]
    assert first.images == 4
    forge(store, f"segments/*/{pattern.format(first=first.key)}", write)
    with pytest.raises(CorruptFile, match=said) as caught:
        COMMANDS["query ids"].run(stores, store)
    assert "\n" not in str(caught.value)


TABLES = {
    "images of no shard": ({"shard": 9}, "names a shard that segment"),
    "rows of no image": ({"first_row": 3}, "names a row that its shard"),
    "rows of other images": ({}, "has other images than its segment says"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_segment_that_misplaces_its_images_names_none(kind: str, store: Path) -> None:
    changes, said = TABLES[kind]
    snapshot = current(store)
    path = snapshot.segments[0].files["images"].path
    ids = read_image_ids(store / path).tolist()
    forge(store, path, members(*ids, **changes))
    with pytest.raises(CorruptFile, match=said):
        ImageTable(LocalStore(store), current(store)).names_of(ids)
    with pytest.raises(CorruptFile, match=said):
        [ImageTable(LocalStore(store), current(store)).row(image_id) for image_id in ids]


def not_finite(path: Path) -> None:
    """Put a number that is none into the first vector, behind its norm, which stays."""
    ids, vectors, norms = read_dense(path)
    wrong = vectors.copy()
    wrong[0, 0] = np.nan
    write_dense(ids, wrong, norms, path)


OTHERS = {
    "frequencies below 0": (
        "totals/*/p15/*.arrow",
        table(document_frequency=np.array([-1, 0, 1, 2])),
        "query ids",
    ),
    "fewer pictures": (
        "looks/*/images/*",
        lambda path: write_parquet(IMAGES.empty_table(), path),
        "query ids",
    ),
    "centroids that are none": (
        "vocabularies/*/*/rounds/00002.????????????.arrow",
        table(centroid=pa.FixedSizeListArray.from_arrays(pa.array([np.nan] * 8, pa.float32()), 2)),
        "query pictures",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_else_was_sealed_wrong_is_named(kind: str, stores: Stores, store: Path) -> None:
    pattern, write, command = OTHERS[kind]
    name = forge(store, pattern, write)
    with pytest.raises(LamellaError, match=name.rpartition("/")[2].replace(".", r"\.")) as caught:
        COMMANDS[command].run(stores, store)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": None}, "a picture that is not refused has no width"),
        ({"sha256": None}, "a picture that is not refused has no sha256"),
        ({"height": 0}, "height of a picture is below 1"),
        ({"offset": -1}, "offset of a picture is below 0"),
        ({"refusal": "bad"}, "'bad' is no reason for a refusal"),
    ],
)
def test_an_image_table_with_rows_of_no_picture_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    image_rows(**changes)(tmp_path / "images")
    with pytest.raises(ValueError, match=said):
        read_images(tmp_path / "images")
    image_rows()(tmp_path / "images")
    assert read_images(tmp_path / "images").num_rows == 4


@pytest.mark.parametrize("command", ["query ids", "evaluate"])
def test_a_vector_that_is_no_vector_asks_nothing(command: str, stores: Stores, store: Path) -> None:
    forge(store, "segments/*/head/*.dense.arrow", not_finite)
    with pytest.raises(
        CorruptFile, match=r"image \d+ has a vector in layer head that is not finite"
    ):
        COMMANDS[command].run(stores, store)


@pytest.mark.parametrize(("part", "name"), [("files", "refusals"), ("counts", "indexed")])
def test_a_record_that_lacks_what_its_step_writes_is_damaged(
    stores: Stores, store: Path, part: str, name: str
) -> None:
    path = sorted(store.glob("activations/*/done/*.json"))[0]
    kept = DoneRecord.from_json(path.read_bytes())
    less = {key: value for key, value in getattr(kept, part).items() if key != name}
    path.write_bytes(kept.model_copy(update={part: less}).to_json())
    (damage, *_) = verify_store(LocalStore(store)).damage
    assert damage.problem == f"has no {part[:-1]} {name!r}, which every record of extract has"
    with pytest.raises(CorruptFile, match=f"has no {part[:-1]} {name!r}"):
        tiny_index(store, stores.pictures)
