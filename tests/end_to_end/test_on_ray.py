"""On Ray everything gives the bytes of one process; the one matrix of workers, servers and nodes.

What one process gives is proved in test_same_bytes.py, test_one_pass.py and test_query_runs.py;
rankings over shards that are cut otherwise, in test_query_matrix.py; words alone, in
test_training_on_ray.py.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamella.cluster.ray.engine import Engine
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.step import Runner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.storage import open_store
from tests.builders import index_into
from tests.command_line import lamella, lamella_apart
from tests.conftest import Indexed
from tests.end_to_end.commands import ENGINE, Stores, exported
from tests.end_to_end.test_command_line import is_whole
from tests.end_to_end.test_nightly import changed, filled, index
from tests.end_to_end.test_one_pass import made
from tests.end_to_end.test_query_runs import ask
from tests.end_to_end.test_query_runs import contents as contents_of_run
from tests.pipeline.corpus.vectors import VECTORS, parquet
from tests.s3 import KEY, SECRET, upload
from tests.tiny import tiny_job, tiny_pictures

Run = Callable[[Runner | None, Path], object]
"""Does something in a new folder, in this process or by a runner, and returns what it made."""


@pytest.fixture(scope="session")
def runs(indexed: Indexed, _all_stores: Stores) -> dict[str, Run]:
    """What is compared: an index in two passes, one in a single pass, one with vectors that were
    given, and answers.
    """
    stores = _all_stores

    def index(runner: Runner | None, folder: Path) -> object:
        if runner is None:
            return indexed.snapshot.root_digest
        return index_into(folder, indexed.source, runner, threads=1).root_digest

    def index_with_words(runner: Runner | None, folder: Path) -> object:
        job = tiny_job(vocabulary_from=str(exported(stores)))
        index_into(folder, stores.pictures, runner, job=job, threads=1)
        return made(folder, "")

    def query(runner: Runner | None, folder: Path) -> object:
        store = Path(shutil.copytree(stores.one, folder))
        engine = ENGINE if runner is None else Engine(runner, lambda: 1)
        return [
            contents_of_run(store, ask(stores, store, engine, what))
            for what in ("pictures", "snapshot")
        ]

    def index_vectors(runner: Runner | None, folder: Path) -> object:
        names = [f"{number:02d}.png" for number in range(6)]
        given = parquet(_made(folder.parent / f"{folder.name}-given"), names, VECTORS[[0] * 6])
        job = tiny_job(vectors=[{"name": "clip", "file": str(given)}])
        return index_into(folder, stores.pictures, runner, job=job, threads=1).root_digest

    return {
        "index": index,
        "index with words": index_with_words,
        "index vectors": index_vectors,
        "query": query,
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def expected(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process makes."""
    folder = tmp_path_factory.mktemp("expected")
    return {name: run(None, folder / name) for name, run in runs.items()}


every_run = pytest.mark.parametrize("name", ["index", "index with words", "index vectors", "query"])


@pytest.mark.usefixtures("two_cpus", "stores")
@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("index", 2),
        pytest.param("index vectors", 2, marks=pytest.mark.slow),
        pytest.param("query", 2, marks=pytest.mark.slow),
        pytest.param("index with words", 2, marks=pytest.mark.slow),
        *(
            pytest.param(name, workers, marks=pytest.mark.slow)
            for name in ("index", "index with words", "index vectors", "query")
            for workers in (1, 3)
        ),
    ],
)
def test_workers_give_the_bytes_of_one_process(
    name: str, workers: int, runs: dict[str, Run], expected: dict[str, Any], tmp_path: Path
) -> None:
    with RayRunner(workers=workers) as runner:
        assert runs[name](runner, tmp_path / "store") == expected[name]


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_an_index_is_renewed_as_by_one_process(stores: Stores, tmp_path: Path) -> None:
    words = str(exported(stores))
    source = filled(tmp_path / "pictures")
    index(tmp_path / "store", source, words)
    changed(source)
    with RayRunner(workers=2) as runner:
        opened = open_store(str(tmp_path / "store"))
        snapshot = reindex(opened, runner, threads=1, watch=Watch())
    assert snapshot.root_digest == index(tmp_path / "fresh", source, words).root_digest


@pytest.mark.slow
@every_run
@pytest.mark.usefixtures("four_cpus", "stores")
def test_more_workers_than_tasks_give_the_bytes_of_one_process(
    name: str, runs: dict[str, Run], expected: dict[str, Any], tmp_path: Path
) -> None:
    with RayRunner(workers=4) as runner:
        assert runs[name](runner, tmp_path / "store") == expected[name]


@pytest.mark.slow
@every_run
@pytest.mark.usefixtures("two_nodes", "stores")
def test_two_nodes_give_the_bytes_of_one_process(
    name: str, runs: dict[str, Run], expected: dict[str, Any], tmp_path: Path
) -> None:
    with RayRunner() as runner:
        assert runs[name](runner, tmp_path / "store") == expected[name]


@pytest.mark.slow
@pytest.mark.ray
def test_the_demo_runs_on_ray_as_everyone_first_meets_it(tmp_path: Path) -> None:
    shown = lamella_apart("demo", tmp_path / "demo", "--objects", "8")
    is_whole(shown, tmp_path / "demo")


@pytest.mark.slow
@pytest.mark.ray
def test_the_command_line_works_on_s3_and_stores_no_secret(bucket: str, tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    source = upload(pictures, f"s3://{bucket}/command-pictures")
    store = f"s3://{bucket}/command"
    # Workers inherit the environment, and nothing else tells them where S3 is.
    indexed = lamella_apart(
        "index", source, "--into", store, "--words", 32, "--workers", 1, "--json"
    )
    assert indexed.returncode == 0, indexed.stderr
    assert json.loads(indexed.stdout)["indexed"] == 5
    asked = lamella("query", store, f"{source}/01.png", "--engine", "serial", "-k", "2", "--json")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["rankings"][0]["name"] == "01.png"
    said = indexed.stdout + indexed.stderr + asked.stdout + asked.stderr
    opened = open_store(store)
    stored = b"".join(opened.read(each.path) for each in opened.walk())
    for secret in (KEY, SECRET):
        assert secret not in said
        assert secret.encode() not in stored
