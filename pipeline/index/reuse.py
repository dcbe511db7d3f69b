"""What a corpus that grew has in common with a snapshot is taken over, not made anew."""

from lamella.pipeline.extract.adopt import adopt_shards
from lamella.pipeline.extract.stage import extraction_folder, extraction_inputs
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.store.protocol import Store
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.snapshot import IndexSnapshot


def reuse_shards(
    store: Store,
    before: IndexSnapshot,
    manifest: CorpusManifest,
    spec: ExtractionSpec,
    encoder: WordEncoder,
    *,
    on_progress: OnProgress = quiet,
) -> None:
    """Copy words and vectors of shards that hold the same pictures under the same ids as before.

    Only if the snapshot was extracted alike, in one pass and with the same words. A shard with
    pictures whose pixels could not be read is left, so that they are tried again.

    Args:
        before: the snapshot that the corpus may have grown from.
    """
    decided = extraction_inputs(spec, manifest.content_digest)
    inputs = encoder.inputs(decided)
    same_words = WordEncoder(before.vocabularies).inputs(decided) == inputs
    if before.extraction != spec or before.keeps_descriptors or not same_words:
        return
    adopt_shards(
        store,
        before.extraction_folder,
        before.shards,
        extraction_folder(spec, inputs),
        inputs,
        manifest.shards,
        lambda shard, record: record.counts["refused"] != shard.refused,
        on_progress,
    )
