"""Copy the activations of unchanged shards into the folder of another corpus."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lamella.pipeline.errors import CorruptFile, MissingFile
from lamella.pipeline.run.drive import READERS, OnProgress, Progress, quiet, read_all_done
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import attempt, open_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.schemas.corpus import ShardRef
from lamella.schemas.files import DoneRecord

Leave = Callable[[ShardRef, DoneRecord], bool]


def adopt_shards(
    store: Store,
    source: str,
    known: Sequence[ShardRef],
    target: str,
    inputs: str,
    shards: Sequence[ShardRef],
    leave: Leave,
    on_progress: OnProgress = quiet,
) -> None:
    """Copy the activations of shards whose pictures are the same, without running the network.

    A shard whose files are gone or damaged will be extracted again.

    Args:
        source, target: folders of activations, old and new; nothing happens if they are the same.
        known: the shards of the source.
        inputs: of the target.
        shards: the shards of the target.
        leave: returns whether a shard must be extracted again.
    """
    if source == target:
        return
    before = {shard.key: _holds(shard) for shard in known}
    same = [shard for shard in shards if before.get(shard.key) == _holds(shard) and shard.images]
    already = read_all_done(store, target, [shard.key for shard in same])
    wanted = [shard for shard, record in zip(same, already, strict=True) if record is None]

    def adopt(shard: ShardRef) -> None:
        record = read_done(store, source, shard.key)
        if record is None or leave(shard, record):
            return
        with attempt(store, target, record.stage, shard.key, inputs) as work:
            try:
                there = {name: open_committed(store, file) for name, file in record.files.items()}
            except (MissingFile, CorruptFile):
                return
            for number, (name, reference) in enumerate(record.files.items()):
                file = tree.read(reference.path)
                assert file is not None  # a record names data files alone
                local = work.scratch / f"adopted-{number}"
                shutil.copyfile(there[name], local)
                work.add(name, f"{target}/{file.place}", file.suffix, local, reference.rows)
            work.machine = record.machine
            work.finish(**record.counts)

    images = [shard.images for shard in wanted]
    with ThreadPoolExecutor(READERS) as pool:
        for done, _ in enumerate(pool.map(adopt, wanted), start=1):
            on_progress(Progress("take over", done, len(wanted), sum(images[:done]), sum(images)))


def _holds(shard: ShardRef) -> tuple[int, object]:
    """Return what decides a shard's activations besides the extraction spec: ids and pictures."""
    return shard.first_image_id, shard.file.content()
