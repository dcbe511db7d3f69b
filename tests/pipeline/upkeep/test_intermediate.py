"""What a finished index needs no more goes; answers stay, and what is needed is made again."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.pipeline.diagnostics.compare_snapshots import compare_layer
from lamella.pipeline.diagnostics.inspect import inspect_layer
from lamella.pipeline.errors import InputError, MissingFile, StageFailed
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep import gc as gc_module
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.forgotten_check import check_forgotten
from lamella.pipeline.upkeep.gc import Collected, collect_garbage
from lamella.pipeline.upkeep.inventory import take_inventory
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.sizes import store_sizes
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.files import DoneRecord
from lamella.schemas.snapshot import IndexSnapshot
from tests.end_to_end.commands import tiny_runs
from tests.nightly import counted
from tests.pipeline.upkeep.nights import OPEN, answers, grow, index_nights
from tests.tiny import nothing_reaches_the_disk, tiny_index

PROJECTED = {"vocabulary__projection": {"dimensions": 8}}
"""A training with all of its steps."""


def gc(store: LocalStore, **more: object) -> Collected:
    asked = {"older_than_s": -1.0, "forced": True, "intermediate": True, **more}
    return collect_garbage(store, **asked)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Place:
    """A store of a first night, trained in two passes, and its pictures."""

    store: LocalStore
    pictures: Path

    def index(self, **more: object) -> IndexSnapshot:
        return tiny_index(self.store.root, self.pictures, **(OPEN | PROJECTED | more))

    def reindex(self, **more: object) -> IndexSnapshot:
        return reindex(self.store, SerialRunner(), threads=1, watch=Watch(), **more)  # type: ignore[arg-type]

    @property
    def descriptors(self) -> list[Path]:
        """The files of local descriptors."""
        return sorted(self.store.root.glob("activations/*/p15/*.parquet"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intermediate")
    with nothing_reaches_the_disk(), tiny_runs():
        index_nights(folder, 1, **PROJECTED)
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Iterator[Place]:
    # The job names its source: it stays where it was, and is put back after the test.
    store = LocalStore(Path(shutil.copytree(whole / "store", tmp_path / "store")))
    shutil.copytree(whole / "pictures", tmp_path / "kept")
    with tiny_runs():
        yield Place(store, whole / "pictures")
    shutil.rmtree(whole / "pictures")
    shutil.copytree(tmp_path / "kept", whole / "pictures")
    shutil.rmtree(whole / "more-1", ignore_errors=True)  # where `grow` draws a night's pictures


def test_what_goes_is_descriptors_and_trainings_and_answers_stay(place: Place) -> None:
    before = answers(place.store.root, 1)
    expected = gc(place.store, dry_run=True)
    assert len(place.descriptors) > 1
    found = gc(place.store)
    assert found == expected
    assert found.removed == ()
    assert found.pictures == 11  # all that were indexed
    tops = {"/".join(file.path.split("/")[:1]) for file in found.freed}
    assert tops == {"activations", "vocabularies"}
    assert place.descriptors == []
    assert not [*place.store.root.glob("vocabularies/*/*/sample/*.arrow")]
    assert not [*place.store.root.glob("vocabularies/*/*/projected/*.arrow")]
    left = {path.name.split(".")[0] for path in place.store.root.glob("vocabularies/*/*/rounds/*")}
    assert left == {"00000", "00001", "00002", "health"}  # the reports, and the last centroids
    verified = verify_store(place.store)
    assert (verified.damage, verified.orphans, verified.unfinished) == ((), (), ())
    assert answers(place.store.root, 1) == before
    again = gc(place.store)
    assert (again.freed, again.pictures, again.young_bytes) == ((), 0, 0)


def test_the_same_index_again_does_nothing_and_a_night_costs_what_it_cost(place: Place) -> None:
    kept = LocalStore(Path(shutil.copytree(place.store.root, place.store.root.parent / "all")))
    gc(place.store)
    files = {file.path for file in place.store.walk()}
    with counted() as cost:
        assert place.index().number == 1
    assert cost.through_the_network == 0
    assert {file.path for file in place.store.walk()} == files
    grow(place.pictures, 1)
    shutil.move(place.pictures / "05.png", place.pictures / "z05.png")
    found = []
    for one in (Place(kept, place.pictures), place):
        with counted() as cost:
            found.append((one.reindex().root_digest, cost.through_the_network))
    assert found[0] == found[1]
    assert found[0][1] == 3  # the new, the changed, and the broken one: it is always tried again
    assert verify_store(place.store).damage == ()


@pytest.mark.parametrize(
    "more",
    [
        {"vocabulary__words": 10},
        pytest.param({"encoding__nearest": 2}, marks=pytest.mark.slow),
    ],
    ids=["words", "encoding"],
)
def test_other_words_have_their_descriptors_made_again(
    more: dict[str, object], place: Place
) -> None:
    kept = Place(
        LocalStore(Path(shutil.copytree(place.store.root, place.store.root.parent / "all"))),
        place.pictures,
    )
    gc(place.store)
    with counted() as cost:
        found = place.index(**more)
    assert cost.through_the_network >= 11
    assert found.root_digest == kept.index(**more).root_digest
    assert verify_store(place.store).damage == ()
    assert len(place.descriptors) == len(kept.descriptors)
    gc(place.store)  # and they may go once more
    assert place.descriptors == []
    assert verify_store(place.store).damage == ()


def test_a_night_that_keeps_descriptors_does_not_take_over_what_was_freed(place: Place) -> None:
    gc(place.store)
    grow(place.pictures, 1)
    with counted() as cost:
        found = place.reindex(keep="all")
    assert cost.through_the_network > 3
    fresh = LocalStore(place.store.root.parent / "fresh")
    shutil.copytree(place.store.root, fresh.root)
    assert found.root_digest == Place(fresh, place.pictures).reindex().root_digest
    assert verify_store(place.store).damage == ()


def _damage(place: Place, pattern: str) -> Path:
    path = sorted(place.store.root.glob(pattern))[0]
    path.write_bytes(path.read_bytes()[:-1])
    return path


@pytest.mark.parametrize(
    ("pattern", "pictures"),
    [
        ("vocabularies/*/*/vocabulary.json", 0),
        ("vocabularies/*/*/rounds/00002.*.arrow", 12),
        ("bags/*/p15/*.arrow", 1),
        pytest.param("vocabularies/*/*/done/00000.json", 12, marks=pytest.mark.slow),
        pytest.param("segments/*/p15/*.bags.arrow", 0, marks=pytest.mark.slow),
        pytest.param("activations/*/images/*.parquet", 1, marks=pytest.mark.slow),
    ],
)
def test_repair_makes_again_what_it_needs_of_what_was_freed(
    pattern: str, pictures: int, place: Place
) -> None:
    before = answers(place.store.root, 1)
    gc(place.store)
    damaged = _damage(place, pattern)
    found = verify_store(place.store)
    assert {each.path for each in found.damage} == {str(damaged.relative_to(place.store.root))}
    with counted() as cost:
        done = repair_store(place.store, SerialRunner(), threads=1)
    assert (done.after, len(done.before)) == ((), 1)
    # A shard has several pictures, of which one may be broken.
    assert cost.through_the_network >= pictures - 1
    assert bool(cost.through_the_network) == bool(pictures)
    assert answers(place.store.root, 1) == before


def test_repair_changes_nothing_where_the_pictures_it_needs_are_away(place: Place) -> None:
    gc(place.store)
    damaged = _damage(place, "bags/*/p15/*.arrow")
    before = {file.path for file in place.store.walk()}
    place.pictures.rename(place.pictures.with_name("away"))
    try:
        with pytest.raises(InputError):
            repair_store(place.store, SerialRunner(), threads=1)
    finally:
        place.pictures.with_name("away").rename(place.pictures)
    assert {file.path for file in place.store.walk()} == before
    assert damaged.exists()


def test_descriptors_stay_for_a_job_that_has_not_ended(place: Place) -> None:
    with pytest.raises(StageFailed), _no_bags():
        place.index(vocabulary__words=10)
    found = gc(place.store)
    assert len(place.descriptors) > 1
    assert "descriptors stay while job nights has not ended" in found.kept[0]
    assert verify_store(place.store).damage == ()
    with counted() as cost:
        place.index(vocabulary__words=10)
    assert cost.through_the_network == 0


@contextlib.contextmanager
def _no_bags() -> Iterator[None]:
    """Let the encode stage fail, as on a full disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lamella.pipeline.index.encode.put_words",
            lambda *a: (_ for _ in ()).throw(OSError(28, "full")),
        )
        yield


def test_vocabulary_show_and_compare_say_what_was_freed(place: Place) -> None:
    snapshot = current_snapshot(place.store)
    assert snapshot is not None
    assert not inspect_layer(place.store, snapshot, "p15").sample_freed
    gc(place.store)
    assert inspect_layer(place.store, snapshot, "p15").sample_freed
    with pytest.raises(InputError, match="trained on was freed by `lamella gc --intermediate`"):
        compare_layer((place.store, place.store), (snapshot, snapshot), "p15")


def test_words_are_not_counted_where_descriptors_are_gone(place: Place) -> None:
    from lamella.pipeline.extract.extraction import check_not_freed

    gc(place.store)
    records = [r for p, r in take_inventory(place.store, "activations").of(DoneRecord)]
    assert all(set(record.freed) == {"p15"} for record in records)
    with pytest.raises(MissingFile, match=r"p15 of shard .* were freed by `lamella gc --i"):
        check_not_freed(records[0], "p15")
    check_not_freed(records[0], "b11")


def test_a_picture_is_forgotten_where_intermediates_were_freed(place: Place) -> None:
    gc(place.store)
    asked = {"by": "name", "value": "07.png", "reason": "asked"}
    forget_picture(place.store, SerialRunner(), threads=1, **asked)  # type: ignore[arg-type]
    assert check_forgotten(place.store, name="07.png") == []
    assert verify_store(place.store).damage == ()


def test_sizes_say_before_what_gc_frees(place: Place) -> None:
    sizes = store_sizes(place.store)
    total = sum(file.size_bytes for file in place.store.walk())
    assert sizes.total == total
    assert (sizes.gc, sizes.gc_later, sizes.intermediate) == (0, 0, 0)  # all of it is young
    now = store_sizes(place.store, older_than_s=-60.0)
    assert now.intermediate == sizes.intermediate_later > 0
    found = gc(place.store)
    assert found.freed_bytes == now.intermediate
    after = store_sizes(place.store, older_than_s=-60.0)
    assert (after.kinds["samples"] < sizes.kinds["samples"], after.intermediate) == (True, 0)
    for kind in ("tables", "bags", "segments"):
        assert after.kinds[kind] == sizes.kinds[kind] > 0
    _damage(place, "jobs/*.json")
    assert "lamella verify" in store_sizes(place.store).unknown


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(young=st.data())
def test_whatever_is_too_young_nothing_that_stays_is_missed(
    young: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ages") / "store"
    store = LocalStore(Path(shutil.copytree(whole / "store", folder)))
    long_ago = time.time() - 3 * gc_module.DAY_S
    for path in sorted(folder.glob("[av]*/**/*.json")):
        if young.draw(st.booleans()):
            os.utime(path, (long_ago, long_ago))
    gc(store, older_than_s=gc_module.DAY_S)
    assert verify_store(store).damage == ()
    assert verify_store(store).orphans == ()
    shutil.rmtree(folder)
