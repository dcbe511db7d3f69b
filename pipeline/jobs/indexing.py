"""The whole journey of a corpus, stage after stage; each continues where it was left."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import build_corpus, corpus_inputs
from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.extract.stage import Extraction, extract_corpus
from lamella.pipeline.index.encode import Encoding, encode_corpus
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.publish import current_snapshot, publish, refusals_by_reason
from lamella.pipeline.index.stage import Index, index_corpus
from lamella.pipeline.jobs.recorded import record_job
from lamella.pipeline.jobs.resolve import resolve_extraction, resolve_fusion
from lamella.pipeline.jobs.reuse import reuse_shards
from lamella.pipeline.jobs.status import encodes_at_once
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.run.step import Runner
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.import_words import (
    find_import,
    import_vocabulary,
    probes_wanted,
    says_probes,
)
from lamella.pipeline.vocabulary.stage import OnRound, no_round, train_vocabulary
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.job import WEIGHTING_OF, ActivationSettings, JobConfig
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary

SHARDS_WANTED, SMALLEST_SHARD, LARGEST_SHARD = 16, 32, 500

FEW_REFUSED = 3
"""So few refused pictures never stop a job, however small the corpus is."""


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear of a job while it runs."""

    progress: OnProgress = quiet
    round: OnRound = no_round
    corpus: Callable[[CorpusManifest], None] = lambda manifest: None


@dataclass(frozen=True)
class Prepared:
    """A job whose settings are resolved and whose source is listed; nothing is written yet.

    `imports` has the SHA-256 of the JSON of each layer's words that come from elsewhere.
    """

    source: str
    job: JobConfig
    spec: ExtractionSpec
    weights: Path
    fusion: FusionSpec
    listing: Listing
    name: str
    shard_size: int
    imports: Mapping[str, str]

    @property
    def corpus_inputs(self) -> str:
        """Return the digest that names the corpus."""
        return corpus_inputs(self.listing, self.shard_size, decode_limits(self.job))


def prepare(source: str, job: JobConfig) -> Prepared:
    """Return what a job is to do.

    Raises:
        InputError: the settings or the source cannot be used.
    """
    spec, weights = resolve_extraction(job)
    fusion = resolve_fusion(spec.network, spec.layers, job.fusion)
    listing = list_source(source)
    imports = find_imports(job, spec)
    return Prepared(
        source,
        settle_keep(job, spec, imports),
        spec,
        weights,
        fusion,
        listing,
        job.name or corpus_name(source, listing),
        job.corpus.shard_images or choose_shard_size(len(listing.entries)),
        imports,
    )


def index_source(
    store: Store, runner: Runner, source: str, job: JobConfig, *, threads: int, watch: Watch
) -> IndexSnapshot:
    """Return the snapshot of a source; see `prepare` and `index_prepared`."""
    return index_prepared(store, runner, prepare(source, job), threads=threads, watch=watch)


def index_prepared(
    store: Store, runner: Runner, prepared: Prepared, *, threads: int, watch: Watch
) -> IndexSnapshot:
    """Return the snapshot of a source, making whatever is missing of it.

    Args:
        threads: of a worker in the extract stage.

    Raises:
        StageFailed: tasks failed, or more pictures were refused than the job allows.
    """
    job, listing, spec = prepared.job, prepared.listing, prepared.spec
    recorded = record_job(
        store,
        prepared.source,
        job,
        name=prepared.name,
        corpus_inputs=prepared.corpus_inputs,
        entries=len(listing.entries),
        shard_images=prepared.shard_size,
        extraction=spec,
        imports=dict(prepared.imports),
    )
    manifest = build_corpus(
        store,
        runner,
        listing,
        prepared.name,
        shard_size=prepared.shard_size,
        limits=decode_limits(job),
        on_progress=watch.progress,
    )
    watch.corpus(manifest)
    check_refused(manifest.refused, manifest.images, job.corpus.max_refused, {})
    encoding, index = build_index(
        store,
        runner,
        manifest,
        job,
        spec,
        prepared.weights,
        imports=prepared.imports,
        threads=threads,
        watch=watch,
        before=current_snapshot(store),
    )
    return publish(
        store,
        manifest,
        encoding,
        index,
        weighting=WEIGHTING_OF[job.profile],
        fusion=prepared.fusion,
        job=recorded,
    )


def build_index(
    store: Store,
    runner: Runner,
    manifest: CorpusManifest,
    job: JobConfig,
    spec: ExtractionSpec,
    weights: Path,
    *,
    imports: Mapping[str, str],
    threads: int,
    watch: Watch,
    before: IndexSnapshot | None = None,
    anew: Set[str] = frozenset(),
) -> tuple[Encoding, Index]:
    """Return the bags and segments of a corpus, making whatever is missing of them.

    Args:
        before: the snapshot that the corpus may have grown from.
        imports: the SHA-256 of the JSON of each layer's words that come from elsewhere.
        anew: keys of shards that are extracted though they are done.

    Raises:
        StageFailed: tasks failed, or more pictures were refused than the job allows.
    """
    encoder: WordEncoder | None = None
    if encodes_at_once(job, imports):
        encoder = WordEncoder(
            {
                layer: import_vocabulary(store, runner, spec, layer, _words_folder(job), sha256)
                for layer, sha256 in imports.items()
            }
        )
    if encoder is not None and before is not None:
        reuse_shards(store, before, manifest, spec, encoder, on_progress=watch.progress)
    extraction = extract_corpus(
        store,
        runner,
        manifest,
        spec,
        weights,
        encoder=encoder,
        anew=anew,
        limits=decode_limits(job),
        threads=threads,
        on_progress=watch.progress,
    )
    _check_extraction(store, extraction, manifest, job)
    if encoder is not None:
        encoding = encoder.encoding(extraction)
    else:
        words = {
            layer.name: _words_of(store, runner, extraction, layer.name, job, imports, watch)
            for layer in spec.layers
            if layer.kind == "local"
        }
        encoding = encode_corpus(store, runner, extraction, words, on_progress=watch.progress)
    index = index_corpus(
        store,
        runner,
        encoding,
        segment_images=job.index.segment_images,
        on_progress=watch.progress,
    )
    return encoding, index


def find_imports(job: JobConfig, spec: ExtractionSpec) -> dict[str, str]:
    """Return the SHA-256 of the JSON of each local layer's words, where a job brings its words.

    Raises:
        InputError: a layer has none in the job's folder.
    """
    if job.vocabulary_from is None:
        return {}
    folder = _words_folder(job)
    layers = [layer.name for layer in spec.layers if layer.kind == "local"]
    return {layer: find_import(folder, layer)[1] for layer in layers}


def settle_keep(job: JobConfig, spec: ExtractionSpec, imports: Mapping[str, str]) -> JobConfig:
    """Return the job with its choice whether local descriptors are kept.

    They are not where a job brings words that can be given to descriptors as they come.

    Raises:
        InputError: they are not to be kept, and there are no such words.
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
        for path in (find_import(_words_folder(job), layer)[0] for layer in imports)
        if not says_probes(path)
    ]
    if keep == "none" and unsure:
        raise InputError(probes_wanted(unsure[0]))
    if keep is None:
        keep = "none" if imports and not unsure else "all"
    return job.model_copy(update={"activations": ActivationSettings(keep=keep)})


def _words_folder(job: JobConfig) -> Path:
    return Path(job.vocabulary_from or "").expanduser()


def _words_of(
    store: Store,
    runner: Runner,
    extraction: Extraction,
    layer: str,
    job: JobConfig,
    imports: Mapping[str, str],
    watch: Watch,
) -> Vocabulary:
    if layer in imports:
        spec, folder = extraction.spec, _words_folder(job)
        return import_vocabulary(store, runner, spec, layer, folder, imports[layer], extraction)
    return train_vocabulary(
        store,
        runner,
        extraction,
        layer,
        job.vocabulary,
        threads=runner.threads,
        on_progress=watch.progress,
        on_round=watch.round,
    )


def decode_limits(job: JobConfig) -> DecodeLimits:
    """Return what one picture of a job may cost."""
    corpus = job.corpus
    return DecodeLimits(corpus.max_pixels, corpus.max_bytes, corpus.max_seconds, corpus.max_memory)


def choose_shard_size(entries: int) -> int:
    """Return how many files a shard takes: a sixteenth of the corpus, from 32 to 500.

    Small corpora so give work to several workers; large ones have shards of a minute or so.
    """
    return min(max(-(-entries // SHARDS_WANTED), SMALLEST_SHARD), LARGEST_SHARD)


def corpus_name(source: str, listing: Listing) -> str:
    """Return a readable name for a source: its last folder, or its file without the ending."""
    path = Path(source)
    return (path.stem if path.is_file() else path.resolve().name) or Path(listing.root).name


def check_refused(refused: int, images: int, share: float, reasons: dict[str, int]) -> None:
    """Stop a job whose pictures are mostly not pictures.

    Raises:
        StageFailed: more than the share, and more than a few, are refused.
    """
    if refused > max(FEW_REFUSED, share * images):
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        detail = f" ({listed})" if listed else ""
        raise StageFailed(
            f"{refused:,} of {images:,} pictures were refused{detail}, {refused / images:.1%}; the "
            f"job allows {share:.1%}: see `lamella status`, then mend them or raise --max-refused"
        )


def _check_extraction(
    store: Store, extraction: Extraction, manifest: CorpusManifest, job: JobConfig
) -> None:
    reasons = refusals_by_reason(store, extraction.records)
    check_refused(extraction.refused, manifest.images, job.corpus.max_refused, reasons)
    if extraction.indexed == 0:
        raise InputError(
            f"corpus {manifest.name} has {manifest.images:,} pictures and none can be read "
            f"({', '.join(f'{count} {reason}' for reason, count in reasons.items())})"
        )
