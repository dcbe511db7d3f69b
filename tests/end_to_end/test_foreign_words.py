"""Words that were trained on other kinds of pictures: the job says so, and goes on."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lamella.cluster.commands.cli import app
from lamella.pipeline.diagnostics.findings import findings
from lamella.pipeline.diagnostics.inspect import inspect_layer
from lamella.pipeline.index.words_fit import snapshot_fits
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.pipeline.vocabulary.exchange import export_vocabulary
from lamella.schemas.snapshot import IndexSnapshot
from tests import builders
from tests.builders import reseal
from tests.tiny import tiny_index

SETTINGS = {
    "profile": "paper",
    "vocabulary__words": 24,
    "network__preprocess__short_edge": 64,
}


def stripes(folder: Path, seed: int, *, upright: bool, count: int = 8) -> Path:
    """Fill a folder with seeded pictures: grey upright stripes, or else coloured chequers."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    for number in range(count):
        if upright:
            wave = 128 + 90 * np.sin(x / 3 + draw.uniform(0, 6))
            pixels = np.repeat(wave[:, :, None], 3, axis=2)
        else:
            chequers = (x // 8 + y // 8) % 2
            pixels = chequers[:, :, None] * draw.uniform(60, 255, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported words of upright stripes."""
    folder = tmp_path_factory.mktemp("trained")
    pictures = stripes(folder / "pictures", 0, upright=True, count=16)
    snapshot = tiny_index(folder / "store", pictures, **SETTINGS)
    vocabulary = snapshot.vocabularies["b11"]
    export_vocabulary(LocalStore(folder / "store"), vocabulary, snapshot.extraction, folder / "w")
    return folder / "w"


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What jobs of this test tell a person."""
    said: list[str] = []
    monkeypatch.setattr(builders, "Watch", partial(Watch, note=said.append))
    return said


def index(folder: Path, words: Path, *, upright: bool, keep: str = "none") -> IndexSnapshot:
    """Index pictures of one kind by given words, into `store` in a folder."""
    pictures = folder / "pictures"
    if not pictures.exists():
        stripes(pictures, 1, upright=upright)
    given = {"vocabulary_from": str(words), "activations__keep": keep}
    return tiny_index(folder / "store", pictures, **given, **SETTINGS)


def call(*arguments: object) -> str:
    found = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    if found.exception is not None:
        raise found.exception
    return found.stdout


def test_words_of_the_same_kind_are_not_spoken_of(
    words: Path, notes: list[str], tmp_path: Path
) -> None:
    snapshot = index(tmp_path, words, upright=True)
    assert notes == []
    fit = snapshot_fits(LocalStore(tmp_path / "store"), snapshot)["b11"]
    assert fit.well
    health = inspect_layer(LocalStore(tmp_path / "store"), snapshot, "b11")
    assert fit.text in [each.text for each in findings(health) if each.kind == "well"]
    assert fit.text not in call("status", tmp_path / "store")


@pytest.mark.parametrize("keep", ["none", "all"])
def test_words_of_another_kind_are_warned_of_and_the_job_goes_on(
    keep: str, words: Path, notes: list[str], tmp_path: Path
) -> None:
    snapshot = index(tmp_path, words, upright=False, keep=keep)
    assert snapshot.indexed == 8
    store = LocalStore(tmp_path / "store")
    fit = snapshot_fits(store, snapshot)["b11"]
    assert fit.far
    assert notes == [fit.text]
    health = snapshot.vocabularies["b11"].health
    assert health is not None
    assert (fit.rows, fit.own_error) == (8 * 16, health.held_error)
    for value in (f"{fit.error:.4f} on 128", f"{health.held_error:.4f}", f"{fit.ratio:.2f}"):
        assert value in fit.text
    assert "leave --vocabulary (vocabulary_from) out" in fit.text
    mind = findings(inspect_layer(store, snapshot, "b11"))
    assert fit.text in [each.text for each in mind if each.kind == "mind"]
    assert fit.text in call("status", tmp_path / "store")
    found = json.loads(call("status", tmp_path / "store", "--json"))
    assert found["current"]["words_fit"] == [fit.plain()]
    (layer,) = json.loads(call("vocabulary", "show", tmp_path / "store", "--json"))["layers"]
    assert layer["fit"] == fit.plain()


def test_one_pass_measures_what_two_do(words: Path, tmp_path: Path) -> None:
    found = []
    for keep in ("none", "all"):
        snapshot = index(tmp_path / keep, words, upright=False, keep=keep)
        found.append(snapshot_fits(LocalStore(tmp_path / keep / "store"), snapshot))
    assert found[0] == found[1] != {}


def test_the_command_says_both_errors(words: Path, tmp_path: Path) -> None:
    index(tmp_path, words, upright=False)
    job = tmp_path / "job.toml"
    job.write_text(
        "[corpus]\nshard_images = 4\n[network.preprocess]\nshort_edge = 64\ncrop = 32\n"
        "[index]\nsegment_images = 3\n"
    )
    given = [tmp_path / "pictures", "--into", tmp_path / "other", "--job", job]
    given += ["--vocabulary", words, "--profile", "paper", "--engine", "serial"]
    found: dict[str, Any] = json.loads(call("index", *given, "--json"))
    (fit,) = found["words_fit"]
    assert fit["far"]
    assert fit["ratio"] == fit["error"] / fit["own_error"] > fit["largest_ratio"]
    said = CliRunner().invoke(app, ["index", *map(str, given)])
    assert said.exit_code == 0
    assert fit["text"] in " ".join(said.output.split())


def test_words_without_health_are_said_to_have_nothing_to_compare_with(
    words: Path, notes: list[str], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in words.glob("*.npy"):
        (bare / path.name).write_bytes(path.read_bytes())
    said = json.loads((words / "b11.json").read_text())
    for name in ("health", "provenance"):
        del said[name]
    (bare / "b11.json").write_text(json.dumps(said))
    snapshot = index(tmp_path, bare, upright=False)
    (note,) = notes
    assert "nothing to compare with: the mean squared error here is" in note
    fit = snapshot_fits(LocalStore(tmp_path / "store"), snapshot)["b11"]
    assert (fit.own_error, fit.ratio, fit.far) == (None, None, False)
    assert note in call("status", tmp_path / "store")


def forget(record: Path) -> int:
    """Take from a done record what earlier versions did not count; return what it had measured."""
    counts = json.loads(record.read_bytes())["counts"]
    kept = {k: v for k, v in counts.items() if not k.startswith(("error.", "measured."))}
    assert len(kept) == len(counts) - 2
    reseal(record, counts=kept)
    measured: int = counts["measured.b11"]
    return measured


@pytest.mark.parametrize(("keep", "folder"), [("none", "activations"), ("all", "bags")])
def test_a_store_of_an_earlier_version_is_continued_and_repaired(
    keep: str, folder: str, words: Path, notes: list[str], tmp_path: Path
) -> None:
    first = index(tmp_path, words, upright=False, keep=keep)
    notes.clear()
    store = LocalStore(tmp_path / "store")
    records = sorted((tmp_path / "store" / folder).glob("*/done/*.json"))
    assert len(records) >= 2
    whole = snapshot_fits(store, first)["b11"]
    measured = [forget(records[0])]
    rest = snapshot_fits(store, first)["b11"]
    assert 0 < rest.rows == whole.rows - measured[0] < whole.rows  # of the records that have it
    measured += [forget(record) for record in records[1:]]
    assert sum(measured) == whole.rows
    assert snapshot_fits(store, first) == {}
    assert index(tmp_path, words, upright=False, keep=keep) == first
    assert notes == []
    assert verify_store(store).damage == ()
    # A shard that is made again counts its error, and is what was on record all the same.
    (data,) = (tmp_path / "store" / folder).glob(f"*/b11/{records[0].stem}.*")
    data.unlink()
    done = repair_store(store, SerialRunner(), threads=1)
    assert (done.after, done.notes) == ((), ())
    assert snapshot_fits(store, first)["b11"].rows == measured[0]
