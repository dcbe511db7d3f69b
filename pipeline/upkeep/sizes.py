"""The bytes of a store: by kind of file, and what `gc` would free of them."""

import time
from collections import Counter
from dataclasses import dataclass

from lamella.pipeline.errors import LamellaError
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.stages import top_of
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure
from lamella.pipeline.upkeep.gc import DAY_S, survey
from lamella.pipeline.upkeep.intermediate import without_sample
from lamella.pipeline.upkeep.inventory import Inventory, take_inventory
from lamella.schemas.vocabulary import Vocabulary

KINDS = {
    "tables": "tables of pictures",
    "activations": "activations",
    "samples": "samples and rounds of trainings",
    "words": "words",
    "bags": "bags of words",
    "segments": "segments",
    "runs": "runs",
    "other": "snapshots and other records",
}
"""The kinds of files, each with what a person calls it."""

_OF_TOP = {
    "looks": "tables",
    "activations": "activations",
    "vocabularies": "words",
    "bags": "bags",
    "segments": "segments",
    "totals": "segments",
    "frames": "segments",
    "proposers": "segments",
    "runs": "runs",
}


@dataclass(frozen=True)
class Sizes:
    """What a store takes, in bytes.

    Attributes:
        kinds: by kind of file, all of `KINDS`.
        gc: what `lamella gc` would free now.
        gc_later: what it would free once it is older.
        intermediate: what `lamella gc --intermediate` would free besides.
        intermediate_later: what it would free once it is older.
        unknown: why it is not known what gc would free; "" where it is.
    """

    kinds: dict[str, int]
    gc: int = 0
    gc_later: int = 0
    intermediate: int = 0
    intermediate_later: int = 0
    unknown: str = ""

    @property
    def total(self) -> int:
        """The bytes of all files."""
        return sum(self.kinds.values())


def store_sizes(
    store: Store, older_than_s: float = DAY_S, *, on_progress: OnProgress = quiet
) -> Sizes:
    """Return the bytes of a store. Nothing is written: the age of files is by this machine's clock.

    Raises:
        StoreError: a folder cannot be listed.
    """
    found = take_inventory(store, on_progress=on_progress)
    kinds = Counter(dict.fromkeys(KINDS, 0))
    words = {
        file.path
        for _, vocabulary in found.of(Vocabulary)
        for file in without_sample(vocabulary).files()
    }
    for path, file in found.files.items():
        kind = _OF_TOP.get(top_of(path), "other")
        if kind == "words" and path not in words and tree.kind_of(path) == "data":
            kind = "samples"
        kinds[kind] += file.size_bytes
    if found.faults:
        first = found.faults[0]
        return Sizes(dict(kinds), unknown=f"{first.path} {first.problem}: {cure(store)}")
    try:
        seen = survey(store, found, time.time(), older_than_s)
    except LamellaError as error:
        return Sizes(dict(kinds), unknown=str(error))
    now = _bytes(found, set(seen.old))
    return Sizes(
        dict(kinds),
        now,
        _bytes(found, set(seen.every)) - now,
        seen.intermediates.size_bytes,
        seen.intermediates.young_bytes,
    )


def _bytes(found: Inventory, paths: set[str]) -> int:
    return sum(found.files[path].size_bytes for path in paths)
