"""Every export is opened by the library that it is for: all rows, bit by bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import lamella
from lamella.pipeline.export.formats import Format
from lamella.pipeline.export.write import Wanted, export_layers
from lamella.pipeline.index.publish import read_weights
from lamella.pipeline.store.local import LocalStore
from tests.pipeline.export.copied import Copied


class Held:
    """What an index holds, by its own door, in the order of ids."""

    def __init__(self, index: lamella.Index) -> None:
        table = index.vectors("head").sort_by("image_id")
        self.ids: list[int] = table["image_id"].to_pylist()
        self.vectors = np.array(table["vector"].to_pylist(), np.float32)
        images = index.images()
        names = dict(zip(images["image_id"].to_pylist(), images["name"].to_pylist(), strict=True))
        self.names = [names[image_id] for image_id in self.ids]
        self.bags = index.bags("p15").sort_by("image_id").to_pylist()


@pytest.fixture(scope="module")
def held(copied: Copied) -> Held:
    with lamella.open(copied.cut) as index:
        return Held(index)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export of the layer `head` in each format that any one asks for."""
    return tmp_path_factory.mktemp("elsewhere")


def exported(copied: Copied, folder: Path, format: Format, **more: Any) -> Path:
    target = folder / "-".join([format, *more])
    if not target.exists():
        wanted = Wanted(("head",), format, **more)
        export_layers(LocalStore(copied.cut), copied.snapshot_cut, target, wanted)
    return target


def same(held: Held, ids: list[int], names: list[str], vectors: NDArray[Any]) -> None:
    assert ids == held.ids
    assert names == held.names
    assert vectors.dtype == np.float32
    assert vectors.tobytes() == held.vectors.tobytes()


def test_pandas_reads_parquet(copied: Copied, folder: Path, held: Held) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(exported(copied, folder, "parquet") / "head.parquet")
    assert list(frame.columns) == ["image_id", "name", "vector"]
    assert frame["image_id"].dtype == np.int64
    same(held, frame["image_id"].tolist(), frame["name"].tolist(), np.stack(frame["vector"]))


def test_polars_reads_parquet_and_arrow(copied: Copied, folder: Path, held: Held) -> None:
    polars = pytest.importorskip("polars")
    for frame in (
        polars.read_parquet(exported(copied, folder, "parquet") / "head.parquet"),
        polars.read_ipc(exported(copied, folder, "arrow") / "head.arrow"),
    ):
        assert frame.schema["vector"] == polars.Array(polars.Float32, 1280)
        vectors = frame["vector"].to_numpy()
        same(held, frame["image_id"].to_list(), frame["name"].to_list(), vectors)


def test_duckdb_reads_parquet(copied: Copied, folder: Path, held: Held) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = exported(copied, folder, "parquet") / "head.parquet"
    with duckdb.connect() as connection:
        query = f"SELECT image_id, name, vector FROM '{path}' ORDER BY image_id"
        ids, names, vectors = zip(*connection.sql(query).fetchall(), strict=True)
    same(held, list(ids), list(names), np.array(vectors, np.float32))


def test_hugging_face_datasets_reads_parquet(
    copied: Copied, folder: Path, held: Held, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    path = exported(copied, folder, "parquet") / "head.parquet"
    found = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    ).with_format("numpy")
    same(held, found["image_id"][:].tolist(), list(found["name"][:]), found["vector"][:])


def test_pyarrow_reads_parquet_and_arrow(copied: Copied, folder: Path, held: Held) -> None:
    parquet = pq.read_table(exported(copied, folder, "parquet") / "head.parquet")
    with pa.memory_map(str(exported(copied, folder, "arrow") / "head.arrow")) as source:
        arrow = pa.ipc.open_file(source).read_all()
        assert arrow.equals(parquet)
    assert parquet.schema.field("vector").type.list_size == 1280
    vectors = parquet["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 1280)
    same(held, parquet["image_id"].to_pylist(), parquet["name"].to_pylist(), vectors)


def test_numpy_reads_npy_and_names_stand_in_lines(copied: Copied, folder: Path, held: Held) -> None:
    target = exported(copied, folder, "npy")
    vectors = np.load(target / "head.npy", mmap_mode="r", allow_pickle=False)
    names = (target / "names.txt").read_text(encoding="utf-8").split("\n")
    assert names.pop() == ""
    same(held, np.load(target / "ids.npy").tolist(), names, vectors)


def test_faiss_reads_its_index_and_finds_each_image_by_its_id(
    copied: Copied, folder: Path, held: Held
) -> None:
    faiss = pytest.importorskip("faiss")
    target = exported(copied, folder, "faiss")
    index = faiss.read_index(str(target / "head.faiss"))
    assert (index.ntotal, index.d, index.metric_type) == (
        len(held.ids),
        1280,
        faiss.METRIC_INNER_PRODUCT,
    )
    lengths = np.linalg.norm(held.vectors.astype(np.float64), axis=1)[:, None]
    units = (held.vectors / lengths).astype(np.float32)
    back = np.stack([index.reconstruct(image_id) for image_id in held.ids])
    np.testing.assert_allclose(back, units, rtol=2e-7)
    products, found = index.search(units, 1)
    np.testing.assert_allclose(products, 1.0, atol=1e-5)
    for image_id, best in zip(held.ids, found[:, 0].tolist(), strict=True):
        like = held.vectors[held.ids.index(best)]
        assert np.array_equal(like, held.vectors[held.ids.index(image_id)])  # it, or a copy
    names = pq.read_table(target / "names.parquet")
    assert names.to_pydict() == {"image_id": held.ids, "name": held.names}


def test_lance_reads_its_data_set(copied: Copied, folder: Path, held: Held) -> None:
    lance = pytest.importorskip("lance")
    table = lance.dataset(str(exported(copied, folder, "lance") / "head.lance")).to_table()
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 1280)
    same(held, table["image_id"].to_pylist(), table["name"].to_pylist(), vectors)


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_unit_vectors_are_those_of_float64_rounded(
    copied: Copied, folder: Path, held: Held, format: Format
) -> None:
    target = exported(copied, folder, format, unit=True)
    if format == "npy":
        found = np.load(target / "head.npy")
    else:
        table = pq.read_table(target / "head.parquet")
        found = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 1280)
    wide = held.vectors.astype(np.float64)
    right = (wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))).astype(np.float32)
    np.testing.assert_allclose(found, right, rtol=1.2e-7)  # a last bit of the length in float64


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_scipy_reads_words_by_images(
    copied: Copied, tmp_path: Path, held: Held, weighted: bool, unit: bool
) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    store, snapshot = LocalStore(copied.cut), copied.snapshot_cut
    facts = export_layers(
        store, snapshot, tmp_path / "out", Wanted(("p15",), weighted=weighted, unit=unit)
    )
    matrix = sparse.load_npz(tmp_path / "out/p15.npz")
    assert matrix.format == "csr"
    matrix.check_format(full_check=True)
    assert matrix.has_canonical_format
    words = snapshot.vocabularies["p15"].words
    assert list(matrix.shape) == [len(held.ids), words] == facts["layers"][0]["shape"]
    weights = read_weights(store, snapshot.document_frequencies, len(held.ids), "tf-idf")["p15"]
    right = np.zeros(matrix.shape, np.float64 if weighted or unit else np.uint32)
    for row, bag in zip(right, held.bags, strict=True):
        row[bag["words"]] = bag["counts"]
        if weighted:
            row *= weights
        if unit:
            row /= np.sqrt((row * row).sum()) or 1.0
    assert matrix.dtype == right.dtype == facts["layers"][0]["dtype"]
    if unit:
        np.testing.assert_allclose(matrix.toarray(), right, rtol=1e-12)
    else:
        assert np.array_equal(matrix.toarray(), right)
    frequencies = np.array(
        [sum(word in bag["words"] for bag in held.bags) for word in range(words)]
    )
    idf = np.log(len(held.ids) / np.maximum(frequencies, 1)) * (frequencies > 0)
    np.testing.assert_allclose(np.load(tmp_path / "out/p15.idf.npy"), idf, rtol=1e-12)
    names = pq.read_table(tmp_path / "out/names.parquet")
    assert names["image_id"].to_pylist() == held.ids


def test_the_layout_of_the_matrix_is_what_scipy_itself_writes(
    copied: Copied, tmp_path: Path
) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    export_layers(LocalStore(copied.cut), copied.snapshot_cut, tmp_path / "out", Wanted(("p15",)))
    matrix = sparse.load_npz(tmp_path / "out/p15.npz")
    sparse.save_npz(tmp_path / "again.npz", matrix, compressed=False)
    with np.load(tmp_path / "out/p15.npz") as ours, np.load(tmp_path / "again.npz") as theirs:
        assert set(ours) == {"indices", "indptr", "format", "shape", "data"} <= set(theirs)
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype, name
            assert np.array_equal(ours[name], theirs[name]), name
