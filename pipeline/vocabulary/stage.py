"""The vocabulary stage: sample, seed, then rounds until the words settle; one layer at a time."""

from collections.abc import Callable, Sequence

from pipeline.errors import InputError, StageFailed
from pipeline.extract.stage import Extraction
from pipeline.run.drive import OnProgress, Progress, complete, quiet
from pipeline.run.stage import Runner
from pipeline.store import layout
from pipeline.store.commit import create_once, open_committed, read_done
from pipeline.store.records import parse_record, read_record
from pipeline.store.storage import Store
from pipeline.store.tables import map_arrow
from pipeline.vocabulary.assign import choose_assigner
from pipeline.vocabulary.rounds import (
    Checkpoint,
    PartialStage,
    PartialTask,
    SeedStage,
    Training,
    UpdateStage,
    Whole,
    partial_tasks,
    read_report,
    round_key,
)
from pipeline.vocabulary.sample import SampleStage, SampleTask
from pipeline.vocabulary.seeding import choose_words
from schemas.base import digest_of
from schemas.files import DoneRecord, FileRef
from schemas.vocabulary import RoundReport, Vocabulary, VocabularySpec

OnRound = Callable[[str, RoundReport], None]


def no_round(layer: str, report: RoundReport) -> None:
    """Show nothing of a round."""


def train_vocabulary(
    store: Store,
    runner: Runner,
    extraction: Extraction,
    layer: str,
    spec: VocabularySpec,
    *,
    on_progress: OnProgress = quiet,
    on_round: OnRound = no_round,
) -> Vocabulary:
    """Return a layer's visual words, trained now or found in the store.

    Raises:
        InputError: the layer gave fewer descriptors than words were asked for.
        StageFailed: a step failed; the rounds before it are kept.
    """
    inputs = vocabulary_inputs(spec, extraction.inputs, layer)
    vocabulary_key = layout.keyed(layer, inputs)
    path = layout.vocabulary_record(vocabulary_key, layer)
    if store.exists(path):
        return read_record(store, path, Vocabulary)
    folder = layout.vocabulary(vocabulary_key, layer)
    samples = complete(
        store,
        runner,
        SampleStage(
            store.url, f"{folder}/sample", inputs, layer, spec.descriptors_per_image, spec.seed
        ),
        [
            SampleTask(record.key, record.files[layer])
            for record in extraction.records
            if layer in record.files
        ],
        f"{folder}/sample",
        inputs,
        on_progress=on_progress,
    )
    training = _training(store, folder, inputs, layer, spec, samples)
    vocabulary = _rounds(store, runner, training, samples, extraction.inputs, on_progress, on_round)
    return parse_record(store, path, Vocabulary, create_once(store, path, vocabulary.to_json()))


def vocabulary_inputs(spec: VocabularySpec, extraction: str, layer: str) -> str:
    """Return the digest of what decides a layer's words; `extraction` is that of activations."""
    return digest_of([spec.digest(), extraction, layer])


def _training(
    store: Store,
    folder: str,
    inputs: str,
    layer: str,
    spec: VocabularySpec,
    samples: Sequence[DoneRecord],
) -> Training:
    descriptors = sum(record.counts["descriptors"] for record in samples)
    words = spec.words if spec.words is not None else choose_words(descriptors)
    if descriptors < max(words, 1):
        raise InputError(
            f"layer {layer} gave {descriptors:,} descriptors for {words:,} words: a word needs at "
            "least one, so ask for fewer words (--words) or index more pictures"
        )
    return Training(
        store.url,
        folder,
        inputs,
        layer,
        spec,
        words,
        choose_assigner(words, spec),
        tuple(record.files["sample"] for record in samples),
    )


def _rounds(
    store: Store,
    runner: Runner,
    training: Training,
    samples: Sequence[DoneRecord],
    extraction: str,
    on_progress: OnProgress,
    on_round: OnRound,
) -> Vocabulary:
    folder, inputs = training.folder, training.inputs
    (seeded,) = complete(store, runner, SeedStage(training), [Whole("seed")], folder, inputs)
    start = Checkpoint.of(seeded)
    tasks = partial_tasks([(record.key, record.files["sample"]) for record in samples])
    reports: list[RoundReport] = []
    while True:
        number = len(reports)
        most = max(training.spec.rounds, number + 1)
        on_progress(Progress(f"vocabulary {training.layer}", number, most, number, most))
        moved = read_done(store, folder, round_key(number)) or _move_words(
            store, runner, training, start, tasks, tuple(reports), seeded.files["recall"]
        )
        _discard_partials(store, training.round_folder(number), tasks)
        reports.append(read_report(store, moved))
        on_round(training.layer, reports[-1])
        start = Checkpoint.of(moved)
        if moved.counts["done"]:
            break
    on_progress(
        Progress(f"vocabulary {training.layer}", number + 1, number + 1, number + 1, number + 1)
    )
    centroids = start.centroids
    dimensions = map_arrow(open_committed(store, centroids)).column("centroid").type.list_size
    return Vocabulary(
        layer=training.layer,
        words=centroids.rows,
        words_requested=training.words,
        dimensions=dimensions,
        spec=training.spec.digest(),
        extraction=extraction,
        rounds=tuple(reports),
        centroids=centroids,
    )


def _move_words(
    store: Store,
    runner: Runner,
    training: Training,
    start: Checkpoint,
    tasks: Sequence[PartialTask],
    reports: tuple[RoundReport, ...],
    recall_rows: FileRef,
) -> DoneRecord:
    """Return the record of the round that follows these reports, having run it."""
    number = len(reports)
    folder, inputs = training.folder, training.inputs
    sums = training.round_folder(number)
    try:
        stage = PartialStage(training, number, start)
        partials = tuple(complete(store, runner, stage, tasks, sums, inputs))
        update = UpdateStage(training, number, start, partials, reports, recall_rows)
        (moved,) = complete(store, runner, update, [Whole(round_key(number))], folder, inputs)
    except StageFailed:
        # Another run of the same training may have ended this round and removed its sums
        # from under us; then its checkpoint stands, and is ours to the bit.
        ended = read_done(store, folder, round_key(number))
        if ended is None:
            raise
        return ended
    return moved


def _discard_partials(store: Store, folder: str, tasks: Sequence[PartialTask]) -> None:
    """Remove a round's partial sums once its checkpoint stands: nothing reads them again.

    They are the largest thing of a training, up to K x D float64 a shard and round. The record
    goes first, so that no record ever names a file that is gone.
    """
    for task in tasks:
        record = read_done(store, folder, task.key)
        if record is not None:
            store.discard(layout.done(folder, task.key))
            for file in record.files.values():
                store.discard(file.path)
