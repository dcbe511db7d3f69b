"""What a reproduction indexes: words and descriptors as published, and indexes that are shared."""

from pathlib import Path

import pytest

from lamella.pipeline.reproduce.data_sets import DataSet
from lamella.pipeline.reproduce.networks import NetworkHere
from lamella.pipeline.reproduce.planning import Wanted, program
from lamella.schemas.reproduced import DataSetName


@pytest.fixture
def vgg(tmp_path: Path) -> NetworkHere:
    weights = tmp_path / "vgg16.safetensors"
    weights.write_bytes(b"weights")
    return NetworkHere("vgg16", weights, ("c5_1", "c4_1"), ("fc2", "fc1"), caffe=True, said=True)


@pytest.fixture
def data_sets(tmp_path: Path) -> dict[DataSetName, DataSet]:
    """UKB and Holidays, each with the other's pictures, and Oxford alone."""
    ukb, holidays, oxford = (tmp_path / name for name in ("ukb", "holidays", "oxford"))
    for folder in (ukb, holidays, oxford):
        folder.mkdir()
        (folder / f"{folder.name}.jpg").write_bytes(b"x")
    return {
        "oxford": DataSet("oxford", oxford, None),
        "holidays": DataSet("holidays", holidays, None, (ukb,)),
        "ukb": DataSet("ukb", ukb, None, (holidays,)),
    }


def test_words_and_descriptors_are_the_published_ones_where_nothing_else_is_said() -> None:
    wanted = Wanted(Path("into"))
    assert wanted.words_of("vgg16", "oxford") == 50_000
    assert wanted.words_of("vgg16", "ukb") == 100_000
    # 4 million over 5,063 pictures are 790.04 a picture; over 10,200 they are 392.2
    assert wanted.descriptors_of("oxford") == 791
    assert wanted.descriptors_of("ukb") == 393
    said = Wanted(Path("into"), {"": 5, "ukb": 6, "alexnet": 7}, per_picture=8)
    assert said.words_of("vgg16", "oxford") == 5
    assert said.words_of("vgg16", "ukb") == 6
    assert said.words_of("alexnet", "ukb") == 7
    assert said.descriptors_of("holidays") == 8


def test_data_sets_of_the_same_pictures_and_settings_share_an_index(
    vgg: NetworkHere, data_sets: dict[DataSetName, DataSet], tmp_path: Path
) -> None:
    shared = program(Wanted(tmp_path, per_picture=400), [vgg], data_sets, {})
    names = [[each.name for each in index.data_sets] for index in shared.indexes]
    assert names == [["oxford"], ["holidays", "ukb"]]
    assert shared.indexes[1].title == "vgg16 on Holidays and UKB"
    # as published each data set has descriptors of its own number
    apart = program(Wanted(tmp_path), [vgg], data_sets, {})
    assert [len(index.data_sets) for index in apart.indexes] == [1, 1, 1]


def test_the_job_is_the_papers(
    vgg: NetworkHere, data_sets: dict[DataSetName, DataSet], tmp_path: Path
) -> None:
    (index, *_) = program(Wanted(tmp_path), [vgg], data_sets, {"kind": "serial"}).indexes
    job = index.job
    assert (job.profile, job.vocabulary.words, job.vocabulary.descriptors) == (
        "paper",
        50_000,
        4_000_000,
    )
    assert job.network.layers == ("c5_1", "c4_1")
    assert job.network.preprocess.channel_order == "bgr"
    assert job.engine.kind == "serial"


def test_where_an_index_lies_depends_on_what_decides_it(
    vgg: NetworkHere, data_sets: dict[DataSetName, DataSet], tmp_path: Path
) -> None:
    def store(wanted: Wanted, network: NetworkHere = vgg, engine: str = "ray") -> Path:
        return program(wanted, [network], data_sets, {"kind": engine}).indexes[0].store

    plain = store(Wanted(tmp_path))
    assert plain.name.startswith("vgg16-")
    assert store(Wanted(tmp_path, box="full"), engine="serial") == plain
    others = {store(Wanted(tmp_path, {"": 9})), store(Wanted(tmp_path, per_picture=9))}
    assert vgg.weights is not None
    vgg.weights.write_bytes(b"other weights")
    others.add(store(Wanted(tmp_path)))
    assert len(others | {plain}) == 4


def test_what_is_missing_is_named_with_the_command_that_would_run_it(
    vgg: NetworkHere, data_sets: dict[DataSetName, DataSet], tmp_path: Path
) -> None:
    spoken = (("--data", "my data"), ("--weights", "conv.pth"), ("--caffe",), ("--into", "x"))
    alexnet = NetworkHere("alexnet", None, (), ("fc2", "fc1", "conv5", "conv4", "conv3"))
    found = program(
        Wanted(tmp_path, spoken=spoken), [vgg, alexnet], {"ukb": data_sets["ukb"]}, {}
    ).not_run
    assert {each.what: each.command for each in found} == {
        "vgg16, fc2, fc1": "lamella reproduce --data 'my data' --into x --weights vgg16=FILE",
        "alexnet, all layers": "lamella reproduce --data 'my data' --weights conv.pth --caffe "
        "--into x --weights alexnet=FILE",
        "Oxford5k": "lamella reproduce --data 'my data' --weights conv.pth --caffe --into x "
        "--data oxford=FOLDER",
        "Holidays": "lamella reproduce --data 'my data' --weights conv.pth --caffe --into x "
        "--data holidays=FOLDER",
    }
    assert "never released" in found[1].why
