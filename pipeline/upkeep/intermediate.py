"""What a finished index no longer needs: `gc --intermediate` frees it.

An index is finished once a snapshot names it. Then two kinds of files have done their work:

- descriptors of local layers, which jobs in two passes keep for training and for their bags;
- what a training drew and wrote on its way: its sample, the rows held out, the rounds before the
  last.

What a later night takes over stays: vectors of global layers, and bags of words. So do segments,
words, and the small reports that say how a training went.

A freed file is moved in its done record from `files` to `freed`, before it is removed. So the task
stays done, nothing looks damaged, and a job that needs the file after all makes it again.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from lamella.pipeline.extract.extraction import extraction_place
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import read_record
from lamella.pipeline.upkeep.alive import Alive
from lamella.pipeline.upkeep.inventory import Inventory
from lamella.schemas.files import DoneRecord
from lamella.schemas.snapshot import SegmentManifest
from lamella.schemas.vocabulary import Vocabulary

_TRAINED_ON = frozenset(step.name for step in (tree.SAMPLE, tree.PROJECT, tree.SEED, tree.ROUND))
_REPORTS = frozenset({"report"})
"""Files of a round that stay: they say how the training went."""


@dataclass(frozen=True)
class Spare:
    """A record, and the names of its files that are not needed.

    Attributes:
        names: for the record of a vocabulary, none: it stops naming its sample.
    """

    path: str
    names: frozenset[str]


@dataclass(frozen=True)
class Intermediates:
    """What may be freed, in the order in which it must be.

    Attributes:
        pictures: how many pictures have descriptors among it.
        size_bytes: what the files have.
        young_bytes: what those have that are too young.
        kept: why some must wait, as sentences.
    """

    spare: tuple[Spare, ...]
    pictures: int
    size_bytes: int
    young_bytes: int
    kept: tuple[str, ...]


def intermediates(found: Inventory, alive: Alive, old: Set[str]) -> Intermediates:
    """Return what finished indexes no longer need.

    Args:
        old: the paths of files that are old enough to go.
    """
    wanted = [Spare(path, names) for path, names in _descriptors(found, alive).items()]
    spare = [each for each in wanted if each.path in old]
    pictures = sum(_record(found, each).counts["indexed"] for each in spare)
    for folder in sorted(_trainings(alive)):
        own = _training(found, folder)
        wanted += own
        if all(each.path in old for each in own):  # else its record would name what is gone
            spare += own
    size_bytes = sum(_sizes(found, spare))
    kept = tuple(
        f"descriptors stay while job {name} has not ended: give its `lamella index` again, or wait"
        for name in dict.fromkeys(alive.waiting.values())
    )
    young = sum(_sizes(found, wanted)) - size_bytes
    return Intermediates(tuple(spare), pictures, size_bytes, young, kept)


def _record(found: Inventory, spare: Spare) -> DoneRecord:
    record = found.records[spare.path]
    assert isinstance(record, DoneRecord)
    return record


def _sizes(found: Inventory, spare: Sequence[Spare]) -> Iterator[int]:
    for each in spare:
        files = _record(found, each).files if each.names else {}
        yield from (files[name].size_bytes for name in each.names)


def _descriptors(found: Inventory, alive: Alive) -> dict[str, frozenset[str]]:
    """Return the records of shards that snapshots hold, with the names of their descriptors."""
    wanted: dict[str, frozenset[str]] = {}
    for snapshot in alive.snapshots:
        folder, _ = extraction_place(snapshot.extraction, None)
        if folder in alive.waiting:
            continue
        local = {layer.name for layer in snapshot.extraction.layers if layer.kind == "local"}
        local -= set(tree.EXTRACT.files.split())
        for segment in snapshot.segments:
            manifest = found.records.get(segment.manifest)
            for shard in manifest.shards if isinstance(manifest, SegmentManifest) else ():
                path = tree.done(folder, shard.key)
                record = found.records.get(path)
                if isinstance(record, DoneRecord) and (names := local & record.files.keys()):
                    wanted[path] = frozenset(names)
    return wanted


def _trainings(alive: Alive) -> set[str]:
    """Return the folders of the trainings whose words snapshots use."""
    return {
        tree.SEED.folder(**tree.parts_of(vocabulary.centroids.path))
        for snapshot in alive.snapshots
        for vocabulary in snapshot.vocabularies.values()
        if vocabulary.centroids is not None and not vocabulary.imported
    }


def _training(found: Inventory, folder: str) -> list[Spare]:
    """Return what may be freed of a training, its vocabulary first."""
    path = tree.VOCABULARY.at(**tree.parts_of(folder))
    vocabulary = found.records.get(path)
    if not isinstance(vocabulary, Vocabulary):
        return []
    bare = without_sample(vocabulary)
    kept = {file.path for file in bare.files()}
    wanted = [] if bare == vocabulary else [Spare(path, frozenset())]
    for below, record in found.of(DoneRecord):
        if below.startswith(f"{folder}/") and record.stage in _TRAINED_ON:
            files = {name for name, file in record.files.items() if file.path not in kept}
            if names := frozenset(files - _REPORTS):
                wanted.append(Spare(below, names))
    return wanted


def without_sample(vocabulary: Vocabulary) -> Vocabulary:
    """Return a vocabulary that does not name what it was trained on."""
    if not vocabulary.sample and vocabulary.held is None:
        return vocabulary
    return vocabulary.model_copy(update={"sample": (), "held": None, "freed": True})


def free(store: Store, found: Inventory, spare: Spare, *, dry_run: bool) -> list[StoredFile]:
    """Free files of a record: take them off it, and remove them; return them.

    Nothing is done if the record has changed since the inventory was taken.
    """
    known = found.records[spare.path]
    if isinstance(known, Vocabulary):
        if not dry_run and read_record(store, spare.path, Vocabulary) == known:
            store.replace(spare.path, without_sample(known).to_json())
        return []
    assert isinstance(known, DoneRecord)
    if not dry_run:
        if read_record(store, spare.path, DoneRecord) != known:
            return []
        store.replace(spare.path, known.without(spare.names).to_json())
    gone = [known.files[name].path for name in sorted(spare.names)]
    for path in () if dry_run else gone:
        store.discard(path)
    return [found.files[path] for path in gone if path in found.files]
