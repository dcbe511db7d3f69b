"""A corpus that grows keeps its frame, and with it the proposers of segments that are there."""

from pathlib import Path

import pytest

from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import counted_creates
from tests.pipeline.upkeep.nights import OPEN, grow, settle
from tests.tiny import tiny_index, tiny_pictures

pytest.importorskip("faiss")

IVF = OPEN | {"index__proposer": "ivf"}


def frames_of(snapshot: IndexSnapshot) -> dict[str, str]:
    assert snapshot.proposers is not None
    return {name: file.path for name, file in snapshot.proposers.frames.items()}


def proposers_of(snapshot: IndexSnapshot) -> set[str]:
    return {segment.files["head.proposer"].path for segment in snapshot.segments}


def test_a_night_keeps_the_frame_and_builds_proposers_of_new_segments(tmp_path: Path) -> None:
    pictures, place = tiny_pictures(tmp_path / "pictures", 12), tmp_path / "store"
    settle(pictures)
    first = tiny_index(place, pictures, **IVF)
    grow(pictures, 1)
    with counted_creates() as created:
        second = tiny_index(place, pictures, **IVF)
    assert second.number == 2
    assert frames_of(second) == frames_of(first)
    made = [name for name in created if name.startswith("proposers/")]
    assert len(proposers_of(second) - proposers_of(first)) == len(made)
    assert proposers_of(second) & proposers_of(first)
    assert not [name for name in created if name.startswith("frames/")]
    store = LocalStore(place)
    assert (verify_store(store).damage, verify_store(store).orphans) == ((), ())

    # A frame that several nights share is mended by the job that made it.
    path = place / frames_of(second)["head.axes"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [each.snapshots for each in verify_store(store).damage] == [(1, 2)]
    assert repair_store(store, SerialRunner(), threads=1).after == ()

    with counted_creates() as created:
        assert tiny_index(place, pictures, **IVF).number == 2
    assert created == []

    third = reindex(store, SerialRunner(), threads=1, watch=Watch(), retrain=True)
    assert frames_of(third) != frames_of(first)

    for picture in tiny_pictures(tmp_path / "many", 14, broken=0).iterdir():
        picture.rename(pictures / f"more-{picture.name}")
    settle(pictures)
    fourth = tiny_index(place, pictures, **IVF)
    assert fourth.proposers is not None
    assert fourth.indexed >= 2 * third.indexed
    assert not set(frames_of(fourth).values()) & set(frames_of(third).values())
