"""The whole journey of a corpus, stage after stage; each continues where it was left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.decode import DecodeLimits
from pipeline.corpus.listing import Listing
from pipeline.corpus.sources import list_source
from pipeline.corpus.stage import build_corpus, corpus_inputs
from pipeline.errors import InputError, StageFailed
from pipeline.extract.stage import Extraction, extract_corpus
from pipeline.index.encode import Encoding, encode_corpus
from pipeline.index.publish import publish, refusals_by_reason
from pipeline.index.stage import Index, index_corpus
from pipeline.jobs.recorded import record_job
from pipeline.jobs.resolve import resolve_extraction, resolve_fusion
from pipeline.run.drive import OnProgress, quiet
from pipeline.run.stage import Runner
from pipeline.store.storage import Store
from pipeline.vocabulary.imported import find_import, import_vocabulary
from pipeline.vocabulary.stage import OnRound, no_round, train_vocabulary
from schemas.corpus import CorpusManifest
from schemas.extraction import ExtractionSpec
from schemas.job import WEIGHTING_OF, JobConfig
from schemas.snapshot import IndexSnapshot
from schemas.vocabulary import Vocabulary

SHARDS_WANTED, SMALLEST_SHARD, LARGEST_SHARD = 16, 32, 500

FEW_REFUSED = 3
"""So few refused pictures never stop a job, however small the corpus is."""


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear of a job while it runs."""

    progress: OnProgress = quiet
    round: OnRound = no_round
    corpus: Callable[[CorpusManifest], None] = lambda manifest: None


def index_source(
    store: Store, runner: Runner, source: str, job: JobConfig, *, threads: int, watch: Watch
) -> IndexSnapshot:
    """Return the snapshot of a source, making whatever is missing of it.

    Args:
        threads: of a worker in the extract stage.

    Raises:
        InputError: the settings or the source cannot be used.
        StageFailed: tasks failed, or more pictures were refused than the job allows.
    """
    spec, weights = resolve_extraction(job)
    fusion = resolve_fusion(spec.network, spec.layers, job.fusion)
    limits = decode_limits(job)
    listing = list_source(source)
    name = job.name or corpus_name(source, listing)
    shard_size = job.corpus.shard_images or choose_shard_size(len(listing.entries))
    imports = find_imports(job, spec)
    recorded = record_job(
        store,
        source,
        job,
        name=name,
        corpus_inputs=corpus_inputs(listing, shard_size, limits),
        entries=len(listing.entries),
        shard_images=shard_size,
        extraction=spec,
        imports=imports,
    )
    manifest = build_corpus(
        store,
        runner,
        listing,
        name,
        shard_size=shard_size,
        limits=limits,
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
        weights,
        imports=imports,
        threads=threads,
        watch=watch,
    )
    return publish(
        store,
        manifest,
        encoding,
        index,
        weighting=WEIGHTING_OF[job.profile],
        fusion=fusion,
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
) -> tuple[Encoding, Index]:
    """Return the bags and segments of a corpus, making whatever is missing of them.

    Args:
        imports: the SHA-256 of the JSON of each layer's words that come from elsewhere.

    Raises:
        StageFailed: tasks failed, or more pictures were refused than the job allows.
    """
    extraction = extract_corpus(
        store,
        runner,
        manifest,
        spec,
        weights,
        limits=decode_limits(job),
        threads=threads,
        on_progress=watch.progress,
    )
    _check_extraction(store, extraction, manifest, job)
    vocabularies = {
        layer.name: _words_of(store, runner, extraction, layer.name, job, imports, threads, watch)
        for layer in spec.layers
        if layer.kind == "local"
    }
    encoding = encode_corpus(store, runner, extraction, vocabularies, on_progress=watch.progress)
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
    folder = Path(job.vocabulary_from).expanduser()
    layers = [layer.name for layer in spec.layers if layer.kind == "local"]
    return {layer: find_import(folder, layer)[1] for layer in layers}


def _words_of(
    store: Store,
    runner: Runner,
    extraction: Extraction,
    layer: str,
    job: JobConfig,
    imports: Mapping[str, str],
    threads: int,
    watch: Watch,
) -> Vocabulary:
    if layer in imports and job.vocabulary_from is not None:
        folder = Path(job.vocabulary_from).expanduser()
        return import_vocabulary(store, runner, extraction, layer, folder, imports[layer])
    return train_vocabulary(
        store,
        runner,
        extraction,
        layer,
        job.vocabulary,
        threads=threads,
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
