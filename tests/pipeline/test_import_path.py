import os
import subprocess
import sys
from pathlib import Path

import pytest

import lamella
from lamella.pipeline import import_path
from lamella.pipeline.import_path import path_of_children, python_running, safe_path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder; the script lies in another one, and PYTHONPATH is empty."""
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "scripts" / "script.py")])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_current_folder_and_that_of_the_script_are_left_out(here: Path) -> None:
    path = [str(here.parent / "scripts"), "", ".", "relative", str(here), "/usr/lib/python3"]
    assert safe_path(path) == ["/usr/lib/python3"]


def test_a_folder_that_pythonpath_names_in_full_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{here}:/other")
    assert safe_path([str(here), "/other"]) == [str(here), "/other"]


@pytest.mark.parametrize("part", ["", ".", "../here", "sub/.."])
def test_a_relative_part_of_pythonpath_names_no_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{part}:/other")
    assert safe_path([str(here), "/other"]) == ["/other"]


def test_a_current_folder_that_was_deleted_is_no_obstacle(here: Path) -> None:
    here.rmdir()
    assert safe_path(["", "/usr/lib/python3"]) == ["/usr/lib/python3"]


def test_leaving_takes_empty_and_relative_parts_out_of_every_list_of_folders(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(here), "/usr/lib/python3"])
    monkeypatch.setenv("PYTHONPATH", "src:")
    monkeypatch.setenv("LD_LIBRARY_PATH", ":/opt/lib")
    monkeypatch.setenv("PATH", "/usr/bin:.:/bin")
    import_path.leave_current_folder()
    assert sys.path == ["/usr/lib/python3"]
    assert "PYTHONPATH" not in os.environ
    assert (os.environ["LD_LIBRARY_PATH"], os.environ["PATH"]) == ("/opt/lib", "/usr/bin:/bin")


def test_a_child_has_our_package_and_no_namesakes(here: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for folder in (here, tmp_path / "theirs"):
        for name in ("lamella", "pipeline", "schemas"):
            (folder / f"{name}.py").write_text("print('a namesake')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "theirs")}
    code = (
        "import sys, lamella.pipeline.errors, lamella.schemas.base; "
        "print(lamella.__file__, '' in sys.path)"
    )
    said = subprocess.run(
        python_running(code), cwd=here, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == f"{lamella.__file__} False\n"
    assert str(here) not in path_of_children()["PYTHONPATH"].split(":")
