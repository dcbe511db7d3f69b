"""`lamella vocabulary` as a person gives it, over tiny stores."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lamella.cluster.commands.cli import app
from lamella.pipeline.errors import IncompatibleInputs, InputError, UnknownLayer
from tests.cluster.test_inert_text import assert_inert
from tests.conftest import Indexed
from tests.end_to_end.commands import Stores
from tests.tiny import tiny_index, tiny_pictures


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: object) -> str:
    """Give a command in this process, and return what it prints; errors are raised."""
    found = CliRunner().invoke(app, ["vocabulary", *map(str, arguments)])
    if found.exception is not None:
        raise found.exception
    return found.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(call(*arguments, "--json"))


def test_show_prints_rounds_use_and_what_was_found(stores: Stores) -> None:
    said = call("show", stores.one)
    assert "12 words of p15 describe 5 pictures by" in said
    for text in ("training, round by round", "most used words", "most bursty words", "imbalance"):
        assert text in said
    assert re.search(r"^[+!] .*descriptors\.$", said, re.MULTILINE)
    found = as_json("show", stores.one, "--words", "2", "--layer", "p15")
    (layer,) = found["layers"]
    assert (found["snapshot"], found["page"], layer["words"]) == (1, None, 12)
    assert len(layer["most_used"]) == 2
    assert layer["corpus"]["images"] == 5
    assert f"describe 5 pictures by {layer['corpus']['descriptors']:,} descriptors" in said


def test_show_draws_a_page_of_another_snapshot(stores: Stores, tmp_path: Path) -> None:
    page = tmp_path / "words.html"
    said = call("show", stores.two, "--snapshot", "1", "--page", page)
    assert f"page of words: {page}" in said
    html = page.read_text()
    assert "snapshot 1" in html
    assert "data:image/jpeg;base64," in html
    assert "left out" not in html


def test_pictures_that_are_gone_are_counted_on_the_page(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "[red]<b>pictures", broken=0)
    tiny_index(tmp_path / "store", pictures)
    shutil.rmtree(pictures)
    page = tmp_path / "words.html"
    said = call("show", tmp_path / "store", "--page", page)
    assert_inert(said)
    html = page.read_text()
    assert "data:image/jpeg" not in html
    assert "patches are left out: their pictures can no longer be read." in html
    assert "<b>pictures" not in html
    assert_inert(html)


def test_compare_says_keep_or_train_anew_and_why(stores: Stores) -> None:
    said = call("compare", stores.one, stores.two, "--snapshot-b", "1")
    assert "mean squared error" in said
    assert re.search(r"^(keep|train anew): the error is .* \(train anew from ", said, re.MULTILINE)
    found = as_json("compare", stores.one, stores.one)
    (layer,) = found["layers"]
    assert found["snapshots"] == [1, 1]
    assert layer["advice"] in ("keep", "train anew")
    assert layer["unused"] == 0
    assert layer["pictures"] == 5


def test_compare_refuses_what_does_not_fit(stores: Stores, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_index(other, stores.pictures, network__preprocess__short_edge=72)
    with pytest.raises(IncompatibleInputs, match=r"preprocessing: [0-9a-f]{12} in the first, "):
        call("compare", stores.one, other)
    kept = Path(shutil.copytree(stores.one, tmp_path / "kept"))
    shutil.rmtree(kept / "activations")
    with pytest.raises(InputError, match="keeps no activations"):
        call("compare", stores.one, kept)
    assert as_json("compare", kept, stores.one)["layers"]  # A's are not needed


def test_layers_and_snapshots_that_are_not_there_are_named(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(UnknownLayer, match="no visual words of a layer 'head'"):
        call("show", stores.one, "--layer", "head")
    with pytest.raises(InputError, match="there is no snapshot 9"):
        call("show", stores.one, "--snapshot", "9")
    with pytest.raises(InputError, match="there is no snapshot 7"):
        call("compare", stores.one, stores.one, "--snapshot-b", "7")


@pytest.mark.parametrize("command", ["show", "compare"])
def test_help_teaches_with_an_example(command: str) -> None:
    said = " ".join(re.sub(r"[│╭╰─╮╯]", " ", call(command, "--help")).split())
    assert f"Example: lamella vocabulary {command} ./index" in said
    assert call(command, "--help").count("\n") < 60


def test_nothing_heavy_is_loaded(stores: Stores) -> None:
    code = (
        "import sys; from typer.testing import CliRunner\n"
        "from lamella.cluster.commands.cli import app\n"
        f"for asked in (['show', {str(stores.one)!r}], ['compare', *2 * [{str(stores.one)!r}]]):\n"
        "    assert CliRunner().invoke(app, ['vocabulary', *asked]).exit_code == 0\n"
        "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[-2] == "[]"


def test_words_of_one_index_serve_another(indexed: Indexed, tmp_path: Path) -> None:
    words, other = tmp_path / "words", tmp_path / "other"
    assert call("export", indexed.store, "--into", words) == f"{words}/p15.npy and p15.json\n"
    index = ["index", str(indexed.source), "--into", str(other), "--engine", "serial", "--json"]
    done = CliRunner().invoke(app, [*index, "--vocabulary", str(words)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["words"] == {"p15": 64}
    assert not list(other.glob("activations/*/p15/*.parquet"))  # words at once
    with pytest.raises(InputError, match="--keep-activations 'some' is none of all, none"):
        CliRunner().invoke(app, [*index, "--keep-activations", "some"], catch_exceptions=False)
    assert CliRunner().invoke(app, ["verify", str(other)]).exit_code == 0
    assert "describe 48 pictures" in call("show", other)
    call("export", indexed.store, "--into", words)  # what is there is the same
    (words / "p15.npy").write_bytes(b"mine")
    with pytest.raises(InputError, match="an export overwrites nothing"):
        call("export", indexed.store, "--into", words)
