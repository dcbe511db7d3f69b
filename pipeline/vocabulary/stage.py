"""The vocabulary stage of one layer: sample descriptors, seed words, run rounds to convergence."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lamella.pipeline.errors import CommitConflict, InputError, StageFailed
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.run.budget import check_memory
from lamella.pipeline.run.drive import OnProgress, Progress, complete, quiet, read_all_done
from lamella.pipeline.run.step import Runner, StoreStep, Whole
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once, done_keys, read_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import parse_record, read_record
from lamella.pipeline.vocabulary.checkpoint import WORDS, Checkpoint, read_health, read_report
from lamella.pipeline.vocabulary.choose import choose_assigner
from lamella.pipeline.vocabulary.exchange import recipe_digest
from lamella.pipeline.vocabulary.finish import FinishWork
from lamella.pipeline.vocabulary.ivf import NEAR, Reach
from lamella.pipeline.vocabulary.plan import LEAST_TASK_ROWS, TASK_ROWS, training_memory
from lamella.pipeline.vocabulary.projected import project_samples
from lamella.pipeline.vocabulary.round_assigner import reach_of_round
from lamella.pipeline.vocabulary.rounds import (
    LinkWork,
    MergeWork,
    SeedWork,
    SumTask,
    SumWork,
    Training,
    UpdateWork,
    link_tasks,
    round_key,
)
from lamella.pipeline.vocabulary.sample import SampleTask, SampleWork, cap_of, read_sample
from lamella.pipeline.vocabulary.seeding import choose_words
from lamella.schemas.base import digest_of
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import RoundReport, Vocabulary, VocabularySpec

HEALTH = "health"
"""The key of the task that measures finished words."""

OnRound = Callable[[str, RoundReport], None]


def no_round(layer: str, report: RoundReport) -> None:
    """Ignore the report of a round."""


def train_vocabulary(
    store: Store,
    runner: Runner,
    extraction: Extraction,
    layer: str,
    spec: VocabularySpec,
    *,
    threads: int = 1,
    on_progress: OnProgress = quiet,
    on_round: OnRound = no_round,
) -> Vocabulary:
    """Return a layer's vocabulary from the store, or train it.

    Args:
        threads: threads of a worker; their number changes no bit.

    Raises:
        InputError: descriptors were not kept, there are fewer descriptors than requested words, or
            a worker has too little memory for so many words.
        StageFailed: a step failed; the rounds before it stay done.
    """
    inputs = vocabulary_inputs(spec, extraction.inputs, layer)
    vocabulary_key = tree.keyed(layer, inputs)
    path = tree.VOCABULARY.at(keyed=vocabulary_key, layer=layer)
    if store.exists(path):
        return read_record(store, path, Vocabulary)
    parts = {"keyed": vocabulary_key, "layer": layer}
    _forget_freed(store, parts)
    stage = f"vocabulary {layer}"
    sampling = StoreStep(
        tree.SAMPLE,
        store.url,
        tree.SAMPLE.folder(**parts),
        inputs,
        SampleWork(cap_of(spec, extraction.indexed), spec.seed),
        label=f"sample {layer}",
        of_stage=stage,
    )
    on_progress(Progress(stage, 0, spec.rounds, 0, 0, stage))  # rows are not counted yet
    descriptors = extraction.descriptors(layer)
    tasks = [SampleTask(key, file) for key, file in descriptors.items()]
    samples = complete(store, runner, sampling, tasks, on_progress=on_progress)
    projection: FileRef | None = None
    trained = samples
    if spec.projection is not None and samples:
        projection, trained = project_samples(
            store, runner, parts, inputs, samples, spec.projection, spec.seed, stage, on_progress
        )
    folder = tree.SEED.folder(**parts)
    training = _training(store, folder, inputs, layer, spec, trained, threads)
    check_memory(
        training_memory(training.words, training.dimensions, training.rows, training.assigner),
        runner.memory_per_worker(),
        f"{training.words:,} words of {training.dimensions:,} dimensions take",
        "ask for fewer words, fewer dimensions (vocabulary.projection)",
    )
    seeded, last, reports = _rounds(store, runner, training, on_progress, on_round)
    vocabulary = _finished(store, runner, training, extraction, seeded, last, reports).model_copy(
        update={
            "projection": projection,
            "sample": tuple(record.files["sample"] for record in samples),
        }
    )
    return parse_record(store, path, Vocabulary, create_once(store, path, vocabulary.to_json()))


def _forget_freed(store: Store, parts: Mapping[str, str]) -> None:
    """Remove the records of a training whose files were freed, so that these are made again.

    The training had ended then; its vocabulary was lost since.
    """
    if read_done(store, tree.SEED.folder(**parts), "seed") is None:
        return  # it never came to its first words
    for step in (tree.SAMPLE, tree.PROJECT, tree.SEED):
        folder = step.folder(**parts)
        for record in read_all_done(store, folder, done_keys(store, folder)):
            if record is not None and record.freed:
                store.discard(tree.done(folder, record.key))


def vocabulary_inputs(spec: VocabularySpec, extraction: str, layer: str) -> str:
    """Return the digest of what decides a layer's words.

    Args:
        extraction: the digest that `extraction_outcome` returned.
    """
    decided = [spec.digest(), extraction, layer]
    # Until words of whitened descriptors had unit length, these digests named others.
    return digest_of([*decided, "unit words"] if spec.unit_words else decided)


def _training(
    store: Store,
    folder: str,
    inputs: str,
    layer: str,
    spec: VocabularySpec,
    samples: Sequence[DoneRecord],
    threads: int,
) -> Training:
    rows = sum(record.counts["descriptors"] for record in samples)
    words = spec.words if spec.words is not None else choose_words(rows)
    if rows < max(words, 1):
        raise InputError(
            f"layer {layer} gave {rows:,} descriptors for {words:,} words: a word needs at least "
            f"one, so at most {rows:,} words are possible (--words), or index more pictures"
        )
    first = read_committed(store, samples[0].files["sample"], read_sample)
    return Training(
        store.url,
        folder,
        inputs,
        layer,
        spec,
        words,
        first.vectors.shape[1],
        rows,
        choose_assigner(words, spec),
        tuple(record.files["sample"] for record in samples),
        tuple(record.files["held"] for record in samples),
        threads,
    )


def _rounds(
    store: Store,
    runner: Runner,
    training: Training,
    on_progress: OnProgress,
    on_round: OnRound,
) -> tuple[DoneRecord, DoneRecord, tuple[RoundReport, ...]]:
    """Seed the words and run all rounds.

    Returns:
        The records of the seeding and of the last round, and the report of each round.
    """
    seeding = training.step(tree.SEED, SeedWork(training))
    (seeded,) = complete(store, runner, seeding, [Whole("seed")])
    last = seeded
    reports: list[RoundReport] = []
    while not last.counts.get("done", 0):
        number = len(reports)
        progress = partial(_progress_of_round, on_progress, training, number)
        start = Checkpoint.of(last)
        last = _ended(store, training, round_key(number)) or _run_round(
            store, runner, training, start, tuple(reports), seeded.files["held"], progress
        )
        _discard_round(store, training.round_folder(number))
        reports.append(read_report(store, last))
        on_round(training.layer, reports[-1])
    ended, rows = len(reports), len(reports) * training.rows
    on_progress(Progress(training.stage, ended, ended, rows, rows, training.stage))
    return seeded, last, tuple(reports)


def _progress_of_round(
    on_progress: OnProgress, training: Training, number: int, summed: Progress
) -> None:
    """Report the rows of all rounds up to this one, by the progress of its summing tasks."""
    most, rows = max(training.spec.rounds, number + 1), training.rows
    done = number * rows + rows * summed.done // max(summed.total, 1)
    on_progress(Progress(training.stage, number, most, done, most * rows, training.stage))


def _ended(store: Store, training: Training, key: str) -> DoneRecord | None:
    """Return the record of a round, or of the task `health`, None if it has not ended.

    Raises:
        CommitConflict: it belongs to another training.
    """
    record = read_done(store, training.folder, key)
    if record is not None and record.inputs != training.inputs:
        raise CommitConflict(
            f"{training.folder} round {key} is a checkpoint of inputs {record.inputs[:12]}, "
            f"this training has {training.inputs[:12]}: the store belongs to another job, use "
            "another store"
        )
    return record


def _run_round(
    store: Store,
    runner: Runner,
    training: Training,
    start: Checkpoint,
    reports: tuple[RoundReport, ...],
    held: FileRef,
    on_progress: OnProgress,
) -> DoneRecord:
    """Run the round after those of `reports`; return its record."""
    number = len(reports)
    try:
        reach = reach_of_round(reports)
        links = _links(store, runner, training, start, number, reach) if start.words else ()
        summing = SumWork(training, number, start, links, reports)
        step = training.step(tree.SUM, summing, number, "round")
        tasks = sum_tasks(training, start)
        sums = tuple(complete(store, runner, step, tasks, on_progress=on_progress))
        merging = training.step(tree.MERGE, MergeWork(training, start, sums, reports), number)
        merged = tuple(complete(store, runner, merging, training.ranges()))
        ending = UpdateWork(training, start, sums, merged, reports, held)
        end = training.step(tree.ROUND, ending, number, "update")
        (record,) = complete(store, runner, end, [Whole(round_key(number))])
    except StageFailed:
        # Another run of the same training may have ended this round and removed its sums while
        # we were reading them. Then its checkpoint is there, with the same bits as ours.
        ended = _ended(store, training, round_key(number))
        if ended is None:
            raise
        return ended
    return record


def _links(
    store: Store,
    runner: Runner,
    training: Training,
    start: Checkpoint,
    number: int,
    reach: Reach = NEAR,
) -> tuple[FileRef, ...]:
    """Find the neighbours of a checkpoint's words; return a file for each range of cells.

    Without cells there are none.
    """
    if start.cells is None:
        return ()
    linking = training.step(tree.LINK, LinkWork(start, reach), number)
    linked = complete(store, runner, linking, link_tasks(start.cells.rows))
    return tuple(record.files["near"] for record in linked)


def sum_tasks(training: Training, start: Checkpoint) -> list[SumTask]:
    """Return the summing tasks of a round: runs of shards with at least `TASK_ROWS` rows a word.

    So the sums of a task are no larger than its rows, however many words there are.
    """
    least = max(TASK_ROWS * training.words, LEAST_TASK_ROWS)
    groups: list[list[FileRef]] = [[]]
    for file in training.samples:
        if sum(each.rows for each in groups[-1]) >= least:
            groups.append([])
        groups[-1].append(file)
    keys = [f"sum-{number:05d}" for number in range(len(groups))]
    return [
        SumTask(key, tuple(group), start.words.get(key))
        for key, group in zip(keys, groups, strict=True)
    ]


def _discard_round(store: Store, folder: str) -> None:
    """Remove the intermediate files of a round; call it once the round's checkpoint is there.

    Sums are the largest files of a training. A record is removed before its files, so that no
    record names a missing file. The words of the rows stay, because the checkpoint names them.
    """
    for key in done_keys(store, folder):
        record = read_done(store, folder, key)
        if record is not None:
            store.discard(tree.done(folder, record.key))
            for file_name, file in record.files.items():
                if file_name != WORDS.rstrip("-"):
                    store.discard(file.path)


def _measure(
    store: Store, runner: Runner, training: Training, last: DoneRecord, number: int, held: FileRef
) -> DoneRecord:
    """Measure the words after this many rounds; return the record of the task `health`."""
    try:
        links = _links(store, runner, training, Checkpoint.of(last), number)
        measuring = training.step(tree.HEALTH, FinishWork(training, last, links, held))
        (measured,) = complete(store, runner, measuring, [Whole(HEALTH)])
    except StageFailed:
        # Another run may have measured them and removed the links meanwhile, as in a round.
        ended = _ended(store, training, HEALTH)
        if ended is None:
            raise
        return ended
    return measured


def _finished(
    store: Store,
    runner: Runner,
    training: Training,
    extraction: Extraction,
    seeded: DoneRecord,
    last: DoneRecord,
    reports: tuple[RoundReport, ...],
) -> Vocabulary:
    """Measure the words on held-out rows; return the vocabulary of a training that has ended."""
    measured = _ended(store, training, HEALTH) or _measure(
        store, runner, training, last, len(reports), seeded.files["held"]
    )
    _discard_round(store, training.round_folder(len(reports)))
    health = read_committed(store, measured.files["health"], read_health)
    centroids = last.files["centroids"]
    return Vocabulary(
        layer=training.layer,
        words=centroids.rows,
        words_requested=training.words,
        dimensions=training.dimensions,
        spec=training.spec.digest(),
        extraction=extraction.inputs,
        recipe=recipe_digest(extraction.spec, training.layer),
        rounds=reports,
        health=health,
        centroids=centroids,
        counts=last.files["counts"],
        cells=last.files.get("cells"),
        neighbours=measured.files.get("neighbours"),
        probes=measured.counts["probes"],
        held=seeded.files["held"],
    )
