"""What a job checks and says of its pictures once they are counted."""

from collections import Counter
from collections.abc import Mapping

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.index.publish import refusals_by_reason
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.text import counted
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.job import JobConfig
from lamella.schemas.refusals import RefusalReason

_LINKS = (
    "Links out of a folder are not followed: name the pictures in a list, which may lead anywhere, "
    "or index the folder that they lead to"
)
_VECTORS = (
    "Pictures find their vectors by their names relative to the source: give vectors for these, or "
    "leave --vectors out"
)
FEW_REFUSED = 3
"""Up to this many refused pictures never stop a job, however small the corpus is."""


def too_many(refused: int, images: int, share: float) -> bool:
    """Say whether more pictures are refused than a job allows; see `check_refused`."""
    return refused > max(FEW_REFUSED, share * images)


def check_refused(refused: int, images: int, share: float, reasons: Mapping[str, int]) -> None:
    """Stop a job if too many of its pictures are refused.

    Args:
        share: the share of pictures that may be refused.
        reasons: how many were refused for each reason, for the message.

    Raises:
        StageFailed: more than this share and more than `FEW_REFUSED` are refused.
    """
    if too_many(refused, images, share):
        detail = f" ({top_reasons(reasons)})" if reasons else ""
        more = f". {_LINKS}" if RefusalReason.OUTSIDE_SOURCE in reasons else ""
        more += f". {_VECTORS}" if RefusalReason.NO_VECTOR in reasons else ""
        raise StageFailed(
            f"{refused:,} of {counted(images, 'picture')} were refused{detail}, "
            f"{refused / images:.1%}; the job allows {share:.1%}: see `lamella status`, then mend "
            f"them or raise --max-refused{more}"
        )


def check_manifest(store: Store, manifest: CorpusManifest, share: float) -> None:
    """Stop a job if too many of its pictures are refused before any is decoded.

    Raises:
        StageFailed: as `check_refused`.
    """
    reasons: Counter[str] = Counter()
    if too_many(manifest.refused, manifest.images, share):
        for shard in manifest.shards:
            table = read_committed(store, shard.file, lambda path: read_images(path, ["refusal"]))
            reasons.update(table.column("refusal").drop_null().to_pylist())
    check_refused(manifest.refused, manifest.images, share, reasons)


def check_extraction(
    store: Store, extraction: Extraction, manifest: CorpusManifest, job: JobConfig
) -> None:
    """Stop a job if too many pictures are refused, or all are.

    Raises:
        StageFailed: as `check_refused`.
        InputError: no picture can be read.
    """
    reasons = refusals_by_reason(store, extraction.records)
    check_refused(extraction.refused, manifest.images, job.corpus.max_refused, reasons)
    if extraction.indexed == 0:
        raise InputError(
            f"corpus {manifest.name} has {counted(manifest.images, 'picture')} and none can be "
            f"read ({top_reasons(reasons)})"
        )


def on_several_machines(name: str, machines: Mapping[str, int]) -> str:
    """Say on which kinds of machine the features of a corpus were made, and of how many images."""
    listed = ", ".join(f"{count:,} on {machine}" for machine, count in machines.items())
    fewest = min(machines.values())
    return (
        f"{name} was extracted on several kinds of machine ({listed}): features differ in their "
        "last bits, and the root digest may be another than on one kind. Indexed into a new store "
        f"on one kind of machine, at least {counted(fewest, 'picture')} would be made anew"
    )
