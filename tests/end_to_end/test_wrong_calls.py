"""A wrong call says all that is wrong with it, and leaves nothing behind."""

from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError, StoreError
from lamella.pipeline.store.storage import check_place, open_store
from tests.command_line import complaint, lamella
from tests.tiny import tiny_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures(tmp_path_factory.mktemp("wrong") / "pictures", 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--network vgg61", "did you mean vgg1"),
        ("--layers hed", "did you mean head?"),
        ("--weights nowhere.pth", "there is no weights file"),
        ("--vocabulary nowhere", "vocabulary export"),
        ("--t 0.1,0.2,0.3", "fusion.t takes one value a layer"),
        ("--words 0", "vocabulary.words"),
        ("--engine spark", "none of ray, serial"),
    ],
)
@pytest.mark.parametrize("command", ["index", "plan"])
def test_a_wrong_option_leaves_no_store(
    command: str, options: str, said: str, pictures: Path, tmp_path: Path
) -> None:
    if command == "plan" and options.startswith("--t"):
        options, said = "--job nowhere.toml", "there is no job file"
    store = tmp_path / "a" / "store"
    assert said in complaint(lamella(command, pictures, "--into", store, *options.split()))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("command", ["index", "plan"])
def test_a_source_without_pictures_leaves_no_store(command: str, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("words")
    for source, said in (("absent", "No such file"), ("texts", "1 file looked at")):
        store = tmp_path / "store"
        assert said in complaint(lamella(command, tmp_path / source, "--into", store))
        assert not store.exists()


def test_a_wrong_call_changes_no_store_that_is_there(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    complaint(lamella("index", pictures, "--into", tmp_path / "empty", "--layers", "hed"))
    assert list((tmp_path / "empty").iterdir()) == []


def test_all_that_is_wrong_with_settings_is_said_at_once(pictures: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        "[network]\nlayers = ['hed', 'p99', 'p15']\nweights = 'nowhere.pth'\n"
        "[gate]\ngolden = 'nowhere.txt'\n[activations]\nkeep = 'all'\n"
    )
    line = complaint(lamella("index", pictures, "--into", tmp_path / "s", "--job", job))
    assert line.startswith("lamella: 4 errors: (1) ")
    for said in ("golden queries nowhere.txt", "no layer 'hed'", "no layer 'p99'", "weights file"):
        assert said in line


def test_a_place_is_checked_without_making_it(tmp_path: Path) -> None:
    check_place(str(tmp_path / "new" / "store"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for url in (str(tmp_path / "file"), str(tmp_path / "file" / "store"), "ftp://host/x", ""):
        with pytest.raises(InputError):
            check_place(url)
    open_store(str(tmp_path / "store"), create=True)
    check_place(str(tmp_path / "store"))
    (tmp_path / "lost" / "snapshots").mkdir(parents=True)
    (tmp_path / "lost" / "snapshots" / "000001.json").write_text("{}")
    with pytest.raises(StoreError, match="by which a store is known"):
        check_place(str(tmp_path / "lost"))
