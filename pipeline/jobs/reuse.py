"""What a corpus that grew has in common with the current snapshot is taken over, not made anew."""

from pipeline.extract.adopt import adopt_shards
from pipeline.extract.stage import extraction_folder, extraction_inputs
from pipeline.index.one_pass import WordEncoder
from pipeline.index.publish import current_snapshot
from pipeline.run.drive import OnProgress, quiet
from pipeline.store.storage import Store
from schemas.corpus import CorpusManifest
from schemas.extraction import ExtractionSpec


def reuse_shards(
    store: Store,
    manifest: CorpusManifest,
    spec: ExtractionSpec,
    encoder: WordEncoder | None = None,
    *,
    on_progress: OnProgress = quiet,
) -> None:
    """Copy what was made of shards that hold the same pictures under the same ids as before.

    Only from the current snapshot, if it was extracted alike and with the same words. A shard with
    pictures whose pixels could not be read is left, so that they are tried again.

    Args:
        encoder: gives words in the same pass; without it descriptors are kept.
    """
    current = current_snapshot(store)
    if current is None or current.extraction != spec:
        return
    if current.keeps_descriptors != (encoder is None):
        return
    if encoder is not None and encoder != WordEncoder(current.vocabularies):
        return
    inputs = extraction_inputs(spec, manifest.content_digest)
    if encoder is not None:
        inputs = encoder.inputs(inputs)
    adopt_shards(
        store,
        current.extraction_folder,
        current.shards,
        extraction_folder(spec, inputs),
        inputs,
        manifest.shards,
        lambda shard, record: record.counts["refused"] != shard.refused,
        on_progress,
    )
