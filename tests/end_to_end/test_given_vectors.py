"""Vectors that a user brings, beside pictures: a layer of their own in everything that follows."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

import lamella as api
from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.evaluate.truth import Box
from lamella.pipeline.extract import backbone
from lamella.pipeline.jobs.evaluating import question_features
from lamella.pipeline.jobs.indexing import index_prepared, prepare
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Step
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.job import JobConfig
from lamella.schemas.snapshot import IndexSnapshot
from tests.command_line import complaint, lamella
from tests.end_to_end.commands import tiny_runs
from tests.end_to_end.test_reference import check_rankings
from tests.pipeline.corpus.vectors import arrow_stream, npy, parquet
from tests.tiny import tiny_job, tiny_pictures

COUNT = 8
NAMES = tuple(f"{number:02d}.png" for number in range(COUNT))
VECTORS = np.random.default_rng(3).standard_normal((COUNT, 6)).astype(np.float32)
Numbers = NDArray[Any]


def no_network(*given: object) -> None:
    raise AssertionError("a picture goes through the network")


@dataclass
class World:
    """Eight pictures, a vector of each, and an index of both."""

    pictures: Path
    clip: Path
    store: Path
    snapshot: IndexSnapshot


def job_of(*files: tuple[str, Path], **settings: object) -> JobConfig:
    return tiny_job(vectors=[{"name": n, "file": str(f)} for n, f in files], **settings)


def index(
    store: Path,
    pictures: Path | None,
    *files: tuple[str, Path],
    runner: Any = None,
    notes: list[str] | None = None,
    **settings: object,
) -> IndexSnapshot:
    prepared = prepare(None if pictures is None else str(pictures), job_of(*files, **settings))
    watch = Watch(note=(notes if notes is not None else []).append)
    opened = open_store(str(store), create=True)
    return index_prepared(opened, runner or SerialRunner(), prepared, threads=1, watch=watch)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("given")
    pictures = tiny_pictures(folder / "pictures", COUNT, broken=0)
    clip = parquet(folder, NAMES, VECTORS)
    with tiny_runs():
        snapshot = index(folder / "store", pictures, ("clip", clip))
        yield World(pictures, clip, folder / "store", snapshot)


@pytest.fixture
def store(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.store, tmp_path / "store"))


def by_name(store: Path, layer: str = "clip") -> dict[str, bytes]:
    with api.open(store) as opened:
        table, images = opened.vectors(layer), opened.images()
    names = dict(zip(images["image_id"].to_pylist(), images["name"].to_pylist(), strict=True))
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    pairs = zip(table["image_id"].to_pylist(), vectors, strict=True)
    return {names[image_id]: vector.tobytes() for image_id, vector in pairs}


def rows(vectors: Numbers, names: Sequence[str] = NAMES) -> dict[str, bytes]:
    return {name: vector.tobytes() for name, vector in zip(names, vectors, strict=True)}


def test_a_given_layer_is_high_and_comes_back_bit_for_bit(world: World) -> None:
    layers = [layer.name for layer in world.snapshot.extraction.layers]
    assert layers == ["clip", "head", "p15"]
    assert [entry.layer for entry in world.snapshot.fusion.layers] == layers
    assert by_name(world.store) == rows(VECTORS)
    assert verify_store(open_store(str(world.store))).damage == ()


def test_given_vectors_and_layers_of_the_network_are_fused_as_the_reference_says(
    world: World, tmp_path: Path
) -> None:
    check_rankings(world.store, world.snapshot, 4, "tf-idf")
    other = parquet(tmp_path, NAMES, VECTORS[::-1, :3].astype(np.float64))
    two = index(tmp_path / "store", world.pictures, ("clip", world.clip), ("dino", other))
    assert [layer.name for layer in two.extraction.layers] == ["clip", "dino", "head", "p15"]
    check_rankings(tmp_path / "store", two, 4, "tf-idf")


@pytest.mark.parametrize("write", [parquet, arrow_stream, npy])
def test_the_order_of_rows_and_the_format_change_no_byte(
    write: Callable[..., Path], world: World, tmp_path: Path
) -> None:
    clip = write(tmp_path, NAMES[::-1], VECTORS[::-1])
    again = index(tmp_path / "store", world.pictures, ("clip", clip))
    assert again.root_digest == world.snapshot.root_digest


class Sending(SerialRunner):
    """Hands every task over as a worker elsewhere gets it, in the reverse order."""

    def run(self, step: Step[Any], tasks: Sequence[Any]) -> Iterator[Outcome]:
        yield from super().run(step, [pickle.loads(pickle.dumps(task)) for task in tasks[::-1]])


def test_workers_elsewhere_need_no_file_and_change_no_byte(world: World, tmp_path: Path) -> None:
    again = index(tmp_path / "store", world.pictures, ("clip", world.clip), runner=Sending())
    assert again.root_digest == world.snapshot.root_digest


def test_another_cut_gives_every_picture_the_same_vectors(world: World, tmp_path: Path) -> None:
    index(tmp_path / "store", world.pictures, ("clip", world.clip), corpus__shard_images=32)
    assert by_name(tmp_path / "store") == by_name(world.store)


@pytest.mark.parametrize("keep", ["all", "none"])
def test_when_only_vectors_change_no_picture_goes_through_the_network(
    keep: str, world: World, store: Path, tmp_path: Path
) -> None:
    other = parquet(tmp_path, NAMES, 2 - VECTORS)
    with mock.patch.object(backbone, "Backbone", no_network):
        settings: dict[str, Any] = {"activations__keep": keep} if keep == "all" else {}
        index(store, world.pictures, ("clip", other), **settings)
        assert by_name(store) == rows(2 - VECTORS)
        assert by_name(store, "head") == by_name(world.store, "head")
        index(store, world.pictures, ("clip", other), ("dino", world.clip), **settings)
        assert by_name(store, "dino") == rows(VECTORS)
        without = index(store, world.pictures, **settings)
    assert [layer.name for layer in without.extraction.layers] == ["head", "p15"]
    assert without.vocabularies["p15"].centroids == world.snapshot.vocabularies["p15"].centroids
    assert verify_store(open_store(str(store))).damage == ()


def test_a_night_reads_the_vectors_again_from_their_file(world: World, tmp_path: Path) -> None:
    pictures = Path(shutil.copytree(world.pictures, tmp_path / "pictures"))
    clip = parquet(tmp_path, NAMES[:6], VECTORS[:6])
    notes: list[str] = []
    first = index(tmp_path / "store", pictures, ("clip", clip), notes=notes)
    assert first.refused_by_reason == {"no-vector": 2}
    assert any("2 pictures of" in each and "'06.png', '07.png'" in each for each in notes)
    parquet(tmp_path, NAMES, VECTORS)
    opened = open_store(str(tmp_path / "store"))
    again = reindex(opened, SerialRunner(), threads=1, watch=Watch())
    assert (again.indexed, again.refused) == (8, 0)
    assert by_name(tmp_path / "store") == rows(VECTORS)
    moved = [{"name": "clip", "file": str(world.clip)}]
    clip.unlink()
    with pytest.raises(InputError, match="there is no file of vectors"):
        reindex(opened, SerialRunner(), threads=1, watch=Watch())
    with mock.patch.object(backbone, "Backbone", no_network):
        same = reindex(opened, SerialRunner(), threads=1, watch=Watch(), vectors=moved)
    assert same.root_digest == again.root_digest


def test_pictures_without_a_sound_vector_are_refused_and_told(world: World, tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[1], vectors[2, 0] = 0, np.nan
    clip = parquet(tmp_path, [*NAMES[:7], "gone.png"], vectors)
    notes: list[str] = []
    made = index(tmp_path / "store", world.pictures, ("clip", clip), notes=notes)
    assert made.refused_by_reason == {"bad-vector": 2, "no-vector": 1}
    assert (made.images, made.indexed) == (8, 5)
    assert any("2 not finite, or all zeros" in each for each in notes)
    assert any("1 name in" in each and "'gone.png'" in each for each in notes)
    with api.open(tmp_path / "store") as opened:
        images = {row["name"]: row for row in opened.images().to_pylist()}
    assert images["01.png"]["detail"] == "clip: it is all zeros"
    assert images["02.png"]["detail"] == "clip: 1 of its 6 numbers are not finite"
    assert images["07.png"]["refusal"] == "no-vector"
    status = json.loads(lamella("status", tmp_path / "store", "--json").stdout)
    assert status["corpora"][0]["states"] == {
        "indexed": 5,
        "refused: bad-vector": 2,
        "refused: no-vector": 1,
    }
    assert verify_store(open_store(str(tmp_path / "store"))).damage == ()


def test_too_many_pictures_without_a_vector_stop_a_job_before_the_network(
    world: World, tmp_path: Path
) -> None:
    clip = parquet(tmp_path, NAMES[:4], VECTORS[:4])
    with pytest.raises(InputError, match=r"4 of 8 pictures .* 50\.0%; the job allows 10\.0%: '04"):
        index(tmp_path / "store", world.pictures, ("clip", clip))
    vectors = VECTORS.copy()
    vectors[:4] = 0
    bad = parquet(tmp_path, NAMES, vectors)
    with pytest.raises(StageFailed, match=r"4 of 8 pictures were refused \(4 bad-vector\)"):
        index(tmp_path / "store", world.pictures, ("clip", bad))


def test_names_that_match_nothing_are_an_error_with_one_of_each_side(
    world: World, tmp_path: Path
) -> None:
    clip = parquet(tmp_path, [f"/home/me/{name}" for name in NAMES], VECTORS)
    said = r"none of the 8 names in .*: there it is '/home/me/00\.png', here '00\.png': write"
    with pytest.raises(InputError, match=said):
        index(tmp_path / "store", world.pictures, ("clip", clip))


def test_layers_stand_where_the_job_names_them(world: World, tmp_path: Path) -> None:
    dino = parquet(tmp_path, NAMES, VECTORS[:, :2])

    def layers(*named: Any) -> list[str]:
        files = ("clip", world.clip), ("dino", dino)
        prepared = prepare(str(world.pictures), job_of(*files, network__layers=list(named)))
        return [layer.name for layer in prepared.spec.layers]

    assert layers("head", "clip", "p15") == ["dino", "head", "clip", "p15"]
    assert layers("dino", "clip", "p15") == ["dino", "clip", "p15"]
    assert layers("clip") == ["dino", "clip"]
    with pytest.raises(InputError, match="layer clip is given by vectors, and takes no settings"):
        layers({"name": "clip", "pool": "average"})
    with pytest.raises(InputError, match=r"two of --vectors are called clip: name them"):
        prepare(str(world.pictures), job_of(("clip", world.clip), ("clip", dino)))
    with pytest.raises(InputError, match="each layer needs its own name; got head, head"):
        prepare(str(world.pictures), job_of(("head", world.clip)))


def test_pictures_with_given_layers_alone_need_no_network(world: World, tmp_path: Path) -> None:
    with mock.patch.object(backbone, "Backbone", no_network):
        made = index(
            tmp_path / "store", world.pictures, ("clip", world.clip), network__layers=["clip"]
        )
    assert (made.extraction.network, made.kind, made.indexed) == ("none", "folder", 8)
    with api.open(tmp_path / "store") as opened:
        assert opened.query(names="03.png", k=1).names[0, 0] == "03.png"
        with pytest.raises(InputError, match="no network sees pictures in this index"):
            opened.query(world.pictures / "03.png")


def test_a_picture_from_elsewhere_is_asked_with_vectors_or_without_the_layer(
    world: World, tmp_path: Path
) -> None:
    with api.open(world.store) as opened:
        named = opened.query(names=NAMES[2], k=8)
        picture = world.pictures / NAMES[2]
        with pytest.raises(InputError, match=r"\(--vectors clip=FILE\).*\(--layers head,p15\)"):
            opened.query(picture)
        assert opened.query(picture, layers=["head", "p15"]).names[0, 0] == NAMES[2]
        both = opened.query(picture, vectors={"clip": VECTORS[2:3]}, k=8)
        assert both.ids.tolist() == named.ids.tolist()
        assert both.scores.tobytes() == named.scores.tobytes()
        assert both.certified.all()
        alone = opened.query(vectors={"clip": VECTORS}, layers="clip", k=1)
        assert alone.names[:, 0].tolist() == list(NAMES)
        assert alone.queries == tuple(f"vector {row}" for row in range(8))
        bad = VECTORS.copy()
        bad[3], bad[5, 1] = 0, np.inf
        some = opened.query(vectors={"clip": bad}, layers="clip", k=1)
        assert {place: why.reason for place, why in some.refused.items()} == {
            3: "bad-vector",
            5: "bad-vector",
        }
        from_file = opened.query(vectors={"clip": world.clip}, layers="clip", k=1)
        assert from_file.queries == NAMES
        assert from_file.ids.tolist() == alone.ids.tolist()
        with pytest.raises(InputError, match="layer head is of the network, and no picture"):
            opened.query(vectors={"clip": VECTORS})
        with pytest.raises(InputError, match=r"vectors of layer clip have 6 numbers; .* have 5"):
            opened.query(picture, vectors={"clip": VECTORS[:1, :5]})
        with pytest.raises(InputError, match="which here are clip; got 'head'"):
            opened.query(picture, vectors={"head": VECTORS[:1]})
        with pytest.raises(InputError, match="layer clip has 8 rows for 1 queries"):
            opened.query(picture, vectors={"clip": VECTORS})
        with pytest.raises(InputError, match="got int64"):
            opened.query(vectors={"clip": np.zeros((1, 6), np.int64)}, layers="clip")
        with pytest.raises(InputError, match="beside names, and indexed images have those"):
            opened.query(names=NAMES[0], vectors={"clip": VECTORS[:1]})
        with pytest.raises(InputError, match="by the name of their layer"):
            opened.query(vectors=VECTORS)  # type: ignore[arg-type]


def test_features_of_pictures_have_no_given_vectors_and_those_of_images_do(world: World) -> None:
    with api.open(world.store) as opened:
        stored = opened.features(names=[NAMES[1]]).to_pylist()[0]
        seen = opened.features(world.pictures / NAMES[1]).to_pylist()[0]
    assert np.array(stored["clip.vector"], np.float32).tobytes() == VECTORS[1].tobytes()
    assert seen["clip.vector"] is None
    assert seen["head.vector"] == stored["head.vector"]


def test_a_result_is_explained_by_the_given_layer_too(world: World) -> None:
    with api.open(world.store) as opened:
        found = opened.explain(NAMES[0], NAMES[1])
        given = found.layers[0]
        with pytest.raises(InputError, match=r"a picture from elsewhere has none: leave"):
            opened.explain(world.pictures / NAMES[0], NAMES[1])
        assert opened.explain(world.pictures / NAMES[0], NAMES[1], layers="head").ranks
    one, two = VECTORS[0].astype(np.float64), VECTORS[1].astype(np.float64)
    cosine = max(0.0, one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert (given.layer, given.kind) == ("clip", "global")
    assert given.similarity == pytest.approx(cosine, abs=1e-12)


def test_a_part_of_a_picture_has_no_given_vector(world: World) -> None:
    opened = open_store(str(world.store))
    coordinator = Coordinator(
        LocalServers(SegmentSearcher(str(world.store), world.snapshot)), COUNT
    )
    place = Place(opened, world.snapshot, SerialRunner(), 1)
    box: Box = (0.0, 0.0, 20.0, 20.0)
    with pytest.raises(InputError, match=r"cut out by a box has none: .*\(--layers head,p15\)"):
        question_features(
            *(place, coordinator, coordinator.image_ids(), [(0, box)]),
            ["clip", "head", "p15"],
            None,
        )


def test_the_command_line_asks_by_vectors(world: World, tmp_path: Path) -> None:
    said = lamella("query", world.store, world.pictures / NAMES[4])
    assert "leave the layer out (--layers head,p15)" in complaint(said)
    out = tmp_path / "out.json"
    query = parquet(tmp_path, [*NAMES[:3], "zero.png"], np.vstack([VECTORS[:3], VECTORS[:1] * 0]))
    said = lamella(
        *("query", world.store, "--vectors", f"clip={query}", "--layers", "clip", "-k", 1),
        *("--out", out, "--json"),
    )
    assert said.returncode == 0, said.stderr
    best = {row["query_name"]: row["name"] for row in json.loads(out.read_text())["rankings"]}
    assert best == {name: name for name in NAMES[:3]}
    assert json.loads(said.stdout)["run"]["refused"] == 1
    said = lamella(
        *("query", world.store, world.pictures, "--vectors", f"clip={world.clip}", "-k", 1),
        *("--out", out, "--json"),
    )
    best = {row["query_name"]: row["name"] for row in json.loads(out.read_text())["rankings"]}
    assert best == {name: name for name in NAMES}
    ids = lamella("query", world.store, "--ids", "all", "--vectors", f"clip={world.clip}")
    assert "or is asked alone" in complaint(ids)
    other = lamella("query", world.store, "--vectors", f"other={world.clip}", "--layers", "clip")
    assert "which here are clip; got 'other'" in complaint(other)


def test_a_lost_file_of_vectors_is_made_again_while_the_source_is_there(
    world: World, store: Path, tmp_path: Path
) -> None:
    damaged = next(store.glob("activations/*/clip/*.parquet"))
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-8] + b"damaged!")
    opened = open_store(str(store))
    assert len(verify_store(opened).damage) == 1
    assert repair_store(opened, SerialRunner(), threads=1).after == ()
    assert [path.read_bytes() for path in store.glob("activations/*/clip/*.parquet")].count(data)
    assert by_name(store) == rows(VECTORS)


def test_a_repair_refuses_other_vectors_than_those_on_record(world: World, tmp_path: Path) -> None:
    clip = parquet(tmp_path, NAMES, VECTORS)
    index(tmp_path / "store", world.pictures, ("clip", clip))
    parquet(tmp_path, NAMES, VECTORS + 1)
    next((tmp_path / "store").glob("activations/*/clip/*.parquet")).unlink()
    opened = open_store(str(tmp_path / "store"))
    with pytest.raises(InputError, match=r"vectors of clip are not those .* put .* back as it was"):
        repair_store(opened, SerialRunner(), threads=1)
