"""What is said of libraries: those of a plain installation, and those of extras."""

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from lamella.pipeline.doctor import libraries
from lamella.pipeline.doctor.imports import Imported

PROJECT: dict[str, Any] = tomllib.loads(
    (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
GOOD = {module: Imported() for name, module in libraries.BASE.items() if name != "torchvision"}


def packages(lines: list[str]) -> set[str]:
    """Return the names in a list of requirements; faiss has another one on each machine."""
    found = {re.match(r"[\w-]+", line)[0] for line in lines}  # type: ignore[index]
    return {"faiss" if name.startswith("faiss-") else name for name in found}


def test_the_lists_are_those_of_the_project() -> None:
    base = packages(PROJECT["dependencies"])
    assert set(libraries.BASE) == {name for name in base if not name.startswith("efficientnet-")}
    extras = {
        name: packages(lines)
        for name, lines in PROJECT["optional-dependencies"].items()
        if name not in ("all", "dev", "lite")
    }
    assert {each.name: set(each.modules) for each in libraries.EXTRAS} == extras
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert everything == f"lamella[{','.join(sorted([*extras, 'lite']))}]"


def test_all_is_well_where_everything_imports() -> None:
    found = libraries.of_base(GOOD)
    assert {each.state for each in found} == {"ok"}
    assert found[0].says == metadata.version("torch")
    assert set(found[-1].says.split(", ")) | {each.what for each in found} >= set(libraries.BASE)


def test_a_library_that_fails_has_a_line_of_its_own_and_is_needed() -> None:
    found = libraries.of_base({**GOOD, "s3fs": Imported("No module named 's3fs'")})
    (broken,) = (each for each in found if each.state == "broken")
    assert (broken.what, broken.needed) == ("s3fs", True)
    assert broken.says == "No module named 's3fs'"
    assert broken.cure == "pip install --force-reinstall s3fs"
    assert "s3fs" not in found[-1].says.split(", ")


def test_a_library_that_is_only_looked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = libraries.version_of
    monkeypatch.setattr(
        libraries, "version_of", lambda name: "" if name == "torchvision" else there(name)
    )
    (broken,) = (each for each in libraries.of_base(GOOD) if each.state == "broken")
    assert (broken.what, broken.says) == ("torchvision", "not installed")


def test_a_torchvision_for_another_torch_is_broken() -> None:
    """Such as PyPI's, which is for CUDA, beside a torch for CPUs."""
    torch = Imported(facts={"torchvision": "libcudart.so.13: cannot open shared object file"})
    (broken,) = (
        each for each in libraries.of_base({**GOOD, "torch": torch}) if each.state == "broken"
    )
    assert broken.what == "torchvision"
    assert broken.says.startswith("does not fit this torch: libcudart")
    assert broken.cure == "install torch and torchvision together, from one index"


def test_a_missing_extra_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"timm": "1.0", "transformers": "5.0", "faiss": "faiss-cpu 1.15"}
    monkeypatch.setattr(libraries, "version_of", lambda name: there.get(name, ""))
    found = {each.what: each for each in libraries.of_extras({"faiss": Imported()})}
    assert found["networks"].state == "missing"
    assert found["networks"].says.startswith("no open_clip_torch, for networks timm:NAME")
    assert found["networks"].cure == "pip install 'lamella[networks]'"
    assert found["serve"].says.startswith("no fastapi, uvicorn, python-multipart, for lamella")
    assert (found["faiss"].state, found["faiss"].says) == ("ok", "faiss-cpu 1.15")
    assert not any(each.needed for each in found.values())


def test_an_extra_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "version_of", lambda name: "1.0")
    found = {
        each.what: each
        for each in libraries.of_extras({"faiss": Imported("libcublas.so.12: cannot open")})
    }
    assert found["faiss"].state == "broken"
    assert "faiss cannot be imported: libcublas.so.12" in found["faiss"].says


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert libraries.version_of("no-such-package") == ""
    assert libraries.version_of("numpy") == metadata.version("numpy")


def test_what_takes_seconds_is_not_imported() -> None:
    on_torch, others = libraries.modules_to_import()
    assert on_torch[0] == "torch"
    assert {"ray", "numba", "PIL"} <= set(others)
    assert not {*on_torch, *others} & set(libraries.SLOW)
