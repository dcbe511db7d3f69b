"""Take over what an earlier snapshot has of the same bytes, wherever they stood in it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lamella.pipeline.corpus.cut import Nearby
from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.errors import StoreError
from lamella.pipeline.extract.extraction import FindRecords, find_extracted
from lamella.pipeline.extract.tables import read_image_ids
from lamella.pipeline.extract.taken import Taken
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.shards import finder_of, shards_of
from lamella.pipeline.run.drive import READERS, OnProgress, Progress, quiet
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.schemas.corpus import ShardRef
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.snapshot import IndexSnapshot

Take = Callable[[Sequence[ShardRef]], Mapping[str, tuple[Taken, ...]]]
"""Returns by key of a shard what is at hand of its pictures."""

Known = tuple[ShardRef, list[tuple[bytes, int]]]
"""A shard, and of each of its pictures the SHA-256 of its bytes and its id."""


def take_over(
    store: Store,
    before: IndexSnapshot | None,
    spec: ExtractionSpec,
    encoder: WordEncoder | None,
    *,
    on_progress: OnProgress = quiet,
    note: Callable[[str], None] = lambda line: None,
) -> Take:
    """Return what takes pictures over from a snapshot; nothing if that is of another recipe.

    The activations of a picture depend on its bytes alone, so those of a copy, or of the same
    picture under another name, are its own. Vectors that a user brings are not taken over: they may
    have changed, and cost nothing. Pictures whose pixels could not be read are not taken
    over, so that they are tried again.

    Args:
        before: the snapshot, if there is one.
        encoder: the words that extraction assigns; None if it keeps descriptors.
        note: takes a line for a person that says how many were known.
    """
    if before is None or not spec.computed or not _is_alike(before, spec, encoder):
        return lambda pending: {}
    find = finder_of(store, before)
    if encoder is None:
        find = find_extracted(store, before.extraction, None)

    def take(pending: Sequence[ShardRef]) -> dict[str, tuple[Taken, ...]]:
        wanted: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
        for shard, pictures in _read(store, pending):
            for sha256, image_id in pictures:
                wanted[sha256].append((shard.key, image_id))
        taken: dict[str, list[Taken]] = defaultdict(list)
        earlier = shards_of(store, before)
        near = Nearby(earlier)
        first = {s.key: s for shard in pending for s in near.of(shard.first, shard.last)}
        then = [shard for shard in earlier if shard.key not in first]
        done = 0
        for some in (list(first.values()), then):
            for start in range(0, len(some), AT_ONCE):
                if not wanted:
                    break
                part = some[start : start + AT_ONCE]
                _take_part(store, find, part, wanted, taken, local=encoder is None)
                done += len(part)
                on_progress(Progress("take over", done, len(earlier), done, len(earlier)))
        at_hand = sum(len(part.new_ids) for parts in taken.values() for part in parts)
        sound = sum(shard.images - shard.refused for shard in pending)
        note(
            f"{at_hand:,} of {sound:,} pictures in changed shards are known from snapshot "
            f"{before.number}; {sound - at_hand:,} go through the network"
        )
        return {key: tuple(parts) for key, parts in taken.items()}

    return take


def _is_alike(before: IndexSnapshot, spec: ExtractionSpec, encoder: WordEncoder | None) -> bool:
    """Say whether a snapshot was made by the same recipe, and has what is to be stored."""
    if not before.extraction.is_like(spec):
        return False
    if encoder is None:
        return before.keeps_descriptors
    own = WordEncoder(before.vocabularies)
    return own.inputs(spec.digest()) == encoder.inputs(spec.digest())


AT_ONCE = 256
"""Shards whose tables are looked through before it is seen whether any picture is still wanted."""


def _take_part(
    store: Store,
    find: FindRecords,
    shards: Sequence[ShardRef],
    wanted: dict[bytes, list[tuple[str, int]]],
    taken: dict[str, list[Taken]],
    *,
    local: bool,
) -> None:
    """Move what these shards have from `wanted` to `taken`.

    Args:
        local: whether local descriptors are wanted, which may have been freed.
    """
    held = [
        (shard, {sha256: image_id for sha256, image_id in pictures if sha256 in wanted})
        for shard, pictures in _read(store, shards)
    ]
    held = [(shard, known) for shard, known in held if known]
    for (_, known), records in zip(held, find([shard for shard, _ in held]), strict=True):
        if records is None or (local and records[0].freed):
            continue
        try:
            there = read_committed(store, records[0].files["images"], read_image_ids)
        except StoreError:  # damaged: `verify` says so, and the pictures are extracted again
            continue
        indexed = set(there.tolist())
        pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for sha256, old in known.items():
            if old in indexed:
                for key, new in wanted.pop(sha256, ()):
                    pairs[key].append((old, new))
        for key, mine in pairs.items():
            old_ids, new_ids = zip(*sorted(mine), strict=True)
            taken[key].append(Taken(*records, old_ids, new_ids))


def _read(store: Store, shards: Sequence[ShardRef]) -> list[Known]:
    """Return the pictures of shards that are not refused, without shards whose tables are gone."""

    def read(shard: ShardRef) -> Known:
        columns = ["image_id", "sha256", "refusal"]
        try:
            table = read_committed(store, shard.file, lambda path: read_images(path, columns))
        except StoreError:
            return shard, []
        return shard, _by_content(table)

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, shards))


def _by_content(table: Any) -> list[tuple[bytes, int]]:
    columns = (table.column(name).to_pylist() for name in ("image_id", "sha256", "refusal"))
    return [
        (sha256, image_id)
        for image_id, sha256, refusal in zip(*columns, strict=True)
        if refusal is None
    ]
