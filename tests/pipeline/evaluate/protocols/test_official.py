"""Official files are found by name, archives are refused with the command that unpacks them."""

import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.official import Official

GND = Official("roxford", "gnd.pkl", ("gnd.pkl", "gnd.json"), "a download of its own")


def test_the_better_name_is_taken_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "gnd.json").touch()
    assert GND.find(tmp_path).name == "gnd.json"
    (tmp_path / "a" / "b" / "gnd.pkl").touch()
    assert GND.find(tmp_path) == tmp_path / "a" / "b" / "gnd.pkl"
    assert GND.find(tmp_path / "gnd.json").name == "gnd.json"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs --truth, gnd\.pkl \(a download of its own"):
        GND.find(None)
    with pytest.raises(InputError, match=r"holds 0 files called gnd\.pkl or gnd\.json: give gnd"):
        GND.find(tmp_path)
    with pytest.raises(InputError, match=r"nowhere is not there: give gnd\.pkl"):
        GND.find(tmp_path / "nowhere")


def test_two_folders_with_the_file_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "gnd.pkl").touch()
    with pytest.raises(InputError, match=r"has gnd\.pkl in 2, such as .*a and .*b: give one"):
        GND.find(tmp_path)


def test_an_archive_is_refused_with_the_command_that_unpacks_it(tmp_path: Path) -> None:
    inner = tmp_path / "gnd.pkl"
    inner.write_text("x")
    packed = tmp_path / "it's a release.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(inner, "gnd.pkl")
    inner.unlink()
    for given in (packed, tmp_path):
        with pytest.raises(InputError) as refused:
            GND.find(given)
        assert "mkdir " in str(refused.value)
    command = str(refused.value).partition(": ")[2]
    subprocess.run(["sh", "-c", command], check=True)  # as it is said, with the odd name
    assert GND.find(tmp_path) == tmp_path / "it's a release" / "gnd.pkl"
    assert shlex.split(command)[0] == "mkdir"


def test_a_zip_is_unpacked_by_another_command(tmp_path: Path) -> None:
    (tmp_path / "gnd.zip").touch()
    with pytest.raises(InputError, match=r"unzip .*gnd\.zip -d .*gnd, and give that folder"):
        GND.find(tmp_path / "gnd.zip")
