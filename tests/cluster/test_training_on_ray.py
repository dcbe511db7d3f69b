"""Training on a real Ray: the words of one process, for any number of workers and when one dies."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Step
from lamella.pipeline.vocabulary import stage as vocabulary_stage
from lamella.pipeline.vocabulary.stage import train_vocabulary
from lamella.schemas.vocabulary import VocabularySpec
from tests.pipeline.vocabulary.activations import LAYER, given_activations
from tests.pipeline.vocabulary.vectors import clustered

ROWS = clustered(6_000, 32, 200)
SPEC = VocabularySpec(words=150, assigner="cells", rounds=5)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The identity of the words that one process trains."""
    store, extraction = given_activations(tmp_path_factory.mktemp("serial"), ROWS)
    return train_vocabulary(store, SerialRunner(), extraction, LAYER, SPEC).identity()


@pytest.fixture(autouse=True)
def several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a round have six tasks, though there are few rows."""
    monkeypatch.setattr(vocabulary_stage, "LEAST_TASK_ROWS", 1_000)


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_workers_train_the_words_of_one_process(
    tmp_path: Path, expected: str, workers: int
) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    with RayRunner(workers=workers) as runner:
        assert runner.memory_per_worker() > 1 << 28
        vocabulary = train_vocabulary(store, runner, extraction, LAYER, SPEC)
    assert vocabulary.identity() == expected


@pytest.mark.slow
@pytest.mark.usefixtures("four_cpus")
def test_four_workers_train_the_words_of_one_process(tmp_path: Path, expected: str) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    with RayRunner(workers=4) as runner:
        vocabulary = train_vocabulary(store, runner, extraction, LAYER, SPEC)
    assert vocabulary.identity() == expected


@pytest.mark.slow
@pytest.mark.usefixtures("two_nodes")
def test_two_nodes_train_the_words_of_one_process(tmp_path: Path, expected: str) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    with RayRunner() as runner:
        vocabulary = train_vocabulary(store, runner, extraction, LAYER, SPEC)
    assert vocabulary.identity() == expected


class KillsAWorker(RayRunner):
    """Kills the first worker that is seen at work in round 2."""

    def __init__(self) -> None:
        super().__init__(workers=2)
        self.killed: list[int] = []

    def run(self, stage: Step[Any], tasks: Sequence[Any]) -> Iterator[Outcome]:
        over = threading.Event()
        hunter = threading.Thread(target=self._hunt, args=(over,))
        if stage.name.startswith("round 2 "):
            hunter.start()
        try:
            yield from super().run(stage, tasks)
        finally:
            over.set()
            if hunter.ident is not None:
                hunter.join()

    def _hunt(self, over: threading.Event) -> None:
        while not (self.killed or over.is_set()):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (process / "cmdline").read_bytes().startswith(b"ray::Worker.apply"):
                        os.kill(int(process.name), signal.SIGKILL)
                        self.killed.append(int(process.name))
                        return


@pytest.mark.usefixtures("two_cpus")
def test_a_worker_that_is_killed_in_a_round_changes_no_word(tmp_path: Path, expected: str) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    runner = KillsAWorker()
    with runner:
        vocabulary = train_vocabulary(store, runner, extraction, LAYER, SPEC)
    assert len(runner.killed) == 1
    assert vocabulary.identity() == expected
