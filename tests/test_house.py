"""The rules of the house, read from the source: who may import what, how long a file may be."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("schemas", "pipeline", "cluster")
LONGEST = 400


class Import(NamedTuple):
    """One imported module, where, and whether only a function imports it."""

    file: str
    line: int
    module: str
    inside_function: bool

    @property
    def top(self) -> str:
        """The package it belongs to."""
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> Iterator[Import]:
    """Yield the imports of a file; those for type checkers alone are left out."""
    file = str(path.relative_to(ROOT))

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(file, child.lineno, name.name.removeprefix("lamella."), inside)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}:{child.lineno} has a relative import"
                module = (child.module or "").removeprefix("lamella.")
                for name in child.names:
                    inner = f"{module}.{name.name}"
                    is_module = (ROOT / inner.replace(".", "/")).with_suffix(".py").exists()
                    yield Import(file, child.lineno, inner if is_module else module, inside)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, inside or function)

    yield from walk(ast.parse(path.read_text()), False)


@functools.cache
def imports() -> list[Import]:
    """Return what all files of ours import: read once, and only where these tests are run."""
    return [each for path in sources(*OURS) for each in imports_of(path)]


def of(package: str) -> list[Import]:
    return [each for each in imports() if each.file.startswith(f"{package}/")]


def named(wrong: list[Import]) -> str:
    return "\n".join(str(each) for each in wrong)


def test_there_is_something_to_read() -> None:
    assert len({each.file for each in imports()}) > 50


def test_schemas_stand_on_nothing_of_ours_and_do_no_work() -> None:
    allowed = {"schemas", "pydantic", "pyarrow", *sys.stdlib_module_names}
    idle = {"io", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile"}
    wrong = [each for each in of("schemas") if each.top not in allowed or each.top in idle]
    # Arrow gives types here; its readers and writers are for `pipeline/store`.
    wrong += [each for each in of("schemas") if each.module.startswith("pyarrow.")]
    assert not wrong, named(wrong)


def test_the_pipeline_does_not_know_that_it_is_distributed() -> None:
    unknown = {"ray", "cluster", "typer", "tests"}
    wrong = [each for each in of("pipeline") if each.top in unknown]
    assert not wrong, named(wrong)


def test_nothing_but_tests_imports_tests() -> None:
    wrong = [each for each in imports() if each.top in ("tests", "pytest", "hypothesis")]
    assert not wrong, named(wrong)


@pytest.mark.parametrize(
    ("library", "at_home", "inside_functions_of"),
    [
        (
            "torch",
            ("pipeline/extract/", "pipeline/networks/", "pipeline/bench/"),
            ("pipeline/", "cluster/ray/actors.py"),
        ),
        ("torchvision", ("pipeline/extract/", "pipeline/networks/"), ()),
        ("faiss", (), ("pipeline/proposers/", "pipeline/export/")),
        ("fsspec", ("pipeline/store/",), ("pipeline/store/",)),
        ("s3fs", ("pipeline/store/",), ("pipeline/store/",)),
        ("safetensors", ("pipeline/extract/", "pipeline/networks/"), ()),
        ("ray", ("cluster/",), ()),
        # It takes settings from the current folder unless it is imported with care.
        ("numba", (), ("pipeline/compiled.py",)),
        ("typer", ("cluster/",), ()),
        ("skimage", (), ("pipeline/planted/",)),
        ("matplotlib", (), ("pipeline/page/charts.py",)),
        ("ir_measures", (), ("pipeline/evaluate/",)),
        ("timm", (), ("pipeline/networks/",)),
        ("open_clip", (), ("pipeline/networks/",)),
        ("transformers", (), ("pipeline/networks/",)),
        ("huggingface_hub", (), ("pipeline/networks/",)),
        ("lance", (), ("pipeline/export/",)),
        ("fastapi", ("cluster/serve/",), ()),
        ("starlette", ("cluster/serve/",), ()),
        ("uvicorn", ("cluster/serve/",), ()),
    ],
)
def test_a_library_is_used_where_it_belongs(
    library: str, at_home: tuple[str, ...], inside_functions_of: tuple[str, ...]
) -> None:
    wrong = [
        each
        for each in imports()
        if each.top == library
        and not each.file.startswith(at_home)
        and not (each.inside_function and each.file.startswith(inside_functions_of))
    ]
    assert not wrong, named(wrong)


DOWNWARDS = (
    *(
        "errors",
        "text",
        "names",
        "arrays",
        "signs",
        "events",
        "meters",
        "cgroups",
        "memory",
        "cores",
    ),
    *("private", "import_path", "scratch", "page"),
    *("torch_settings", "compiled", "products", "store", "run", "corpus", "networks", "extract"),
    *("vocabulary", "index", "proposers"),
    *(
        "search",
        "evaluate",
        "accounts",
        "stages",
        "journey",
        "jobs",
        "planted",
        "diagnostics",
        "bench",
    ),
    *("export", "plan", "upkeep", "reproduce", "doctor"),
)
"""The parts of the pipeline: each stands on those before it."""

UPWARDS = {
    # The index stage writes a segment, search opens it: its files are named in one place.
    ("pipeline/index/segment_files.py", "search"),
}


def test_every_part_of_the_pipeline_stands_on_those_before_it() -> None:
    arrows = {
        (each.file, part_of(each.module))
        for each in of("pipeline")
        if each.top == "pipeline" and "." in each.module
        if DOWNWARDS.index(part_of(each.module)) > DOWNWARDS.index(part_of(each.file))
    }
    assert arrows == UPWARDS


def part_of(place: str) -> str:
    """Return the part of the pipeline that a file or a module is of."""
    return place.replace("/", ".").removesuffix(".py").split(".")[1]


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {
        str(path.relative_to(ROOT).with_suffix("")).replace("/", "."): path
        for path in sources(*OURS)
    }
    files = {str(path.relative_to(ROOT)): name for name, path in modules.items()}
    needs: dict[str, set[str]] = {name: set() for name in modules}
    for each in imports():
        if each.file in files and each.module in modules:
            needs[files[each.file]].add(each.module)
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def test_every_folder_of_code_is_installed_as_a_part_of_lamella() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    roots = {folder: name for name, folder in table["package-dir"].items()}
    folders = {str(path.parent.relative_to(ROOT)) for path in sources(*OURS)}
    assert set(table["packages"]) == {
        roots[folder] if folder in roots else f"lamella.{folder.replace('/', '.')}"
        for folder in folders
    }


def test_no_file_is_longer_than_a_reader_bears() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sources(*OURS, "tests")
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_foreign_pictures_are_decoded_in_a_process_of_their_own() -> None:
    child = "pipeline/corpus/child.py"
    wrong = []
    for path in sources(*OURS):
        file = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "lamella.pipeline.corpus.decode":
                names = {alias.name for alias in node.names} & {"decode", "probe"}
                wrong += [f"{file} imports {name}" for name in names if file != child]
    for path in sources(*OURS):
        # The photographs of the planted corpus are our own, from a package.
        if "planted" not in path.parts:
            found = [name for name, _ in calls(path) if name.endswith(("Image.open", "imread"))]
            wrong += [f"{path.relative_to(ROOT)} calls {name}" for name in found]
    assert not wrong


def test_nothing_is_evaluated_without_a_seed() -> None:
    drawn = ("np.random.rand", "np.random.randn", "np.random.seed", "random.random", "random.seed")
    wrong = [
        f"{path.relative_to(ROOT)}:{call.lineno} calls {name}"
        for path in sources(*OURS)
        for name, call in calls(path)
        if name in drawn or (name == "np.random.default_rng" and not call.args)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # Help and the completion of shells wait for nothing that they do not need.
        (
            "lamella.cluster.commands.main",
            {"torch", "torchvision", "faiss", "ray", "pyarrow", "numpy", "PIL", "fsspec"},
        ),
        ("lamella.pipeline.search.searcher", {"torch", "torchvision", "faiss", "ray"}),
        ("lamella.pipeline.index.stage", {"torch", "torchvision", "ray"}),
        ("lamella.cluster.ray.actors", {"torch", "torchvision", "faiss", "numba"}),
    ],
)
def test_heavy_libraries_wait_until_they_are_needed(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_dependencies_are_no_older_than_what_is_known_to_be_safe() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = {
        line.split(">=")[0].split("[")[0]: line.split(">=")[1].split(";")[0].strip()
        for line in project["dependencies"]
        if ">=" in line
    }
    least = {
        "ray": (2, 54),  # CVE-2026-27482
        "torch": (2, 6),  # CVE-2025-32434
        "s3fs": (2026, 1),  # create-only puts
        "pillow": (12, 3),
        "jinja2": (3, 1, 5),
        "pyarrow": (18,),
    }
    for name, version in least.items():
        assert tuple(int(part) for part in lowest[name].split(".")) >= version, name
    assert project["requires-python"] == ">=3.11"


def test_the_versions_of_python_are_said_alike_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    prefix = "Programming Language :: Python :: 3."
    minors = [
        int(each.removeprefix(prefix))
        for each in project["project"]["classifiers"]
        if each.startswith(prefix)
    ]
    assert project["project"]["requires-python"] == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert project["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"
    image = re.search(r"^FROM python:3\.(\d+)\.", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    assert image is not None
    assert {int(image[1]), sys.version_info.minor} <= set(minors)
