"""After a picture is forgotten nothing in the store names it, shows it or indexes it again."""

import contextlib
import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest import mock

import pytest

from lamella.cluster.commands.evaluate import Asked, evaluate_store
from lamella.cluster.commands.query import Queries
from lamella.pipeline.corpus.forgotten import forgotten_path
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.expired import snapshot_numbers
from lamella.pipeline.index.promotions import current_snapshot, promote, read_snapshot
from lamella.pipeline.index.tags import read_tags, tag_snapshot
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.forget import Forgot, forget_picture
from lamella.pipeline.upkeep.forgotten_check import check_forgotten
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.files import DoneRecord
from tests.builders import Killed
from tests.command_line import complaint, lamella
from tests.end_to_end.commands import ENGINE, query_store, tiny_runs
from tests.pipeline.upkeep.nights import OPEN, bytes_of, ids_of, index_nights, settle
from tests.tiny import nothing_reaches_the_disk, tiny_index, tiny_job, tiny_pictures

NAME = "07.png"


@dataclass(frozen=True)
class Place:
    """A store of two nights with runs, and the pictures of its source."""

    store: LocalStore
    pictures: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.pictures / NAME).read_bytes()).hexdigest()

    def forget(self, by: str = "name", **more: object) -> Forgot:
        value = NAME if by == "name" else self.sha256
        asked = {"by": by, "value": value, "reason": "its owner asked", **more}
        with nothing_reaches_the_disk(), tiny_runs():
            return forget_picture(self.store, SerialRunner(), threads=1, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forget")
    with nothing_reaches_the_disk(), tiny_runs():
        index_nights(folder, 2)
        store, job = str(folder / "store"), tiny_job()
        query_store(ENGINE, store, job, Queries(str(folder / "pictures"), None, None, None))
        query_store(ENGINE, store, job, Queries(None, "all", None, "every"))
        query_store(ENGINE, store, job, Queries(None, None, "08.png", "one"))
        asked = Asked(protocol="groups", pattern=r"(\d)\d")
        evaluate_store(ENGINE, store, job, asked, quiet=True)
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Iterator[Place]:
    # The job names its source: it stays where it was, and is put back after the test.
    store = LocalStore(Path(shutil.copytree(whole / "store", tmp_path / "store")))
    kept = tmp_path / "kept"
    shutil.copytree(whole / "pictures", kept)
    yield Place(store, whole / "pictures")
    shutil.rmtree(whole / "pictures")
    shutil.copytree(kept, whole / "pictures")


def traces(place: Place, image_id: int, sha256: str) -> list[str]:
    """Return what the bytes of a store, read in every way, give away of a picture."""
    data = bytes_of(place.store.root)
    looked_for = {
        "name": NAME.encode(),
        "hash": bytes.fromhex(sha256),
        "hash in hex": sha256.encode(),
        "id": image_id.to_bytes(8, "little"),
        "id in text": str(image_id).encode(),
    }
    return [what for what, each in looked_for.items() if each in data]


@pytest.mark.parametrize("by", ["name", "sha256"])
def test_nothing_is_left_of_a_forgotten_picture(place: Place, by: str) -> None:
    image_id, sha256 = ids_of(place.store.root, 2)[NAME], place.sha256
    assert traces(place, image_id, sha256) == ["name", "hash", "id"]
    assert list(place.store.root.glob("runs/*/report.html"))  # it has thumbnails
    assert {each.holds for each in check_forgotten(place.store, name=NAME, sha256=sha256)} == {
        "its name",
        "its id",
        "its hash",
    }
    tag_snapshot(place.store, "before", 2)
    before = {path.name for path in place.store.root.glob("activations/*/done/*.json")}
    found = place.forget(by)
    assert (found.pictures, found.expired, found.tags, found.current) == (1, (1, 2), ("before",), 3)
    assert traces(place, image_id, sha256) == []
    assert check_forgotten(place.store, name=NAME, sha256=sha256) == []
    assert check_forgotten(place.store) == []
    assert list(place.store.walk("runs")) == []
    assert snapshot_numbers(place.store) == [3]
    assert read_tags(place.store) == {}
    assert verify_store(place.store).damage == ()
    assert verify_store(place.store).orphans == ()
    now = ids_of(place.store.root, 3)
    assert NAME not in now
    assert "08.png" in now
    new = [
        DoneRecord.from_json(path.read_bytes())
        for path in place.store.root.glob("activations/*/done/*.json")
        if path.name not in before
    ]
    assert new
    assert all(each.counts["taken over: images"] == each.counts["indexed"] for each in new)
    assert len(store_status(place.store)["corpora"]) == 1
    with nothing_reaches_the_disk():  # it is in the source, and stays out of the index
        again = tiny_index(place.store.root, place.pictures, **OPEN)
    assert again.number == 3
    collect_garbage(place.store, older_than_s=-1.0, forced=True)
    assert verify_store(place.store).damage == ()
    assert traces(place, image_id, sha256) == []
    current = current_snapshot(place.store)
    assert current is not None
    assert current.number == 3


@pytest.mark.parametrize("by", ["name", "sha256"])
def test_it_comes_back_under_the_same_name_or_bytes_and_stays_out(place: Place, by: str) -> None:
    sha256 = place.sha256
    place.forget(by)
    (place.pictures / NAME).rename(place.pictures / "another.png")
    shutil.copy(place.pictures / "08.png", place.pictures / NAME)
    with nothing_reaches_the_disk(), tiny_runs():
        reindex(place.store, SerialRunner(), threads=1, watch=Watch())
    found = ids_of(place.store.root, 4)
    assert ("another.png" in found) == (by == "name")
    assert (NAME in found) == (by == "sha256")
    if by == "sha256":
        assert check_forgotten(place.store, sha256=sha256) == []


@pytest.mark.parametrize("by", ["name", "sha256"])
def test_an_index_from_nothing_that_forgets_the_same_has_the_same_root(
    place: Place, tmp_path: Path, by: Literal["name", "sha256"], whole: Path
) -> None:
    place.forget(by)
    words = tmp_path / "words"
    assert lamella("vocabulary", "export", place.store.root, "--into", words).returncode == 0
    value = NAME if by == "name" else place.sha256
    roots = []
    with nothing_reaches_the_disk(), tiny_runs():
        for name in ("grown", "new"):
            store = tmp_path / name
            if name == "grown":
                tiny_index(store, whole / "night-0", vocabulary_from=str(words), **OPEN)
            forget_picture(
                open_store(str(store), create=True),
                SerialRunner(),
                by=by,
                value=value,
                reason="asked",
                threads=1,
                anyway=True,
            )
            made = tiny_index(store, whole / "night-1", vocabulary_from=str(words), **OPEN)
            assert NAME not in ids_of(store, made.number)
            roots.append(made.root_digest)
    assert roots[0] == roots[1]


@contextlib.contextmanager
def dying_at(number: int) -> Iterator[list[str]]:
    """Die at the n-th change of a store: a create, a put, a replacement or a removal."""
    made: list[str] = []
    with contextlib.ExitStack() as stack:
        for call in ("create", "put", "replace", "discard"):
            own = getattr(LocalStore, call)

            def dying(
                store: LocalStore, path: str, *more: object, own: object = own, call: str = call
            ) -> None:
                if not path.startswith("probe/"):
                    if len(made) == number:
                        raise Killed(path)
                    made.append(f"{call} {path}")
                own(store, path, *more)  # type: ignore[operator]

            stack.enter_context(mock.patch.object(LocalStore, call, dying))
        yield made


@pytest.fixture(scope="module")
def changes(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many changes a forget makes."""
    folder = tmp_path_factory.mktemp("count")
    store = LocalStore(Path(shutil.copytree(whole / "store", folder / "store")))
    with dying_at(-1) as made:
        Place(store, whole / "pictures").forget()
    return len(made)


@pytest.mark.parametrize("by", ["name", "sha256"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_a_forget_that_dies_ends_the_same_when_it_is_given_again(
    place: Place, changes: int, share: float, by: str
) -> None:
    image_id, sha256 = ids_of(place.store.root, 2)[NAME], place.sha256
    with dying_at(int(share * changes)), pytest.raises(Killed):
        place.forget(by)
    if by == "sha256":  # gc in between takes nothing that the rest must know
        collect_garbage(place.store, older_than_s=-1.0, forced=True)
    place.forget(by)
    assert traces(place, image_id, sha256) == []
    assert verify_store(place.store).damage == ()
    assert verify_store(place.store).orphans == ()
    assert NAME not in ids_of(place.store.root, snapshot_numbers(place.store)[-1])
    current = current_snapshot(place.store)
    assert current is not None
    assert current.number == snapshot_numbers(place.store)[-1]


def test_members_of_tars_and_refused_pictures_are_forgotten(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 14)
    source = tmp_path / "tars"
    source.mkdir()
    for number in range(2):
        with tarfile.open(source / f"{number}.tar", "w") as tar:
            for path in sorted(pictures.iterdir())[number * 7 : number * 7 + 7]:
                tar.add(path, arcname=path.name)
    settle(source)
    store = LocalStore(tmp_path / "store")
    edge = hashlib.sha256((pictures / "06.png").read_bytes()).hexdigest()  # the last of a shard
    with nothing_reaches_the_disk(), tiny_runs():
        tiny_index(store.root, source, **OPEN)
        asked: tuple[tuple[Literal["name", "sha256"], str], ...] = (
            ("name", "0.tar/03.png"),
            ("sha256", edge),
            ("name", "1.tar/13.png"),
        )
        for by, value in asked:
            found = forget_picture(
                store, SerialRunner(), by=by, value=value, reason="asked", threads=1
            )
            assert found.pictures == 1
            assert verify_store(store).damage == ()
            assert check_forgotten(store) == []
    for name in ("0.tar/03.png", "0.tar/06.png", "1.tar/13.png"):
        assert check_forgotten(store, name=name) == []
    assert (current := current_snapshot(store)) is not None
    assert (current.indexed, current.refused) == (11, 0)


def test_gate_and_hold_do_not_stand_against_it(place: Place) -> None:
    promote(place.store, 1)
    found = place.forget()
    assert found.expired == (1, 2)
    assert current_snapshot(place.store) == read_snapshot(place.store, 3)


def test_what_is_not_there_is_not_forgotten_unless_it_is_to_be_barred(place: Place) -> None:
    forget = ("forget", place.store.root, "--engine", "serial", "--reason", "asked")
    said = complaint(lamella(*forget, "--name", "nope.png"))
    assert "no picture in" in said
    assert "has this name: give the name as answers give it, or --anyway" in said
    said = complaint(lamella(*forget, "--sha256", "12"))
    assert "a SHA-256 is 64 hex digits; got '12'" in said
    assert "by its name or by its bytes" in complaint(lamella(*forget))
    assert "say why" in complaint(lamella("forget", place.store.root, "--name", NAME))
    said = complaint(lamella("forget", place.store.root, "--name", NAME, "--reason", f"x {NAME}"))
    assert "must not hold the name" in said
    assert not (place.store.root / "forgotten").exists()
    found = lamella(*forget, "--name", "nope.png", "--anyway", "--json")
    assert json.loads(found.stdout)["pictures"] == 0
    path = forgotten_path("name", "nope.png")
    assert "nope.png" not in path + (place.store.root / path).read_text()
    assert snapshot_numbers(place.store) == [1, 2]
    shutil.copy(place.pictures / "08.png", place.pictures / "nope.png")
    with nothing_reaches_the_disk():
        made = tiny_index(place.store.root, place.pictures, **OPEN)
    assert "nope.png" not in ids_of(place.store.root, made.number)


def test_the_same_bytes_under_another_name_are_told_of(place: Place) -> None:
    shutil.copy(place.pictures / NAME, place.pictures / "twin.png")
    with nothing_reaches_the_disk(), tiny_runs():
        reindex(place.store, SerialRunner(), threads=1, watch=Watch())
    found = place.forget()
    assert (found.twins, found.sha256) == (1, place.sha256)
    assert "twin.png" in ids_of(place.store.root, 4)
    again = place.forget("sha256")
    assert (again.pictures, again.twins) == (1, 0)
    assert "twin.png" not in ids_of(place.store.root, 5)
    assert verify_store(place.store).damage == ()


def test_without_the_source_the_record_stands_and_the_rest_waits(place: Place) -> None:
    away = place.pictures.with_name("away")
    place.pictures.rename(away)
    digest = hashlib.sha256((away / NAME).read_bytes()).hexdigest()
    try:
        with pytest.raises(InputError, match=r"is on record.*snapshot 2 still does: give the same"):
            place.forget()
        assert place.store.exists(forgotten_path("name", NAME))
        assert snapshot_numbers(place.store) == [1, 2]
    finally:
        away.rename(place.pictures)
    found = place.forget()
    assert found.expired == (1, 2)
    assert check_forgotten(place.store, name=NAME, sha256=digest) == []


def test_the_command_says_what_it_did_and_what_it_cannot_reach(place: Place) -> None:
    shutil.copy(place.pictures / NAME, place.pictures / "twin.png")
    with nothing_reaches_the_disk(), tiny_runs():
        reindex(place.store, SerialRunner(), threads=1, watch=Watch())
    tag_snapshot(place.store, "before", 1)
    forget = ("forget", place.store.root, "--name", NAME, "--reason", "asked")
    said = lamella(*forget, "--engine", "serial")
    assert said.returncode == 0, said.stderr
    assert "1 picture forgotten; snapshots that held it and expired: 1, 2, 3; " in said.stdout
    assert "current snapshot: 4; " in said.stdout
    assert "the tag before went with its snapshot" in said.stdout
    assert f"give --sha256 {place.sha256}" in said.stdout
    assert "what this cannot reach: earlier versions in a bucket" in said.stdout
    left = json.loads(lamella(*forget[:4], "--check", "--json").stdout)
    assert left == []
    left = lamella("forget", place.store.root, "--check", "--sha256", place.sha256)
    assert left.returncode == 1  # the twin has these bytes
    assert "holds its hash" in left.stdout


def test_check_finds_what_a_person_put_back(place: Place) -> None:
    assert lamella("forget", place.store.root, "--check").returncode == 0
    place.forget()
    (place.store.root / "notes.txt").write_text(f"{NAME} was here")
    said = lamella("forget", place.store.root, "--check", "--name", NAME)
    assert said.returncode == 1
    assert "notes.txt holds its name" in said.stdout
