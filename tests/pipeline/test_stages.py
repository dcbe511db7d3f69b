"""Of what several corpora share, a job claims what its own tasks made."""

from pathlib import Path

import lamella as api
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.journey import Journey
from lamella.pipeline.stages import Seen, top_of
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.records import read_record
from lamella.schemas.job_record import JobRecord
from tests.pipeline.proposers.stored import CUTS, write_vectors

FOLDERS = ("activations", "bags", "segments", "totals")


def indexed(folder: Path, file: Path, layer: str) -> Seen:
    """Index the vectors of a file as this layer, and look at the job."""
    api.index(None, into=folder, vectors={layer: file}, settings=CUTS).close()
    store = LocalStore(folder)
    snapshot = current_snapshot(store)
    assert snapshot is not None
    return Journey(store, read_record(store, snapshot.job, JobRecord)).look()


def test_jobs_of_the_same_shards_do_not_claim_what_other_settings_made(tmp_path: Path) -> None:
    file = write_vectors(tmp_path)
    first = indexed(tmp_path / "store", file, "clip")
    store = LocalStore(tmp_path / "store")
    of_first = {each.path for each in store.walk("") if top_of(each.path) in FOLDERS}
    sizes = first.size_bytes(store)
    second = indexed(tmp_path / "store", file, "dino")
    every = {each.path for each in store.walk("") if top_of(each.path) in FOLDERS}
    assert {top_of(path) for path in of_first} == {top_of(path) for path in every - of_first}
    keys = [{shard.key for shard in each.made.extraction.shards} for each in (first, second)]
    assert keys[0] == keys[1]
    assert {path for path in every if first.may_hold(path)} == of_first
    assert {path for path in every if second.may_hold(path)} == every - of_first
    assert first.size_bytes(store) == sizes
