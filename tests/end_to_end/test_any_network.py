"""Networks from elsewhere by the command line: indexed, asked, explained, planned, timed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.store.local import LocalStore
from tests.command_line import Said, complaint, lamella
from tests.pipeline.networks.nets import HERE
from tests.tiny import tiny_pictures

timm = pytest.importorskip("timm", reason="timm is not installed")
JOB = """
[network.preprocess]
crop = 64
short_edge = 64
[vocabulary]
words = 6
rounds = 3
assigner = "exact"
[corpus]
shard_images = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a job of small settings, and a file of seeded weights as timm's files are."""
    folder = tmp_path_factory.mktemp("any")
    tiny_pictures(folder / "pictures", 6, broken=0)
    (folder / "job.toml").write_text(JOB)
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit").state_dict(), folder / "vit.safetensors")
    return folder


def ran(*arguments: object) -> Said:
    said = lamella(*arguments)
    assert said.returncode == 0, said.stderr
    return said


def indexed(folder: Path, store: str, *options: object) -> Path:
    """Index the pictures in this process into a store of that name."""
    place = folder / store
    job = ("--job", folder / "job.toml", "--engine", "serial")
    ran("index", folder / "pictures", "--into", place, *job, *options)
    return place


def test_a_network_of_timm_with_a_file_of_weights(folder: Path) -> None:
    weights = folder / "vit.safetensors"
    store = indexed(folder, "timm", "--network", "timm:test_vit", "--weights", weights)
    snapshot = current_snapshot(LocalStore(store))
    assert snapshot is not None
    assert snapshot.extraction.network == "timm:test_vit"
    assert [layer.name for layer in snapshot.extraction.layers] == ["cls", "patches"]
    asked = ("query", store, folder / "pictures" / "02.png", "-k", "2")
    found = json.loads(ran(*asked, "--weights", weights, "--json").stdout)
    assert "02.png" in json.dumps(found)
    query = folder / "pictures" / "02.png"
    explained = ran("explain", store, query, "03.png", "--weights", weights)
    assert "patches" in explained.stdout
    assert "give the model.safetensors" in complaint(lamella(*asked))
    other = folder / "resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), other)
    said = complaint(lamella(*asked, "--weights", other))
    assert "made with weights vit.safetensors" in said
    wrong = ("--network", "timm:test_vit", "--weights", other, "--engine", "serial")
    said = complaint(lamella("index", folder / "pictures", "--into", folder / "none", *wrong))
    assert "do not fit timm:test_vit: they lack cls_token" in said
    assert not (folder / "none").exists()


def test_own_code_is_asked_without_saying_its_weights_again(folder: Path) -> None:
    store = indexed(folder, "own", "--network", f"{HERE}:vit", "--layers", "avg,b2")
    asked = ("query", store, folder / "pictures" / "01.png", "-k", "1", "--json")
    assert "01.png" in ran(*asked).stdout
    again = indexed(folder, "own", "--network", f"{HERE}:vit", "--layers", "avg,b2")
    snapshot = current_snapshot(LocalStore(again))
    assert snapshot is not None
    assert snapshot.number == 1  # seeded: its weights are the same


def test_code_is_not_found_in_the_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import subprocess
    import sys

    (tmp_path / "mine.py").write_text("print('imported')\n")
    options = ("--into", "s", "--network", "mine:make", "--engine", "serial")
    command = [sys.executable, "-m", "lamella", "index", str(folder / "pictures"), *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "there is no module mine" in done.stderr
    assert "imported" not in done.stdout


@pytest.mark.slow
def test_other_commands_take_such_networks(folder: Path, tmp_path: Path) -> None:
    network = ("--network", "timm:test_vit", "--weights", folder / "vit.safetensors")
    job = ("--job", folder / "job.toml")
    planned = ran(
        *("plan", folder / "pictures", "--into", tmp_path / "p", "--sample", "4"), *job, *network
    )
    assert "patches" in planned.stdout
    ran("bench", "extract", folder / "pictures", *network)
    grouped = tmp_path / "grouped"
    for number in range(6):
        place = grouped / f"g{number // 2}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "pictures" / f"{number:02}.png", place)
    options = (*job, *network, "--engine", "serial")
    ran("index", grouped, "--into", tmp_path / "s", *options)
    given = ("--weights", folder / "vit.safetensors")
    ran("evaluate", tmp_path / "s", "--protocol", "groups", "--engine", "serial", *given)
    ran("vocabulary", "export", tmp_path / "s", "--into", tmp_path / "words")
    with_words = (*options, "--vocabulary", tmp_path / "words")
    ran("index", grouped, "--into", tmp_path / "t", *with_words)
    ran("verify", tmp_path / "t")
    ran("reindex", tmp_path / "s", "--engine", "serial")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "layers"),
    [
        ("open_clip:ViT-S-32", ["output", "b10"]),
        ("timm:swin_tiny_patch4_window7_224", ["pool", "s4"]),
        ("timm:vit_small_patch14_reg4_dinov2", ["cls", "patches"]),
    ],
)
def test_families_end_to_end(network: str, layers: list[str], tmp_path: Path) -> None:
    from lamella.pipeline.networks.providers import foreign

    made = foreign(network)
    assert made is not None
    torch.manual_seed(2)
    save_file(made.build().state_dict(), tmp_path / "w.safetensors")
    tiny_pictures(tmp_path / "pictures", 6, broken=0)
    options = ("--network", network, "--weights", tmp_path / "w.safetensors", "--engine", "serial")
    ran("index", tmp_path / "pictures", "--into", tmp_path / "s", "--words", "6", *options)
    snapshot = current_snapshot(LocalStore(tmp_path / "s"))
    assert snapshot is not None
    assert [layer.name for layer in snapshot.extraction.layers] == layers


@pytest.mark.parametrize(
    ("layers", "expected"),
    [((), ["clip", "cls", "patches"]), (("--layers", "cls,clip,b0"), ["cls", "clip", "b0"])],
)
def test_given_vectors_stand_beside_its_layers(
    folder: Path, tmp_path: Path, layers: tuple[str, ...], expected: list[str]
) -> None:
    np.save(tmp_path / "clip.npy", np.eye(6, 8, dtype=np.float32) + 0.5)
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    (tmp_path / "clip.names.txt").write_text("\n".join(names))
    network = ("--network", "timm:test_vit", "--weights", folder / "vit.safetensors")
    vectors = ("--vectors", tmp_path / "clip.npy")
    store = indexed(folder, tmp_path.name, *network, *vectors, *layers)
    snapshot = current_snapshot(LocalStore(store))
    assert snapshot is not None
    assert [layer.name for layer in snapshot.extraction.layers] == expected
    found = json.loads(ran("query", store, "--names", "02.png", "-k", "1", "--json").stdout)
    assert found["rankings"][0]["name"] == "02.png"
    assert found["rankings"][0]["S.clip"] == pytest.approx(1.0)
