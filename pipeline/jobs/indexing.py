"""The indexing job: from settings and a source to a published snapshot."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lamella.pipeline.corpus.forgotten import without_forgotten
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.joined import each_part, parts_of
from lamella.pipeline.corpus.joined_listing import list_corpus
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.sources import OnEntries, plain_source, quietly
from lamella.pipeline.corpus.stage import (
    check_pictures,
    corpus_inputs,
    decode_limits,
    in_utc,
)
from lamella.pipeline.corpus.vector_listing import list_vectors
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.index.publish import draft_snapshot, make_totals, read_weights
from lamella.pipeline.index.words_fit import fits_of
from lamella.pipeline.jobs.gate import Gate, open_gate
from lamella.pipeline.jobs.kept_words import keep_words
from lamella.pipeline.jobs.mistakes import Mistakes
from lamella.pipeline.jobs.promoting import publish_and_promote, unjudged
from lamella.pipeline.jobs.proposing import building, check_proposing, keep_frames
from lamella.pipeline.jobs.recorded import record_job
from lamella.pipeline.jobs.resolve import (
    check_weights,
    resolve_extraction,
    resolve_fusion,
    settle_profile,
)
from lamella.pipeline.jobs.tuning import OpenCoordinator, in_this_process, note_on, tuned
from lamella.pipeline.jobs.vectors import given_layers, largest_shard, notes_on, open_layers
from lamella.pipeline.journey import Journey
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.run.step import Runner
from lamella.pipeline.search.calibrate import calibrate
from lamella.pipeline.stages import Hands, Made, Watch
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.import_words import (
    find_import,
    probes_wanted,
    says_probes,
    words_folder,
)
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.job import WEIGHTING_OF, ActivationSettings, JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot

SHARDS_WANTED, SMALLEST_SHARD, LARGEST_SHARD = 16, 32, 512


@dataclass(frozen=True)
class Prepared:
    """A job with resolved settings and a listed source; nothing is written yet.

    Attributes:
        imports: by layer, the SHA-256 of the JSON of an imported vocabulary.
        kept: by layer, the path of the record of the words of the snapshot before; see
            `keep_words`.
        keep_said: `activations.keep` as the user said it, None if not at all.
        vectors: by layer, the vectors that the user brings.
        notes: lines for a person about these.
    """

    source: str
    job: JobConfig
    spec: ExtractionSpec
    weights: Path
    listing: Listing
    name: str
    shard_size: int
    imports: Mapping[str, str]
    gate: Gate = field(default_factory=Gate)
    kept: Mapping[str, str] = field(default_factory=dict)
    keep_said: Literal["all", "none"] | None = None
    vectors: Mapping[str, GivenVectors] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def corpus_inputs(self) -> str:
        """The digest of what decides the corpus; it is in the name of its folder."""
        return corpus_inputs(self.listing, self.shard_size, decode_limits(self.job))


def prepare(source: str | None, job: JobConfig, on_entries: OnEntries = quietly) -> Prepared:
    """Resolve the settings of a job and list its source.

    Args:
        source: of the pictures; None where the job has vectors alone.
        on_entries: as of `list_source`; told of vectors that were read, too.

    Raises:
        InputError: the settings, the vectors or the source cannot be used.
    """
    if source is None and not job.vectors:
        raise InputError("an index is made of pictures, or of vectors: give SOURCE or --vectors")
    if source is None and job.corpus.columns:
        raise InputError(
            "--keep-columns (corpus.columns) keeps columns beside pictures, such as "
            f"{job.corpus.columns[0]}, and here are none: leave it out, or give some"
        )
    alone, source = source is None, each_part(source or "", plain_source)
    # All that is wrong with the settings is said at once, before hours of listing and looking.
    mistakes, keep_said = Mistakes(), job.activations.keep
    with mistakes.noted():
        job = settle_profile(job)
    with mistakes.noted():
        gate = open_gate(job.gate)
    vectors: dict[str, GivenVectors] = {}
    with mistakes.noted():
        vectors = open_layers(job.vectors, on_entries)
        layers = given_layers(vectors, are_corpus=alone)
        spec, weights = resolve_extraction(job, layers, alone=alone)
        with mistakes.noted():
            resolve_fusion(spec.layers, job.fusion)
        with mistakes.noted():
            check_proposing(job, spec)
        with mistakes.noted():
            if spec.weights.source == "file":
                check_weights(spec, weights)
        imports = find_imports(job, spec)
        job = settle_keep(job, spec, imports)
    mistakes.check()
    if alone:
        first = next(iter(vectors.values()))
        listing = list_vectors(first)
        source, name = first.place, next(iter(vectors))
        largest = largest_shard(first.dimensions)
    else:
        listing = list_corpus(source, job.corpus.column, on_entries, job.corpus.columns)
        check_pictures(listing, decode_limits(job))
        name, largest = corpus_name(source, listing), LARGEST_SHARD
    return Prepared(
        source,
        job,
        spec,
        weights,
        listing,
        job.name or name,
        job.corpus.shard_images or choose_shard_size(len(listing.entries), largest),
        imports,
        gate,
        keep_said=keep_said,
        vectors=vectors,
        notes=tuple(notes_on(vectors, listing, job.corpus.max_refused)),
    )


def index_prepared(
    store: Store,
    runner: Runner,
    prepared: Prepared,
    *,
    threads: int,
    watch: Watch,
    retrain: bool = False,
    rehash: bool = False,
    force: bool = False,
    opened: OpenCoordinator = in_this_process,
) -> IndexSnapshot:
    """Run what is missing of a job, publish its snapshot, and promote it if its gate passes.

    Words from elsewhere that do not fit the pictures, or cannot be judged, are noted.

    Args:
        threads: threads of a worker in the extract stage.
        retrain: train words although the snapshot before has some.
        rehash: read every picture again, whatever its size and time say.
        force: promote in spite of gate, order and hold.
        opened: opens the draft of the snapshot, to measure what its proposers find.

    Raises:
        StageFailed: tasks failed, or more pictures were refused than the job allows.
        NotPromoted: the snapshot is made, and the current one stays.
    """
    for line in prepared.notes:
        watch.note(line)
    prepared = replace(prepared, listing=without_forgotten(store, prepared.listing))
    before = current_snapshot(store)
    if not retrain and not prepared.kept:
        prepared = keep_words(store, prepared, before)
    path, record = record_job(
        store,
        prepared.source,
        prepared.job,
        name=prepared.name,
        corpus_inputs=prepared.corpus_inputs,
        entries=len(prepared.listing.entries),
        shard_images=prepared.shard_size,
        extraction=prepared.spec,
        imports=dict(prepared.imports),
        kept=dict(prepared.kept),
        faiss=building(prepared.job),
        frames={} if retrain else keep_frames(store, prepared, before),
    )
    journey = Journey(store, record, PreparedSources(prepared))
    hands = Hands(runner, threads, watch, before=before, rehash=rehash, fresh=True)
    made = journey.make(hands)
    draft = draft_of(store, path, record, made, opened, watch.progress)
    if (note := note_on(draft)) is not None:
        watch.note(note)
    # The manifest of an equal listing may be older.
    draft = draft.model_copy(update={"listed_at": in_utc(prepared.listing.listed_ns)})
    for fit in fits_of(draft.vocabularies, made.encoding.records).values():
        if not fit.well:
            watch.note(fit.text)
    published = publish_and_promote(store, draft, prepared.gate, force=force)
    for note in unjudged(published):
        watch.note(note)
    return published.snapshot


def draft_of(
    store: Store,
    path: str,
    job: JobRecord,
    made: Made,
    opened: OpenCoordinator = in_this_process,
    on_progress: OnProgress = quiet,
) -> IndexSnapshot:
    """Return the snapshot that a job whose stages have ended gives, not yet published.

    Its fusion may be scaled by how similar random pairs are in each layer, which is measured here,
    as is how far its proposers must look.

    Args:
        path: that of the job's record.
        opened: opens the draft for that; `on_progress` is told how far it is.

    Raises:
        SnapshotIncomplete: the images of the manifest are not all accounted for.
    """
    layers, weighting = job.extraction.layers, WEIGHTING_OF[job.job.profile]
    frequencies = make_totals(store, made.encoding, made.index)
    weights = read_weights(store, frequencies, made.extraction.indexed, weighting)
    segments = [record.files for record in made.index.records]
    residuals = {
        name for name, each in made.encoding.vocabularies.items() if each.encoding.kind == "asmk"
    }
    calibration = calibrate(store, layers, segments, weights, residuals)
    proposed = made.proposed
    draft = draft_snapshot(
        store,
        made.manifest,
        made.encoding,
        made.index,
        frequencies=frequencies,
        weighting=weighting,
        fusion=resolve_fusion(layers, job.job.fusion, calibration),
        calibration=calibration,
        job=path,
        proposers=None if proposed is None else proposed.described(job.job.search.k),
        proposed=None if proposed is None else proposed.records,
    )
    return tuned(store, draft, job.job.search.k, opened, on_progress)


@dataclass(frozen=True)
class PreparedSources:
    """The pictures, weights and vectors of a prepared job, which are known already."""

    prepared: Prepared

    def listing(self) -> Listing:
        """See `Sources`."""
        return self.prepared.listing

    def moved(self, manifest: CorpusManifest) -> CorpusManifest:
        """Return the manifest with the folder that was listed: pictures may have moved since."""
        return manifest.model_copy(update={"root": self.prepared.listing.root})

    def root(self, manifest: CorpusManifest) -> str:
        """See `Sources`."""
        return manifest.root

    def weights(self) -> Path:
        """See `Sources`."""
        return self.prepared.weights

    def vectors(self) -> Mapping[str, GivenVectors]:
        """See `Sources`."""
        return self.prepared.vectors


def find_imports(job: JobConfig, spec: ExtractionSpec) -> dict[str, str]:
    """Return by local layer the SHA-256 of the JSON of its imported vocabulary; {} without any.

    Raises:
        InputError: the job imports vocabularies, and its folder has none for a layer.
    """
    if job.vocabulary_from is None:
        return {}
    folder = words_folder(job)
    layers = [layer.name for layer in spec.layers if layer.kind == "local"]
    return {layer: find_import(folder, layer)[1] for layer in layers}


def settle_keep(job: JobConfig, spec: ExtractionSpec, imports: Mapping[str, str]) -> JobConfig:
    """Return the job with `activations.keep` resolved to "all" or "none".

    If the job does not say, descriptors are not kept if it imports vocabularies that extraction can
    assign them to directly.

    Raises:
        InputError: the job says "none" and imports no such vocabularies.
    """
    keep = job.activations.keep
    local = any(layer.kind == "local" for layer in spec.layers)
    if keep == "none" and local and not imports:
        raise InputError(
            'activations.keep = "none" needs words (vocabulary_from, --vocabulary), for there is '
            'nothing to train them on: give words, or keep "all"'
        )
    unsure = [
        path
        for path in (find_import(words_folder(job), layer)[0] for layer in imports)
        if not says_probes(path)
    ]
    if keep == "none" and unsure:
        raise InputError(probes_wanted(unsure[0]))
    if keep is None:
        keep = "none" if imports and not unsure else "all"
    return job.model_copy(update={"activations": ActivationSettings(keep=keep)})


def choose_shard_size(entries: int, largest: int = LARGEST_SHARD) -> int:
    """Return how many files go into a shard on average: about a sixteenth of the corpus, and from
    32 to `largest`.

    So small corpora have work for several workers, and shards of large ones take about a minute.
    It is a power of two: a corpus that grows is cut otherwise only when it has doubled.
    """
    wanted = 2 ** round(math.log2(max(entries, 1) / SHARDS_WANTED))
    return int(min(max(wanted, SMALLEST_SHARD), largest))


def corpus_name(source: str, listing: Listing) -> str:
    """Return a readable name for a source: its last folder, or its file without the ending.

    Several are called by all their names.
    """
    if names := parts_of(source):
        return "-".join(names)
    path = Path(source)
    return (path.stem if path.is_file() else path.resolve().name) or Path(listing.root).name
