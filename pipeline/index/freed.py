"""Descriptors that `gc --intermediate` freed, and that a job needs again."""

from collections.abc import Callable, Mapping, Set

from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.index.encode import encoding_place
from lamella.pipeline.run.drive import read_all_done
from lamella.pipeline.store.protocol import Store
from lamella.schemas.vocabulary import Vocabulary


def freed_and_needed(
    store: Store, extraction: Extraction, words: Mapping[str, Vocabulary] | None
) -> frozenset[str]:
    """Return the keys of shards whose descriptors were freed, and are still to be read.

    Args:
        words: by local layer; None where some are still to be made, from all descriptors.
    """
    freed = frozenset(record.key for record in extraction.records if record.freed)
    if words is None:
        return freed
    folder, _ = encoding_place(extraction.decided, words)
    bags = zip(extraction.records, read_all_done(store, folder, extraction.keys), strict=True)
    return freed.intersection(record.key for record, bag in bags if bag is None)


def note_freed(extraction: Extraction, keys: Set[str], note: Callable[[str], None]) -> None:
    """Say how many pictures go through the network again for these shards, if there are any."""
    pictures = sum(each.counts["indexed"] for each in extraction.records if each.key in keys)
    if pictures:
        note(
            f"{pictures:,} pictures go through the network again: their descriptors are needed, "
            "and `lamella gc --intermediate` freed them"
        )
