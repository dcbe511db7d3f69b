"""A whole reproduction over a few small pictures: indexes, scores, the page, and a second call."""

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.evaluate.truth import score_queries
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.reproduce import paper, run
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.storage import open_store
from lamella.schemas.query import FusionSpec, LayerMap
from tests.command_line import lamella
from tests.end_to_end.commands import tiny_runs
from tests.pipeline.extract.specs import random_weights

LAYERS = ("conv5", "conv4", "conv3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three objects of UKB and two landmarks of Oxford5k, drawn; each picture somewhat its own."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(12):
        _draw(folder / f"ukbench/full/ukbench{number:05d}.jpg", number // 4, number)
    truth = folder / "oxford5k/gt_files_170407"
    truth.mkdir(parents=True)
    for landmark, first in (("ashmolean", 0), ("bodleian", 3)):
        names = [f"{landmark}_{place:06d}" for place in range(3)]
        for place, name in enumerate(names):
            _draw(folder / f"oxford5k/images/{name}.jpg", 10 + first, 20 + first + place)
        for kind, listed in (("good", names[:2]), ("ok", names[2:]), ("junk", [])):
            text = "".join(f"{name}\n" for name in listed)
            (truth / f"{landmark}_1_{kind}.txt").write_text(text)
        (truth / f"{landmark}_1_query.txt").write_text(f"oxc1_{names[0]} 4 4 90 90\n")
    random_weights("alexnet", folder / "conv.safetensors", leave_out="classifier")
    return folder


def _draw(path: Path, of_object: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = np.random.default_rng(of_object).integers(0, 256, (6, 6, 3))
    own = np.random.default_rng(1000 + seed).integers(-60, 60, (6, 6, 3))
    pixels = np.clip(shared + own, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(path, quality=95)


def options(data: Path, into: Path) -> list[Any]:
    return [
        *("--data", data, "--network", "alexnet", "--weights", f"alexnet={data}/conv.safetensors"),
        *("--words", "8", "--per-picture", "60", "--into", into, "--engine", "serial", "--json"),
    ]


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a reproduction, and what the command printed."""
    into = tmp_path_factory.mktemp("into") / "paper"
    with tiny_runs():
        said = lamella("reproduce", *options(data, into))
    assert said.returncode == 0, said.stderr
    return into, json.loads(said.stdout)


def test_every_data_set_is_scored_with_all_layers_that_have_weights(made: tuple[Path, Any]) -> None:
    _, said = made
    found = {(each["network"], each["data_set"]): each for each in said["scores"]}
    assert list(found) == [("alexnet", "oxford"), ("alexnet", "ukb")]
    for each in found.values():
        assert tuple(layer["layer"] for layer in each["alone"]) == LAYERS
        layers = [tuple(fused["layers"]) for fused in each["fused"]]
        assert layers == [LAYERS[:2], LAYERS[::2], LAYERS[1:], LAYERS]
        assert set(each["hashes"]) == (
            {"pictures", "ground truth"} if each["data_set"] == "oxford" else {"pictures"}
        )
        assert each["words"] == dict.fromkeys(LAYERS, 8)
    assert found["alexnet", "oxford"]["protocol"] == "oxford roi"


def test_scores_are_those_of_fusing_every_picture(made: tuple[Path, Any], data: Path) -> None:
    into, said = made
    (record,) = (each for each in said["scores"] if each["data_set"] == "ukb")
    stores = [
        store
        for path in into.glob("alexnet-*")
        if (store := open_store(str(path))).url
        if (snapshot := current_snapshot(store)) and snapshot.root_digest == record["snapshot"]
    ]
    snapshot = current_snapshot(stores[0])
    assert snapshot is not None
    searcher = SegmentSearcher(stores[0].url, snapshot, None, "tf")
    ids = searcher.image_ids()
    names = ImageTable(stores[0], snapshot).names_of(ids).to_pylist()
    truth = ukb(names)
    place = {name: row for row, name in enumerate(names)}
    asked = [int(ids[place[query.name]]) for query in truth.queries]
    _, batch = searcher.features(asked, list(LAYERS))
    assert batch is not None
    table = searcher.similarities(batch, list(LAYERS))[1]
    for row, layer in enumerate(LAYERS):
        mean = score_queries(truth, names, table[row]).mean()
        assert record["alone"][row] == {"layer": layer, "score": mean} | (
            {"interval": record["alone"][row]["interval"]}
        )
    mapped = FusionSpec(
        layers=(
            LayerMap(layer="conv5", t=0.2, p=0.45),
            LayerMap(layer="conv4", t=0.4, p=0.45),
            LayerMap(layer="conv3"),
        )
    )
    of_three = record["fused"][-1]
    assert of_three["mapped"] == score_queries(truth, names, fuse(table, mapped)).mean()
    assert of_three["direct"] == score_queries(truth, names, fuse(table, mapped.direct())).mean()
    pair = record["fused"][0]
    used = FusionSpec(layers=(mapped.layers[0], LayerMap(layer="conv4")))
    assert pair["grid"][2 * 6 + 3] == score_queries(truth, names, fuse(table[:2], used)).mean()
    assert pair["grid"][2 * 6 + 3] == pair["mapped"]


def test_what_cannot_be_run_is_listed_with_the_command(made: tuple[Path, Any], data: Path) -> None:
    _, said = made
    found = {each["what"]: each for each in said["not_run"]}
    assert set(found) == {"vgg16, all layers", "alexnet, fc2, fc1", "Holidays"}
    assert "nothing is put in their place" in found["alexnet, fc2, fc1"]["why"]
    assert found["alexnet, fc2, fc1"]["command"].endswith("--weights alexnet=FILE")
    assert found["alexnet, fc2, fc1"]["command"].count("--weights") == 1
    command = found["Holidays"]["command"]
    assert command.startswith(f"lamella reproduce --data {data} --network alexnet")
    assert command.endswith("--data holidays=FOLDER")
    # every pair of the paper's AlexNet has a fully connected layer
    assert said["signs"]["not_run"] == len(paper.pairs())


def test_the_page_has_the_figures(made: tuple[Path, Any]) -> None:
    into, said = made
    html = (into / "reproduce.html").read_text()
    assert said["page"] == str(into / "reproduce.html")
    assert "Fig. 1." in html
    assert "Fig. 2." in html
    assert html.count("image/jpeg;base64") > 3 * 6
    assert html.count("data-") == 0


def test_a_second_call_does_nothing_new(made: tuple[Path, Any], data: Path) -> None:
    into, said = made
    before = {path: path.read_bytes() for path in into.rglob("*.json") if "beats" not in path.parts}
    page = (into / "reproduce.html").read_bytes()
    with mock.patch.object(run, "score_all", side_effect=AssertionError("scored again")):
        again = lamella("reproduce", *options(data, into))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == said
    after = {path: path.read_bytes() for path in into.rglob("*.json") if "beats" not in path.parts}
    assert after == before
    assert (into / "reproduce.html").read_bytes() == page


def test_the_scores_are_a_known_part_of_the_store(made: tuple[Path, Any], tmp_path: Path) -> None:
    store = Path(shutil.copytree(next(made[0].glob("alexnet-*")), tmp_path / "store"))
    (scores,) = store.glob("reproduced/*.json")
    said = lamella("verify", store)
    assert said.returncode == 0, said.stdout
    assert lamella("gc", store).returncode == 0
    assert scores.exists()
    scores.write_text(scores.read_text().replace('"queries":', '"queries": '))
    said = lamella("verify", store)
    assert said.returncode != 0
    assert scores.name in said.stdout + said.stderr


def test_a_plan_says_what_is_there_and_what_the_rest_takes(
    made: tuple[Path, Any], data: Path, tmp_path: Path
) -> None:
    into, _ = made
    copied = tmp_path / "paper"
    shutil.copytree(into, copied)
    shutil.rmtree(next(copied.glob("alexnet-*")))
    said = lamella("reproduce", *options(data, copied), "--plan", "--sample", 4)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert [each["layers"] for each in found["indexes"]] == [list(LAYERS)] * 2
    assert sorted(each["done"] for each in found["indexes"]) == [False, True]
    (missing,) = (each for each in found["indexes"] if not each["done"])
    assert missing["hours"] > 0
    assert missing["stored_bytes"] > 0
    assert len(list(copied.glob("alexnet-*"))) == 1  # a plan makes no index


@pytest.mark.slow
def test_more_words_than_descriptors_are_no_end_of_the_others(data: Path, tmp_path: Path) -> None:
    given = options(data, tmp_path / "paper")
    with tiny_runs():
        said = lamella("reproduce", *given, "--words", "ukb=100000")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert [each["data_set"] for each in found["scores"]] == ["oxford"]
    (missing,) = (each for each in found["not_run"] if each["what"] == "alexnet on UKB")
    assert "a word needs at least one" in missing["why"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--network", "resnet50"], "--network takes"),
        (["--weights", "vgg16=x.pth", "--network", "alexnet"], "name its network"),
        (["--words", "many"], "--words takes"),
    ],
)
def test_what_cannot_be_used_is_refused(
    data: Path, tmp_path: Path, given: list[str], said: str
) -> None:
    found = lamella("reproduce", "--data", data, "--into", tmp_path / "paper", *given)
    assert found.returncode == 2
    assert said in found.stderr
    assert not (tmp_path / "paper").exists()
