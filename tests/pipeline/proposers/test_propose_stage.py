"""The propose stage from settings to snapshot: what it makes, keeps, mends and refuses."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

import lamella as api
from lamella.pipeline.errors import CorruptFile, IncompatibleInputs, InputError
from lamella.pipeline.index.files import read_dense
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.index.sketch import unit_rows
from lamella.pipeline.jobs.recorded import read_jobs
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.journey import Journey
from lamella.pipeline.proposers.library import check_proposer
from lamella.pipeline.proposers.opened import FaissProposer, open_frames, open_proposers
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.expire import expire_snapshot
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.sizes import store_sizes
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import counted_creates
from tests.pipeline.proposers.stored import COUNT, VECTORS, index, nearest, write_vectors

faiss = pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors and a store of them without proposers, with cells, and with graphs."""
    folder = tmp_path_factory.mktemp("proposed")
    file = write_vectors(folder)
    for proposer in ("none", "ivf", "hnsw"):
        index(folder / "store", file, proposer)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The store, to be damaged."""
    return Path(shutil.copytree(made / "store", tmp_path / "store"))


def snapshot_of(store: Path, number: int) -> IndexSnapshot:
    path = store / f"snapshots/{number:06d}.json"
    return IndexSnapshot.from_json(path.read_bytes())


def data_files(snapshot: IndexSnapshot) -> dict[str, str]:
    """Return the SHA-256 of each file of proposers, by segment and name, and of the frames."""
    held = {
        f"{segment.key} {name}": file.sha256
        for segment in snapshot.segments
        for name, file in segment.files.items()
        if name.endswith(".proposer")
    }
    assert snapshot.proposers is not None
    return held | {name: file.sha256 for name, file in snapshot.proposers.frames.items()}


def test_a_snapshot_names_the_proposers_of_its_segments(made: Path) -> None:
    none, cells, graphs = (snapshot_of(made / "store", number) for number in (1, 2, 3))
    assert none.proposers is None
    assert b"proposer" not in none.to_json()
    assert cells.proposers is not None
    assert graphs.proposers is not None
    # 2 sqrt(300) = 34.6
    assert (cells.proposers.kind, cells.proposers.cells) == ("ivf", 35)
    assert sorted(cells.proposers.frames) == ["clip.axes", "clip.centres"]
    assert (graphs.proposers.kind, graphs.proposers.cells) == ("hnsw", 0)
    assert sorted(graphs.proposers.frames) == ["clip.axes"]
    assert cells.proposers.faiss == faiss.__version__
    for snapshot in (cells, graphs):
        assert len(snapshot.segments) > 1
        for segment, plain in zip(snapshot.segments, none.segments, strict=True):
            assert segment.files.keys() - plain.files.keys() == {"clip.proposer"}
            assert segment.files["clip.proposer"].rows == segment.images
    assert len({none.root_digest, cells.root_digest, graphs.root_digest}) == 3


@pytest.mark.parametrize("number", [2, 3])
def test_opened_proposers_find_the_rows_of_their_segment(made: Path, number: int) -> None:
    store = open_store(str(made / "store"))
    snapshot = snapshot_of(made / "store", number)
    frames = open_frames(store, snapshot)
    for segment in snapshot.segments:
        proposer = open_proposers(store, snapshot, segment, frames)["clip"]
        _, vectors, norms = read_dense(open_committed(store, segment.files["clip.dense"]))
        units = unit_rows(vectors, norms)
        found = nearest(proposer, units, 5, 200)
        assert len(proposer) == len(units) == segment.images
        assert found.rows[:, 0].tolist() == list(range(segment.images))
        np.testing.assert_allclose(found.scores[:, 0], 1.0, atol=0.02)


@pytest.mark.parametrize("number", [2, 3])
def test_what_proposers_find_is_decided_exactly(made: Path, number: int) -> None:
    names = [f"{number:03d}" for number in range(0, COUNT, 7)]
    with api.open(made / "store", at=number) as opened:
        exact = opened.query(names=names, k=10)
        fast = opened.query(names=names, k=10, mode="candidates", recall=0.9)
        with pytest.raises(InputError, match="recall"):
            opened.query(names=names[0], recall=0.9)
    shared = [len(set(a) & set(b)) for a, b in zip(fast.ids, exact.ids, strict=True)]
    assert np.mean(shared) >= 8
    assert fast.names[:, 0].tolist() == names
    right = fast.ids == exact.ids
    assert (fast.scores[right] == exact.scores[right]).all()


def test_each_global_layer_has_a_frame_and_proposers_of_its_own(tmp_path: Path) -> None:
    other = write_vectors(tmp_path / "other", dimensions=4)
    made = index(tmp_path / "store", write_vectors(tmp_path), "ivf", dino=other)
    assert made.proposers is not None
    assert len(made.proposers.frames) == 4
    store = open_store(str(tmp_path / "store"))
    opened = open_proposers(store, made, made.segments[0])
    axes = {
        layer: proposer.ask(np.eye(1, width, dtype=np.float32), 3).turned.shape[1]
        for (layer, proposer), width in zip(opened.items(), (16, 4), strict=True)
    }
    assert axes == {"clip": 16, "dino": 4}
    assert verify_store(store).damage == ()


def test_another_proposer_makes_proposers_alone_and_the_same_bytes_again(
    made: Path, tmp_path: Path
) -> None:
    file = made / "clip.parquet"
    index(tmp_path / "store", file, "none")
    with counted_creates() as created:
        again = index(tmp_path / "store", file, "ivf")
    assert {name.split("/")[0] for name in created} == {
        *("jobs", "frames", "proposers", "reaches", "snapshots", "gates", "promotions")
    }
    first = snapshot_of(made / "store", 2)
    assert data_files(again) == data_files(first)
    assert again.root_digest == first.root_digest
    with counted_creates() as created:
        assert index(tmp_path / "store", file, "ivf").number == again.number
    assert created == []


def test_upkeep_knows_proposers(copy: Path) -> None:
    store = open_store(str(copy))
    found = verify_store(store)
    assert (found.damage, found.orphans, found.strangers) == ((), (), 0)
    assert collect_garbage(store, older_than_s=-1.0, forced=True).removed == ()
    held = sum(f.stat().st_size for f in copy.rglob("*") if f.is_file())
    assert store_sizes(store).total == held
    done = {each["folder"].split("/")[0]: each["done"] for each in store_status(store)["stages"]}
    assert done["proposers"] == len(snapshot_of(copy, 2).segments)
    for job in read_jobs(store).values():
        seen = Journey(store, job).look()
        assert seen.whole
        if job.faiss:
            paths = [p for top in ("frames", "proposers") for p in (copy / top).rglob("*.*")]
            mine = [p for p in paths if seen.may_hold(str(p.relative_to(copy)))]
            sizes = sum(path.stat().st_size for path in mine)
            assert seen.size_bytes(store)["propose"] == sizes > 0


@pytest.mark.parametrize(
    "pattern",
    [
        "proposers/ivf-*/clip/*.faiss",
        "proposers/hnsw-*/done/*.json",
        "frames/clip-*/*.centres.arrow",
        "frames/clip-*/done/frame.json",
    ],
)
def test_a_flipped_byte_is_found_and_mended(copy: Path, pattern: str) -> None:
    store, path = open_store(str(copy)), sorted(copy.glob(pattern))[0]
    before = {p: p.read_bytes() for p in copy.rglob("*.faiss")}
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    damage = verify_store(store).damage
    assert [each.path for each in damage] == [str(path.relative_to(copy))]
    mended = repair_store(store, SerialRunner(), threads=1)
    assert mended.after == ()
    assert mended.notes == ()
    assert {p: p.read_bytes() for p in before} == before
    assert verify_store(store).damage == ()


def test_what_an_expired_snapshot_had_alone_goes(copy: Path) -> None:
    store = open_store(str(copy))
    snapshot = snapshot_of(copy, 3)
    expire_snapshot(store, 2, "a test", forced=True)
    for path in (copy / "jobs").iterdir():
        if path.read_bytes() != (copy / snapshot.job).read_bytes():
            path.unlink()
    collect_garbage(store, older_than_s=-1.0, forced=True)
    left = {path.relative_to(copy / "proposers") for path in copy.rglob("*.faiss")}
    assert {path.parts[0].split("-")[0] for path in left} == {"hnsw"}
    open_proposers(store, snapshot, snapshot.segments[0])


def test_a_forgotten_picture_leaves_no_proposer_with_it(copy: Path) -> None:
    store, before = open_store(str(copy)), snapshot_of(copy, 3)
    forget_picture(store, SerialRunner(), by="name", value="005", reason="asked to", threads=1)
    after = current_snapshot(store)
    assert after is not None
    assert after.indexed == COUNT - 1
    left = {path.name.partition(".")[0] for path in copy.rglob("*.faiss")}
    assert left == {segment.key for segment in after.segments}
    assert {segment.key for segment in before.segments} - left
    assert verify_store(store).damage == ()
    # The frame was fitted to all pictures together, as words are.
    assert after.proposers is not None
    assert before.proposers is not None
    assert after.proposers.frames == before.proposers.frames


def test_without_proposers_there_are_none_to_open(made: Path) -> None:
    snapshot = snapshot_of(made / "store", 1)
    with pytest.raises(InputError, match=r"snapshot 1 was indexed without proposers.*ivf"):
        open_proposers(open_store(str(made / "store")), snapshot, snapshot.segments[0])


def test_a_proposer_of_another_kind_or_size_is_not_used(made: Path) -> None:
    store = open_store(str(made / "store"))
    cells, graphs = (snapshot_of(made / "store", number) for number in (2, 3))
    mine, other = cells.segments[0], graphs.segments[0]
    with pytest.raises(CorruptFile, match="has no proposer of layer clip"):
        open_proposers(store, cells, snapshot_of(made / "store", 1).segments[0])
    swapped = mine.model_copy(update={"files": other.files})
    with pytest.raises(CorruptFile, match="its class IndexHNSWSQ, IndexIVFScalarQuantizer wanted"):
        open_proposers(store, cells, swapped)
    fewer = mine.model_copy(update={"images": mine.images - 1})
    with pytest.raises(CorruptFile, match=f"its images {mine.images}, {mine.images - 1} wanted"):
        open_proposers(store, cells, fewer)
    frame = open_frames(store, cells)["clip"]
    less = {"clip": replace(frame, centres=frame.centres[1:])}
    with pytest.raises(CorruptFile, match="its cells 35, 34 wanted"):
        open_proposers(store, cells, mine, less)
    dense = mine.model_copy(
        update={"files": mine.files | {"clip.proposer": mine.files["clip.dense"]}}
    )
    with pytest.raises(CorruptFile, match=r"is not what it must be.*not recognized"):
        open_proposers(store, cells, dense)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="says what Linux has mapped")
def test_cells_stay_in_their_file_and_a_graph_does_not(made: Path) -> None:
    for number, mapped in ((2, True), (3, False)):
        store, snapshot = open_store(str(made / "store")), snapshot_of(made / "store", number)
        segment = snapshot.segments[0]
        opened = open_proposers(store, snapshot, segment)["clip"]
        assert isinstance(opened, FaissProposer)
        path = made / "store" / opened.path
        assert (str(path) in Path("/proc/self/maps").read_text()) == mapped
        held = replace(opened, index=faiss.deserialize_index(np.fromfile(path, np.uint8)))
        units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
        for reach in (1, 5, 40):
            found = [each.look(each.ask(units, reach)) for each in (opened, held)]
            for name in ("offsets", "rows", "scores"):
                one, other = (getattr(each, name) for each in found)
                assert one.tobytes() == other.tobytes()


def test_a_file_of_another_faiss_says_which_and_the_way_out(made: Path) -> None:
    store, snapshot = open_store(str(made / "store")), snapshot_of(made / "store", 2)
    assert snapshot.proposers is not None
    older = snapshot.model_copy(
        update={"proposers": snapshot.proposers.model_copy(update={"faiss": "1.7.0"})}
    )
    segment = older.segments[0]
    # All checks hold, so it is used.
    assert len(open_proposers(store, older, segment)["clip"]) == segment.images
    other = segment.model_copy(
        update={"files": segment.files | {"clip.proposer": segment.files["clip.dense"]}}
    )
    wanted = rf"built by FAISS 1.7.0, and FAISS {faiss.__version__}.*install faiss 1.7.0, or give"
    with pytest.raises(IncompatibleInputs, match=wanted):
        open_proposers(store, older, other)


def test_a_job_begun_with_another_faiss_goes_on_with_that_alone(copy: Path) -> None:
    store = open_store(str(copy))
    shutil.rmtree(copy / "proposers")
    with (
        mock.patch("lamella.pipeline.proposers.stage.faiss_version", return_value="2.0"),
        pytest.raises(IncompatibleInputs, match=rf"begun with FAISS {faiss.__version__}.*2.0 is"),
    ):
        repair_store(store, SerialRunner(), threads=1)


def test_what_cannot_be_built_is_refused_before_any_work(made: Path, tmp_path: Path) -> None:
    file = made / "clip.parquet"
    if not hasattr(faiss, "GpuIndexCagra"):
        wanted = (
            rf"FAISS {faiss.__version__} with 0 GPUs, without GpuIndexCagra: ask for ivf or hnsw"
        )
        with pytest.raises(InputError, match=wanted):
            index(tmp_path / "store", file, "cagra")
    with (
        mock.patch.dict("sys.modules", {"faiss": None}),
        pytest.raises(InputError, match=r"index.proposer.*pip install 'lamella\[faiss\]'"),
    ):
        index(tmp_path / "store", file, "ivf")
    assert not list(tmp_path.glob("store/jobs/*"))


def test_a_faiss_with_cagra_and_without_a_card_says_so() -> None:
    named = {"GpuIndexCagra": None, "get_num_gpus": lambda: 0, "__version__": "9.9"}
    with (
        mock.patch.dict("sys.modules", {"faiss": SimpleNamespace(**named)}),
        pytest.raises(InputError, match=r"FAISS 9.9 with 0 GPUs, with GpuIndexCagra: ask for ivf"),
    ):
        check_proposer("cagra")


def test_an_index_has_as_many_images_in_proposers_as_in_segments(made: Path) -> None:
    assert sum(segment.images for segment in snapshot_of(made / "store", 2).segments) == COUNT
