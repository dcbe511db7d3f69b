"""An index of vectors without any picture, and plans of given vectors."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lamella as api
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.indexing import prepare
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.jobs.vectors import check_believed
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.job import VectorSettings
from lamella.schemas.snapshot import IndexSnapshot
from tests import reference
from tests.builders import counted_creates
from tests.command_line import complaint, lamella
from tests.pipeline.corpus.vectors import FORMATS, parquet
from tests.tiny import tiny_pictures

COUNT = 60
NAMES = tuple(f"dir/{number:02d}" for number in range(COUNT))
VECTORS: NDArray[np.float32] = (
    np.random.default_rng(5).standard_normal((COUNT, 12)).astype(np.float32)
)
SERIAL = ("--engine", "serial")


def index(store: Path, *files: Path, **settings: Any) -> api.Index:
    vectors = {file.parent.name if n else "clip": file for n, file in enumerate(files)}
    return api.index(None, into=store, vectors=vectors, settings=settings)


def snapshot_of(store: Path) -> IndexSnapshot:
    found = current_snapshot(open_store(str(store)))
    assert found is not None
    return found


def vectors_of(opened: api.Index, layer: str = "clip") -> dict[str, bytes]:
    table, images = opened.vectors(layer), opened.images()
    names = dict(zip(images["image_id"].to_pylist(), images["name"].to_pylist(), strict=True))
    found = np.array(table["vector"].to_pylist(), np.float32)
    pairs = zip(table["image_id"].to_pylist(), found, strict=True)
    return {names[image_id]: vector.tobytes() for image_id, vector in pairs}


def rows(vectors: NDArray[Any]) -> dict[str, bytes]:
    pairs = zip(NAMES, vectors.astype(np.float32), strict=True)
    return {name: row.tobytes() for name, row in pairs}


@pytest.mark.parametrize("write", FORMATS)
def test_vectors_of_every_format_come_back_bit_for_bit(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    half = VECTORS.astype(np.float16)
    with index(tmp_path / "store", write(tmp_path, NAMES, half)) as opened:
        assert len(opened) == COUNT
        assert vectors_of(opened) == rows(half)
    assert snapshot_of(tmp_path / "store").kind == "vectors"


def test_answers_are_those_of_all_cosines_and_certified(tmp_path: Path) -> None:
    with index(tmp_path / "store", parquet(tmp_path, NAMES, VECTORS)) as opened:
        asked = np.random.default_rng(6).standard_normal((5, 12))
        found = opened.query(vectors={"clip": asked}, k=COUNT)
        images = opened.images()
    ids = dict(zip(images["name"].to_pylist(), images["image_id"].to_pylist(), strict=True))
    by_id = {ids[name]: vector for name, vector in zip(NAMES, VECTORS, strict=True)}
    for row, query in enumerate(asked.astype(np.float32)):
        values = [reference.cosine_of_vectors(query, by_id[each]) for each in sorted(by_id)]
        expected = reference.ranking(sorted(by_id), values, COUNT)
        assert found.ids[row].tolist() == [image_id for image_id, _ in expected]
        assert found.scores[row] == pytest.approx([value for _, value in expected], abs=1e-12)
    assert found.certified.all()


def test_several_files_are_joined_by_the_names_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "dino").mkdir()
    first = parquet(tmp_path, NAMES, VECTORS)
    other = parquet(tmp_path / "dino", [*NAMES[1:][::-1], "gone"], VECTORS[::-1, :4])
    with index(tmp_path / "store", first, other) as opened:
        assert opened.layers == ("clip", "dino")
        wanted = rows(VECTORS[:, :4])
        del wanted[NAMES[0]]
        assert vectors_of(opened, "dino") == wanted
        assert opened.snapshot.refused_by_reason == {"no-vector": 1}
        assert opened.query(vectors={"clip": first, "dino": other}, k=1).refused.keys() == {0}


def test_no_format_order_or_worker_changes_a_byte(tmp_path: Path) -> None:
    digests = set()
    for number, write in enumerate(FORMATS[:4]):
        (tmp_path / f"{number}").mkdir()
        order = np.random.default_rng(number).permutation(COUNT)
        path = write(tmp_path / f"{number}", [NAMES[row] for row in order], VECTORS[order])
        digests.add(index(tmp_path / f"store{number}", path).snapshot.root_digest)
    assert len(digests) == 1


def test_a_file_that_grows_costs_what_is_new(tmp_path: Path) -> None:
    store, path = tmp_path / "store", parquet(tmp_path, NAMES[:50], VECTORS[:50])
    settings = {"corpus.shard_images": 8, "index.segment_images": 16}
    first = index(store, path, **settings).snapshot
    (tmp_path / "whole").mkdir()
    changed = VECTORS.copy()
    changed[7] *= -1
    parquet(tmp_path, NAMES, changed)
    with counted_creates() as created:
        said = lamella("reindex", store, *SERIAL, "--json")
    assert said.returncode == 0, said.stderr
    again = snapshot_of(store)
    shards = [each for each in created if each.startswith("activations/") and "/done/" in each]
    assert (again.number, again.indexed) == (first.number + 1, 60)
    assert 1 <= len(shards) < len(list(store.glob("activations/*/done/*.json")))
    path = tmp_path / "x.parquet"
    anew = index(tmp_path / "whole" / "store", path, **settings).snapshot
    assert anew.root_digest == again.root_digest
    with api.open(store) as opened:
        assert vectors_of(opened) == rows(changed)


def test_what_cannot_be_compared_is_refused_and_the_rest_is_there(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[0], vectors[1, 3] = 0, np.inf
    said = lamella(
        *("index", "--vectors", f"clip={parquet(tmp_path, NAMES, vectors)}", *SERIAL),
        *("--into", tmp_path / "store"),
    )
    assert said.returncode == 0, said.stderr
    assert "note: clip: " in said.stderr
    assert "60 vectors of 12 numbers" in said.stderr
    assert "2 not finite, or all zeros" in said.stderr
    made = snapshot_of(tmp_path / "store")
    assert (made.indexed, made.refused_by_reason) == (58, {"bad-vector": 2})
    lost = lamella("query", tmp_path / "store", "--names", NAMES[0], *SERIAL)
    assert lost.returncode == 2


def test_a_store_of_vectors_is_verified_repaired_and_forgotten_from(tmp_path: Path) -> None:
    path, store = parquet(tmp_path, NAMES, VECTORS), tmp_path / "store"
    before = index(store, path).snapshot
    opened = open_store(str(store))
    assert verify_store(opened).damage == ()
    for kind in ("looks/*/images/*", "activations/*/clip/*"):
        for lost in store.glob(kind):
            lost.unlink()
        assert verify_store(opened).damage
        assert repair_store(opened, SerialRunner(), threads=1).after == ()
    assert snapshot_of(store).root_digest == before.root_digest
    assert lamella("retry", store, *SERIAL).returncode == 0
    assert "another try helps no picture that is" in complaint(
        lamella("retry", store, "--state", "no-vector")
    )
    forget_picture(
        *(opened, SerialRunner()), by="name", value=NAMES[3], reason="asked to", threads=1
    )
    with api.open(store) as after:
        assert vectors_of(after).keys() == set(NAMES) - {NAMES[3]}
    compared = lamella("compare", store, store, *SERIAL, "--json")
    assert compared.returncode == 0, compared.stderr


def test_pictures_cannot_be_asked_or_shown_and_the_message_says_what_can(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with index(store, parquet(tmp_path, NAMES, VECTORS)) as opened:
        pictures = tiny_pictures(tmp_path / "pictures", 1, broken=0)
        with pytest.raises(InputError, match=r"ask by indexed pictures .* or by vectors alone"):
            opened.query(pictures / "00.png")
        assert opened.explain(NAMES[0], NAMES[1]).ranks
        assert opened.query(names=NAMES[5], k=1).names[0, 0] == NAMES[5]
    page = tmp_path / "page.html"
    said = lamella("explain", store, NAMES[0], NAMES[1], "--page", page)
    assert said.returncode == 0, said.stderr
    assert page.exists()
    wrong = lamella("reindex", store, "--pictures", pictures, *SERIAL)
    assert "is an index of vectors alone" in complaint(wrong)


def test_a_store_in_s3_is_not_believed_where_vectors_lie_on_this_machine() -> None:
    said = [VectorSettings(name="clip", file="/home/me/my clip.npy")]
    with pytest.raises(InputError, match=r"not believed that: .* --vectors 'clip=/home/me/my cli"):
        check_believed("s3://bucket/index", said, [])
    check_believed("s3://bucket/index", said, ["clip"])
    check_believed("/data/index", said, [])


def test_what_an_index_of_vectors_cannot_be_made_of_is_told(tmp_path: Path) -> None:
    path = parquet(tmp_path, NAMES, VECTORS)
    with pytest.raises(InputError, match="give SOURCE or --vectors"):
        prepare(None, load_job(None))
    vectors = [{"name": "clip", "file": str(path)}]
    with pytest.raises(InputError, match=r"layer 'head' is of a network, .* given are clip"):
        prepare(None, load_job(None, {"vectors": vectors, "network.layers": ["clip", "head"]}))
    with pytest.raises(InputError, match=r"weights /w\.pth are those of a network"):
        prepare(None, load_job(None, {"vectors": vectors, "network.weights": "/w.pth"}))
    into = ("--into", tmp_path / "store", *SERIAL)
    assert "give SOURCE or --vectors" in complaint(lamella("index", *into))
    for said in ("a b=x.parquet", "=x.parquet", "x y.parquet", "clip="):
        told = complaint(lamella("index", "--vectors", said, *into))
        assert "--vectors takes NAME=FILE" in told
    told = complaint(lamella("index", "--vectors", "clip=/nowhere.parquet", *into))
    assert "there is no file of vectors /nowhere.parquet" in told
    assert not (tmp_path / "store").exists()


def test_no_network_is_imported_for_vectors_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path, NAMES, VECTORS)
    code = f"""
import sys, lamella
opened = lamella.index(None, into={str(tmp_path / "store")!r}, vectors={{"clip": {str(path)!r}}})
print(opened.query(names="dir/07", k=1).names[0, 0], "torch" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert said.stdout.split() == ["dir/07", "False"], said.stderr


@pytest.mark.parametrize("alone", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_plan_counts_given_layers(alone: bool, tmp_path: Path) -> None:
    names = NAMES if alone else tuple(f"{row:02d}.png" for row in range(6))
    path = parquet(tmp_path, names, VECTORS[: len(names)])
    source = () if alone else (tiny_pictures(tmp_path / "pictures", 6, broken=0),)
    said = lamella(
        *("plan", *source, "--vectors", f"clip={path}", "--words", 12, *SERIAL),
        *("--sample", 4, "--json"),
    )
    assert said.returncode == 0, said.stderr
    plan = json.loads(said.stdout)
    size = {each["kind"]: each["size_bytes"]["mean"] for each in plan["stored"]}
    assert size["activations clip"] == pytest.approx(len(names) * 12 * 4)
    assert plan["fits"]
