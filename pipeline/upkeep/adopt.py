"""Taking over activations of shards that did not change into the folder of a renewed corpus."""

import shutil
from collections.abc import Sequence, Set

from pipeline.store.commit import attempt, open_committed, read_done
from pipeline.store.storage import Store
from schemas.corpus import ShardRef


def adopt_shards(
    store: Store,
    source: str,
    known: Sequence[ShardRef],
    target: str,
    inputs: str,
    shards: Sequence[ShardRef],
    leave: Set[str],
) -> None:
    """Copy the activations of shards whose pictures are the same, so that no network need run.

    Args:
        source, target: folders of activations, before and after; nothing is done if they are one.
        known: the shards that the source is of.
        inputs: of the target.
        shards: those of the target.
        leave: keys of shards to be extracted anew.
    """
    contents = {shard.key: shard.file.content() for shard in known}
    for shard in shards if source != target else ():
        if shard.key in leave or contents.get(shard.key) != shard.file.content():
            continue
        record = read_done(store, source, shard.key)
        if record is None or read_done(store, target, shard.key) is not None:
            continue
        with attempt(store, target, record.stage, shard.key, inputs) as work:
            for name, reference in record.files.items():
                place, _, file = reference.path.removeprefix(f"{source}/").rpartition("/")
                local = work.scratch / name
                shutil.copyfile(open_committed(store, reference), local)
                suffix = file.split(".", 2)[2]
                work.add(name, f"{target}/{place}", suffix, local, reference.rows)
            work.finish(**record.counts)
