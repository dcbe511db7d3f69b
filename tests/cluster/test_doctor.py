"""`lamella doctor`: what it prints, for people and scripts, and what its exit code says."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lamella.cluster.commands.doctor import _try_ray
from lamella.cluster.commands.show_doctor import show_parts
from lamella.pipeline.doctor import folders, libraries, machine, pictures, products, weights
from lamella.pipeline.doctor.examine import examine
from lamella.pipeline.doctor.findings import Finding, Part
from lamella.pipeline.store.storage import open_store
from tests.command_line import complaint, lamella, lamella_apart

PARTS = ["installed", "machine", "folders", "pictures", "weights", "extras"]


def states(value: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["state"] for part in value["parts"].values() for each in part}


def test_everything_works_here(tmp_path: Path) -> None:
    open_store(str(tmp_path), create=True)
    said = lamella("doctor", "--json", "--store", tmp_path)
    assert said.returncode == 0, said.stdout
    value = json.loads(said.stdout)
    assert value["works"] is True
    assert list(value["parts"]) == [*PARTS, "store"]
    found = states(value)
    assert {found[each] for each in ("torch", "ray", "formats", "efficientnet_lite0")} == {"ok"}
    (cards,) = (each for each in value["parts"]["machine"] if each["what"] == "cards")
    assert "CUDA" in cards["says"] or cards["state"] == "missing"
    assert said.stderr == ""


def test_a_library_that_cannot_be_loaded_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudnn.so.9: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(libraries, "modules_to_import", lambda: [["torch"], ["numba"]])
    there = libraries.version_of
    monkeypatch.setattr(
        libraries, "version_of", lambda name: "" if name == "ir-measures" else there(name)
    )
    said = lamella("doctor", "--json", "--store", "s3://UPPER/x")
    assert said.returncode == 1
    value = json.loads(said.stdout)
    assert (value["works"], value["error"]["kind"]) == (False, "Unfit")
    found = states(value)
    assert {found[each] for each in ("torch", "store")} == {"broken"}
    assert (found["lab"], found["numba"]) == ("missing", "ok")
    line = complaint(lamella("doctor", "--store", ""), 1)
    assert "2 things that must work here do not: torch, store" in line


def test_libraries_that_doctor_itself_stands_on_may_be_broken(tmp_path: Path) -> None:
    broken = {"PIL": "pillow", "numpy": "numpy", "pyarrow": "pyarrow"}
    for module in broken:
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('{module} is torn')")
    said = lamella_apart("doctor", "--json", "--store", tmp_path, PYTHONPATH=str(tmp_path))
    value = json.loads(said.stdout)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    found = states(value)
    assert {found[each] for each in (*broken.values(), "pictures", "torch")} == {"broken"}
    assert {found[each] for each in ("processor", "clock", "TMPDIR")} == {"ok"}


def test_checks_that_fail_themselves_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Finding:
        raise RuntimeError("a bug")

    for module, names in (
        (machine, ("processor", "memory", "cards", "clock")),
        (products, ("finding",)),
        (folders, ("temporary", "cache", "shared_memory", "compiled_loops")),
        (pictures, ("formats", "sandbox")),
        (weights, ("of_networks",)),
        (libraries, ("of_base", "of_extras")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, fails)
    monkeypatch.setattr(libraries, "modules_to_import", lambda: [["torch_of_none"], ["numba"]])
    parts = {part.title: part.findings for part in examine()}
    assert list(parts) == PARTS
    for title in ("machine", "folders", "pictures", "weights", "extras"):
        assert {(each.state, each.says) for each in parts[title]} == {("broken", "a bug")}


def test_the_table_reads_well_in_80_columns() -> None:
    parts = [
        Part("installed", (Finding("torch", "broken", "no " * 60, "pip install it"),)),
        Part("machine", (Finding("efficientnet_lite0", "ok", "\x1b[31mred [bold]x[/]"),)),
    ]
    file = io.StringIO()
    show_parts(Console(file=file, width=80), parts)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "→ pip install it" in file.getvalue()
    assert "\\x1b[31mred [bold]x[/]" in file.getvalue()
    first, second = (line for line in lines if line.startswith(("broken", "ok")))
    assert first.index("no ") == second.index("\\x1b")  # one column through all parts


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
@pytest.mark.slow
def test_a_ray_runs_a_task() -> None:
    found = _try_ray()
    assert (found.state, found.needed) == ("ok", True)
    assert found.says.startswith("started, ran a task and ended in")
