"""No command, worker or child imports what lies in the folder one stands in, or beside pictures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from lamella.cluster.commands.cli import app
from lamella.cluster.ray.connect import connected
from lamella.pipeline.plan import probe
from tests.conftest import RaySwitch
from tests.tiny import tiny_pictures

ROOT = Path(__file__).parents[2]
MODULES = (
    *(
        "lamella",
        "pydantic",
        "numpy",
        "torch",
        "ray",
        "pyarrow",
        "numba",
        "yaml",
        "typing_extensions",
    ),
    *("sitecustomize", "usercustomize", "rich", "typer", "traceback", "json", "tests", "grpc"),
)
PACKAGES = ("cluster", "pipeline", "schemas", "PIL")
JOB = """
[corpus]
shard_images = 3
[network.preprocess]
short_edge = 32
crop = 32
[vocabulary]
words = 4
rounds = 3
assigner = "exact"
[index]
segment_images = 3
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of pictures with namesakes of our modules, each of which leaves a canary."""
    folder = tiny_pictures(tmp_path / "pictures")
    canaries = tmp_path / "canaries"
    canaries.mkdir()
    code = (
        "import os\n"
        f"open(os.path.join({str(canaries)!r}, __name__ + '.' + str(os.getpid())), 'w').close()\n"
        "raise SystemExit('a namesake was imported')\n"
    )
    for name in MODULES:
        (folder / f"{name}.py").write_text(code)
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    (folder / ".numba_config.yaml").write_text("disable_jit: 1\ncache_dir: .\n")
    (tmp_path / "job.toml").write_text(JOB)
    return folder


def run(
    folder: Path, command: list[str], *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command from inside a folder, as an installation runs it."""
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def canaries(folder: Path) -> list[str]:
    return sorted(os.listdir(folder.parent / "canaries"))


INSTALLED = [str(Path(sys.executable).with_name("lamella"))]


def test_a_namesake_leaves_its_canary_where_it_is_imported(hostile: Path) -> None:
    subprocess.run([sys.executable, "-c", "import pydantic"], cwd=hostile, check=False)
    assert [name.partition(".")[0] for name in canaries(hostile)] == ["pydantic"]


ON_RAY_TOO = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.skipif(not Path(INSTALLED[0]).exists(), reason="lamella is not installed")
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("one process", marks=pytest.mark.slow),
        pytest.param("each", marks=ON_RAY_TOO),
        pytest.param("both", marks=ON_RAY_TOO),
    ],
)
def test_commands_run_beside_namesakes_of_their_modules(hostile: Path, engine: str) -> None:
    """Index and ask in one process; or index on Ray; or do each of them both ways.

    That workers look nowhere else either is tested below.
    """
    job = ("--job", hostile.parent / "job.toml")
    if engine == "both":
        run(hostile, INSTALLED, "index", ".", "--into", "../one", *job, "--engine", "serial")
    on = ("--engine", "serial") if engine == "one process" else ("--workers", "1")
    run(hostile, INSTALLED, "index", ".", "--into", "../two", *job, *on)
    one = ("--workers", "1") if engine == "both" else ("--engine", "serial")
    run(hostile, INSTALLED, "query", "../two", "00.png", "-k", "2", *one)
    assert canaries(hostile) == []
    assert [path.name for path in hostile.glob("*/") if path.name not in PACKAGES] == []


EVERY = {
    "index": (".", "--into", "../one", "--job", "../job.toml", "--engine", "serial"),
    "plan": (".", "--into", "../one", "--job", "../job.toml", "--sample", "8"),
    "query": ("../one", "00.png", "-k", "2"),
    "evaluate": ("../one", "--protocol", "groups", "--engine", "serial"),
    "explain": ("../one", "thing/00.png", "thing/01.png"),
    "compare": ("../one", "../one", "--engine", "serial"),
    "duplicates": ("../one", "--engine", "serial"),
    "export": ("../one", "--to", "../layers"),
    "reproduce": ("--data", "ukb=../ukb", "--into", "../paper", "--plan", "--sample", "2"),
    "serve": ("../one", "--port", "0"),
    "reindex": ("../one", "--engine", "serial"),
    "runs": ("../one",),
    "expire": ("../one", "--dry-run"),
    "tag": ("../one",),
    "forget": ("../one", "--sha256", "1f" * 32, "--check"),
    "status": ("../one",),
    "snapshots": ("../one",),
    "verify": ("../one",),
    "gc": ("../one", "--dry-run"),
    "repair": ("../one",),
    "retry": ("../one", "--engine", "serial"),
    "doctor": ("--store", "../one"),
    "vocabulary": ("show", "../one"),
    "bench": ("search", "-n", "1000"),
    "demo": ("../demo", "--objects", "2", "--engine", "serial"),
}
"""What each command is given, in an order in which they work."""


@pytest.mark.slow
@pytest.mark.skipif(not Path(INSTALLED[0]).exists(), reason="lamella is not installed")
def test_every_command_runs_beside_namesakes(hostile: Path) -> None:
    commands = app.registered_commands
    names = {each.name or getattr(each.callback, "__name__", "") for each in commands}
    names |= {str(each.name) for each in app.registered_groups}
    assert names == EVERY.keys()
    (hostile / "thing").mkdir()
    for name in ("00.png", "01.png"):
        (hostile / name).rename(hostile / "thing" / name)
    (hostile / "00.png").write_bytes((hostile / "thing" / "00.png").read_bytes())
    (hostile.parent / "ukb").mkdir()
    for number in range(4):
        picture = hostile.parent / f"ukb/ukbench{number:05d}.png"
        picture.write_bytes((hostile / "00.png").read_bytes())
    # It serves until it is told to end, by which time it has opened all that it needs.
    for_a_while = ["sh", "-c", 'timeout 20 "$@"; test $? = 124', "sh", *INSTALLED]
    for name, arguments in EVERY.items():
        run(hostile, for_a_while if name == "serve" else INSTALLED, name, *arguments)
        assert canaries(hostile) == [], name


def test_a_plan_beside_namesakes_times_the_real_libraries(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert probe._starting() > 0
    assert canaries(hostile) == []


def test_the_current_folder_is_no_code_by_an_empty_or_relative_part_of_a_variable(
    hostile: Path,
) -> None:
    # An unset variable leaves such parts: PYTHONPATH=$PYTHONPATH:/x.
    for name in ("lamella", "traceback", "json", "sitecustomize", "usercustomize"):
        (hostile / f"{name}.py").unlink()  # imported before any code of ours
    for before in ("", ".", "../pictures"):
        shown = run(hostile, [sys.executable, "-c", LOOK], PYTHONPATH=f"{before}:{ROOT}")
        assert shown.stdout == f"[] {ROOT}\n"
    run(hostile, [sys.executable, "-m", "lamella"], "--help")
    assert canaries(hostile) == []


LOOK = """
import lamella.cluster.start, os, sys
here = os.getcwd()
print([part for part in sys.path if not part or part.startswith(here)], os.environ["PYTHONPATH"])
"""


def test_what_pythonpath_names_in_full_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("print('theirs')")
    code = "import lamella.cluster.start, theirs"
    shown = run(tmp_path, [sys.executable, "-c", code], PYTHONPATH=str(tmp_path))
    assert shown.stdout == "theirs\n"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process in another folder, started by a script in a third one."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "scripts" / "script.py")])
    monkeypatch.setattr(sys, "path", [str(tmp_path / "scripts"), "", *sys.path])
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_workers_look_neither_in_the_current_folder_nor_in_the_scripts(
    ray_switch: RaySwitch, elsewhere: Path
) -> None:
    ray_switch.close()
    with connected(cpus=1):
        path = ray.get(ray.remote(lambda: __import__("sys").path).remote(), timeout=60)
    assert [part for part in path if not part or part.startswith(str(elsewhere))] == []
