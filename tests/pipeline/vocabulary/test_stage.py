"""Training over files: the bits of training in memory, however cut, and what stops it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.errors import CommitConflict, InputError, StageFailed
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.index.encode import open_assigner
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Step
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary import stage
from lamella.pipeline.vocabulary.checkpoint import read_centroids
from lamella.pipeline.vocabulary.sample import join_samples, read_sample
from lamella.pipeline.vocabulary.stage import train_vocabulary
from lamella.pipeline.vocabulary.train import train_in_memory
from lamella.schemas.files import DoneRecord
from lamella.schemas.vocabulary import ProjectionSpec, Vocabulary, VocabularySpec
from tests.pipeline.vocabulary.activations import LAYER, given_activations
from tests.pipeline.vocabulary.vectors import clustered

ROWS = clustered(4_000, 16, 120)
CELLS = VocabularySpec(words=100, assigner="cells", rounds=8)


def train(store: Store, extraction: Extraction, spec: VocabularySpec, **more: Any) -> Vocabulary:
    return train_vocabulary(store, SerialRunner(), extraction, LAYER, spec, **more)


def words_of(store: Store, vocabulary: Vocabulary) -> NDArray[np.float32]:
    assert vocabulary.centroids is not None
    return read_centroids(open_committed(store, vocabulary.centroids))


@pytest.mark.parametrize(
    "spec",
    [
        CELLS,
        VocabularySpec(words=100, assigner="exact", rounds=8),
        VocabularySpec(words=100, assigner="cells", rounds=8, batch=0.25),
        VocabularySpec(words=100, assigner="cells", rounds=8, batch=0.25, full_pass=False),
        VocabularySpec(
            words=100, assigner="cells", rounds=5, projection=ProjectionSpec(dimensions=6)
        ),
    ],
    ids=["cells", "exact", "parts", "parts alone", "projected"],
)
def test_words_are_the_same_however_the_corpus_is_cut(
    tmp_path: Path, spec: VocabularySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LEAST_TASK_ROWS", 500)  # several tasks, of few shards each
    found = []
    for shard_images, threads in ((200, 1), (17, 1), (40, 3)):
        store, extraction = given_activations(
            tmp_path / f"{shard_images}", ROWS, shard_images=shard_images
        )
        vocabulary = train(store, extraction, spec, threads=threads)
        found.append((words_of(store, vocabulary).tobytes(), vocabulary.rounds, vocabulary.health))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("assigner", ["cells", "exact"])
def test_files_give_the_bits_of_training_in_memory(
    tmp_path: Path, assigner: Literal["cells", "exact"]
) -> None:
    spec = VocabularySpec(words=100, assigner=assigner, rounds=8)
    store, extraction = given_activations(tmp_path, ROWS)
    vocabulary = train(store, extraction, spec)
    sample = join_samples([read_sample(open_committed(store, file)) for file in vocabulary.sample])
    words, reports = train_in_memory(sample, spec)
    np.testing.assert_array_equal(words_of(store, vocabulary), words)
    bare = [report.model_copy(update={"held_error": None}) for report in vocabulary.rounds]
    assert bare == list(reports)


def test_a_finished_vocabulary_says_what_it_is_worth(tmp_path: Path) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    vocabulary = train(store, extraction, CELLS)
    health = vocabulary.health
    assert health is not None
    # Each picture has 20 descriptors: one, a sixteenth, is held out.
    assert health.held_rows == 200
    assert sum(file.rows for file in vocabulary.sample) == 3_800
    assert health.recall >= 0.995
    assert health.dead == 0
    held = read_sample(open_committed(store, vocabulary.held))  # type: ignore[arg-type]
    assigned = open_assigner(store, vocabulary).assign(held.descriptors())
    assert assigned.squared_distances.mean() == health.held_error
    assert all(report.held_error is not None for report in vocabulary.rounds)


def test_sums_go_and_checkpoints_stay(tmp_path: Path) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    vocabulary = train(store, extraction, CELLS)
    left = {path.name.split(".", 2)[2] for path in tmp_path.rglob("rounds/0*/*.arrow")}
    assert left == {"words.arrow"}
    assert not list(tmp_path.rglob("rounds/0*/done/*"))
    checkpoints = list(tmp_path.rglob("rounds/0*.cells.arrow"))
    assert len(checkpoints) == len(vocabulary.rounds)


class StopsAt(SerialRunner):
    """Fails every task of the stage whose name begins so, from its `after`th run on."""

    def __init__(self, name: str, after: int) -> None:
        self.name, self.after = name, after

    def run(self, stage: Step[Any], tasks: Sequence[Any]) -> Iterator[Outcome]:
        if stage.name.startswith(self.name):
            self.after -= 1
            if self.after < 0:
                yield from (Outcome(task.key, None, "stopped here") for task in tasks)
                return
        yield from super().run(stage, tasks)


@pytest.mark.parametrize("step", ["seed", "link", "round", "merge", "update", "health"])
def test_stopped_in_any_step_a_training_goes_on_to_the_same_bits(tmp_path: Path, step: str) -> None:
    store, extraction = given_activations(tmp_path / "whole", ROWS)
    expected = train(store, extraction, CELLS)
    store, extraction = given_activations(tmp_path / "stopped", ROWS)
    after = 0 if step in ("seed", "health") else 2
    with pytest.raises(StageFailed, match="stopped here"):
        train_vocabulary(store, StopsAt(step, after), extraction, LAYER, CELLS)
    assert train(store, extraction, CELLS).identity() == expected.identity()


def test_fewer_descriptors_than_words_are_refused_with_how_many_are_possible(
    tmp_path: Path,
) -> None:
    store, extraction = given_activations(tmp_path, ROWS[:40])
    with pytest.raises(InputError, match=r"gave 38 descriptors for 50 words: .* at most 38 words"):
        train(store, extraction, VocabularySpec(words=50))


@pytest.mark.parametrize("assigner", ["cells", "exact"])
def test_descriptors_that_are_all_equal_give_one_word(
    tmp_path: Path, assigner: Literal["cells", "exact"]
) -> None:
    store, extraction = given_activations(tmp_path, np.repeat(ROWS[:1], 400, axis=0))
    vocabulary = train(store, extraction, VocabularySpec(words=8, assigner=assigner))
    assert (vocabulary.words, vocabulary.words_requested) == (1, 8)
    assert vocabulary.rounds[-1].dropped == 7
    found = open_assigner(store, vocabulary).assign(ROWS[:3].astype(np.float16).astype(np.float32))
    assert found.words.tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_named_with_file_and_row(tmp_path: Path, bad: float) -> None:
    vectors = ROWS[:400].copy()
    vectors[257, 3] = bad
    store, extraction = given_activations(tmp_path, vectors)
    # Shards of ten pictures, 200 descriptors each: row 57 of the second.
    with pytest.raises(StageFailed, match=r"b11/00001\.\w+\.parquet: row 57 holds a number"):
        train(store, extraction, CELLS)


@pytest.mark.parametrize("words", [0, -1])
def test_no_words_are_refused(words: int) -> None:
    with pytest.raises(InputError, match=r"vocabulary\.words: .* greater than or equal to 1"):
        load_job(None, {"vocabulary.words": words})


def test_one_word_is_the_mean(tmp_path: Path) -> None:
    store, extraction = given_activations(tmp_path, ROWS[:400])
    vocabulary = train(store, extraction, VocabularySpec(words=1))
    sample = join_samples([read_sample(open_committed(store, file)) for file in vocabulary.sample])
    mean = sample.descriptors().astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(words_of(store, vocabulary)[0], mean, rtol=1e-6)


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    with pytest.raises(StageFailed):
        train_vocabulary(store, StopsAt("update", 2), extraction, LAYER, CELLS)
    (path,) = tmp_path.glob("vocabularies/*/*/done/00001.json")
    record = DoneRecord.from_json(path.read_bytes())
    folder = "/".join(path.relative_to(tmp_path).parts[:3])
    foreign = record.inputs[:12] + "f" * 52  # the folder's own digits, and others behind them
    path.write_bytes(record.model_copy(update={"inputs": foreign}).to_json())
    with pytest.raises(
        CommitConflict, match=rf"{folder} round 00001 is a checkpoint of inputs {foreign[:12]}"
    ):
        train(store, extraction, CELLS)


class Cramped(SerialRunner):
    """A worker with 100 MiB."""

    def memory_per_worker(self) -> int:
        return 100 << 20


def test_what_cannot_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    with pytest.raises(
        InputError,
        match=r"^100 words of 16 dimensions take \d+ MB a worker \(process .*, and a worker "
        r"has 105 MB: ask for fewer words",
    ):
        train_vocabulary(store, Cramped(), extraction, LAYER, CELLS)
    assert not list(tmp_path.rglob("rounds"))


def test_progress_is_told_within_rounds_and_in_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LEAST_TASK_ROWS", 500)
    monkeypatch.setattr(stage, "TASK_ROWS", 1)
    store, extraction = given_activations(tmp_path, ROWS, shard_images=40)
    told: list[Progress] = []
    vocabulary = train(store, extraction, CELLS, on_progress=told.append)
    mine = [each for each in told if each.stage == f"vocabulary {LAYER}"]
    assert mine[0].units_total == 0  # before rows are drawn, and counted
    rows, rounds = sum(file.rows for file in vocabulary.sample), len(vocabulary.rounds)
    running = [each for each in mine if each.units_total == 8 * rows]
    assert {each.total for each in running} == {8}
    # Five tasks of 800 rows: each is told, and rounds follow on one another.
    second = [each.units_done for each in running if each.done == 1]
    assert second == [rows + part * rows // 5 for part in range(6)]
    assert [each.units_done for each in running] == sorted(each.units_done for each in running)
    assert (mine[-1].done, mine[-1].total) == (rounds, rounds)
    assert mine[-1].units_done == mine[-1].units_total == rounds * rows


def test_every_picture_gives_as_many_where_all_would_be_too_many(tmp_path: Path) -> None:
    store, extraction = given_activations(tmp_path, ROWS)
    vocabulary = train(store, extraction, VocabularySpec(words=50, descriptors=1_300))
    # 200 pictures: 6 of each are 1,200.
    assert sum(file.rows for file in vocabulary.sample) == 1_200
