"""A store may be anybody's: it is data, and says nothing of what is read, written or deleted.

Each test plays a stranger who made or changed a store, or a person who names the wrong folder.
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lamella.cluster.commands.evaluate import Asked, evaluate_store
from lamella.pipeline.corpus.roots import picture_root
from lamella.pipeline.errors import CorruptFile, InputError, LamellaError, NotAFile, StoreError
from lamella.pipeline.index.promotions import current_snapshot, promote
from lamella.pipeline.jobs.report_page import Wanted
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.retry_refused import WORTH_RETRYING, retry_store
from lamella.pipeline.upkeep.verify import verify_store
from tests.builders import reseal
from tests.end_to_end.commands import COMMANDS, ENGINE, Stores, exported, id_of
from tests.tiny import tiny_index, tiny_job, tiny_pictures


@pytest.fixture
def store(stores: Stores, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores.one, tmp_path / "store"))


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def gc(store: Path) -> Any:
    return collect_garbage(open_store(str(store)), older_than_s=-1.0, forced=True)


def repair(store: Path) -> Any:
    return repair_store(open_store(str(store), damaged=True), SerialRunner(), threads=1)


def retry(store: Path, pictures: str | None = None) -> Any:
    return retry_store(
        open_store(str(store)),
        SerialRunner(),
        set(WORTH_RETRYING),
        threads=1,
        watch=Watch(),
        pictures=pictures,
    )


UPKEEP = {
    "gc": gc,
    "verify": lambda store: verify_store(open_store(str(store), damaged=True)),
    "repair": repair,
    "retry": retry,
}


@pytest.mark.parametrize("command", UPKEEP)
def test_a_folder_that_never_was_a_store_is_refused_and_left_alone(
    command: str, tmp_path: Path
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    (pictures / "runs/2026").mkdir(parents=True)
    (pictures / "runs/2026/00000.abcdefabcdef.arrow").write_bytes(b"mine")
    (pictures / ".0123456789abcdef.tmp").write_bytes(b"mine")
    before = everything(pictures)
    with pytest.raises(LamellaError, match="no probe/create-only"):
        UPKEEP[command](pictures)
    assert everything(pictures) == before


def test_notes_in_the_folder_of_a_store_stay(stores: Stores, store: Path) -> None:
    theirs = {
        "notes.txt": b"mine",
        "segments/notes.txt": b"mine",
        "segments/00000.abcdefabcdef.arrow": b"in no folder of a stage",
        "bags/mine/00000.abcdefabcdef.arrow": b"the folder is none of ours",
        "snapshots/notes/a.json": b"{}",
        "jobs/notes.json": b"{}",
        ".0123456789abcdef.tmp": b"mine",
        "holiday/.0123456789abcdef.tmp": b"mine",
        "probe/photo.jpg": b"mine",
    }
    for name, data in theirs.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(data)
    found = verify_store(LocalStore(store))
    assert (found.damage, found.orphans, found.strangers) == ((), (), len(theirs))
    assert gc(store).removed == ()
    assert repair(store).before == ()
    retry(store)
    COMMANDS["index again"].run(stores, store)
    assert {name: (store / name).read_bytes() for name in theirs} == theirs


def victim(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_bytes(b"mine")
    return home


PATHS = ["../home/.bashrc", "/etc/passwd", "segments/../../home/.bashrc", "snapshots/000001.json"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "record",
    ["activations/*/done/*.json", "looks/*/done/*.json", "segments/*/done/*.json"],
)
def test_a_path_in_a_done_record_is_one_of_its_own_stage_or_the_record_is_damaged(
    record: str, path: str, store: Path, tmp_path: Path
) -> None:
    home = victim(tmp_path)
    place = min(store.glob(record))
    files = LocalStore(store).read(place.relative_to(store).as_posix())
    assert b'"files"' in files
    stolen = {"path": path, "size_bytes": 4, "sha256": "0" * 64, "rows": 1}
    reseal(place, files={"images": stolen})
    found = verify_store(LocalStore(store)).damage
    assert place.relative_to(store).as_posix() in [each.path for each in found]
    for command in (retry, gc, repair):
        with contextlib.suppress(LamellaError):
            command(store)
    assert everything(home) == {".bashrc": b"mine"}


def test_a_name_in_a_done_record_is_no_path(stores: Stores, tmp_path: Path) -> None:
    # Taking over activations copied each file to the name that the record calls it by.
    home = victim(tmp_path)
    foreign = tmp_path / "store"
    words = str(exported(stores))
    tiny_index(foreign, stores.pictures, vocabulary_from=words)
    for place in foreign.glob("activations/*/done/*.json"):
        record = json.loads(place.read_bytes())
        files = {f"{home}/.bashrc": record["files"].pop("head"), **record["files"]}
        files["../../../../../../../../" + f"{home}/.bashrc"[1:]] = record["files"]["images"]
        reseal(place, files=files)
    more = tiny_pictures(tmp_path / "more", 8)
    with contextlib.suppress(LamellaError):
        retry(foreign)
    with contextlib.suppress(LamellaError):
        tiny_index(foreign, more, vocabulary_from=words)
    assert everything(home) == {".bashrc": b"mine"}


def links(store: Path, outside: Path) -> dict[str, Callable[[], None]]:
    """Return ways in which a stranger links a store's folders and files to places outside."""
    (stage,) = store.glob("segments/*")

    def folder() -> None:
        shutil.move(str(stage / "p15"), outside / "p15")
        (stage / "p15").symlink_to(outside / "p15")

    def top() -> None:
        shutil.move(str(store / "snapshots"), outside / "snapshots")
        (store / "snapshots").symlink_to(outside / "snapshots")

    def file() -> None:
        (path,) = store.glob("totals/*/p15/*")
        shutil.move(str(path), outside / path.name)
        path.symlink_to(outside / path.name)

    def record() -> None:
        path = store / "promotions/000001.json"
        shutil.move(str(path), outside / path.name)
        path.symlink_to(outside / path.name)

    return {"folder": folder, "top": top, "file": file, "record": record}


@pytest.mark.parametrize("kind", ["folder", "top", "file", "record"])
def test_no_link_in_a_store_is_followed(
    kind: str, stores: Stores, store: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    links(store, outside)[kind]()
    (outside / "mine").write_bytes(b"mine")
    before = everything(outside)
    with pytest.raises(NotAFile, match=r"is a link.* no link in it is followed"):
        COMMANDS["query ids"].run(stores, store)
    for name in ("index", "promote"):  # they do not read every file
        with contextlib.suppress(LamellaError):
            COMMANDS[name].run(stores, store)
    for damage in verify_store(LocalStore(store)).damage:
        if damage.problem.startswith("is a link"):
            assert damage.command == f"none: move {damage.path} away, then lamella repair {store}"
            break
    else:
        raise AssertionError("verify does not name the link")
    with pytest.raises(NotAFile, match=r"is a link.*nothing was changed"):
        repair(store)
    with pytest.raises(CorruptFile, match=r"is a link.*nothing was removed"):
        gc(store)
    assert everything(outside) == before


@pytest.mark.parametrize(
    "pattern", ["snapshots/000001.json", "segments/*/p15/*.postings.arrow", "looks/*/images/*"]
)
def test_a_folder_or_a_pipe_in_a_file_s_place_is_named_and_nothing_is_withdrawn(
    pattern: str, stores: Stores, store: Path
) -> None:
    path = sorted(store.glob(pattern))[0]
    for put in (os.mkdir, os.mkfifo):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path)
        before = everything(store)
        with pytest.raises(NotAFile, match=r"is a (folder|pipe)"):
            repair(store)
        with pytest.raises(LamellaError, match=r"is a (folder|pipe)"):
            gc(store)
        for name in ("query ids", "evaluate", "index"):
            with contextlib.suppress(LamellaError):
                COMMANDS[name].run(stores, store)
        assert {name: everything(store).get(name) for name in before} == before


def unlistable(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folder of snapshots not be listed: root, as which tests may run, may list all."""
    real = os.listdir

    def refuse(place: Any) -> list[str]:
        if isinstance(place, int) and os.readlink(f"/proc/self/fd/{place}").endswith("snapshots"):
            raise PermissionError(13, "Permission denied")
        return real(place)

    monkeypatch.setattr(os, "listdir", refuse)


@pytest.mark.parametrize("command", ["gc", "verify", "repair"])
def test_what_cannot_be_listed_is_not_taken_for_gone(
    command: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = store / "bags/p15-000000000000/p15/00000.aaaaaaaaaaaa.arrow"
    loose.parent.mkdir(parents=True)
    loose.write_bytes(b"lost")
    before = everything(store)
    unlistable(store, monkeypatch)
    with pytest.raises(StoreError, match=r"snapshots cannot be listed \(Permission denied\)"):
        UPKEEP[command](store)
    monkeypatch.undo()
    assert everything(store) == before


def test_another_snapshot_under_the_promoted_number_is_not_served(
    stores: Stores, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(stores.two, tmp_path / "store"))
    right = COMMANDS["query ids"].run(stores, store)
    one, two = store / "snapshots/000001.json", store / "snapshots/000002.json"
    value = json.loads(one.read_bytes()) | {"number": 2}
    two.write_bytes(one.read_bytes())
    reseal(two, **value)
    with pytest.raises(CorruptFile, match=r"000002.json has root digest \w{12}, promotion 2 names"):
        COMMANDS["query ids"].run(stores, store)
    (damage,) = verify_store(LocalStore(store)).damage
    assert damage.path == "snapshots/000002.json"
    assert damage.problem.startswith("has root digest")
    assert repair(store).after == ()
    assert COMMANDS["query ids"].run(stores, store) == right


@pytest.mark.parametrize("pattern", ["totals/*/p15/*.arrow", "segments/*/shards/*.json"])
def test_a_snapshot_whose_files_are_gone_is_not_promoted(pattern: str, store: Path) -> None:
    path = min(store.glob(pattern))
    path.unlink()
    with pytest.raises(LamellaError, match=rf"{path.name} is gone, snapshot 1 names it"):
        promote(LocalStore(store), 1)
    assert not (store / "promotions/000002.json").exists()


def test_gc_does_not_take_an_age_at_which_a_job_may_still_write(store: Path) -> None:
    opened = LocalStore(store)
    with pytest.raises(InputError, match=r"younger than 3,600 s.* got 60 s: .*--force"):
        collect_garbage(opened, older_than_s=60.0)
    assert collect_garbage(opened, older_than_s=60.0, dry_run=True).removed == ()
    assert collect_garbage(opened, older_than_s=60.0, forced=True).removed == ()


def test_a_page_shows_the_pictures_that_were_indexed_and_no_others(
    tmp_path: Path, stores: Stores
) -> None:
    pictures = Path(shutil.copytree(stores.pictures, tmp_path / "pictures"))
    tiny_index(tmp_path / "store", pictures)
    secret = Image.new("RGB", (40, 40), (255, 0, 0))
    out = io.BytesIO()
    secret.save(out, "PNG")
    (pictures / "00.png").write_bytes(out.getvalue())
    store = LocalStore(tmp_path / "store")
    snapshot = current_snapshot(store)
    assert snapshot is not None
    table = ImageTable(store, snapshot)
    first, second = (id_of(tmp_path / "store", name) for name in ("00.png", "01.png"))
    assert table.picture_bytes(first) is None
    assert table.picture_bytes(second) == (pictures / "01.png").read_bytes()


class InS3:
    """A store that says it lies in S3."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self.url = "s3://bucket/store"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_store_in_s3_reads_no_folder_of_this_machine_unless_told_to(
    stores: Stores, store: Path
) -> None:
    remote: Any = InS3(LocalStore(store))
    snapshot = current_snapshot(remote)
    assert snapshot is not None
    said = str(stores.pictures)
    with pytest.raises(InputError, match=rf"lie in {said} on this machine.*say so with --pictures"):
        ImageTable(remote, snapshot).picture_bytes(id_of(store, "00.png"))
    told = ImageTable(remote, snapshot, pictures=said)
    assert told.picture_bytes(id_of(store, "00.png")) == (stores.pictures / "00.png").read_bytes()
    assert picture_root(remote, "s3://bucket/pictures") == "s3://bucket/pictures"
    with pytest.raises(InputError, match="--pictures"):
        repair_store(remote, SerialRunner(), threads=1) if _lose_table(store) else None


def _lose_table(store: Path) -> bool:
    next(store.glob("looks/*/images/*")).unlink()
    return True


def test_pictures_that_moved_are_found_where_the_user_says(stores: Stores, tmp_path: Path) -> None:
    here = Path(shutil.copytree(stores.pictures, tmp_path / "here"))
    tiny_index(tmp_path / "store", here)
    there = here.rename(tmp_path / "there")
    asked = Asked(protocol="groups", pattern=r"(\d)\d")
    for pictures, shown in ((None, False), (str(there), True)):
        _, page = evaluate_store(
            ENGINE,
            str(tmp_path / "store"),
            tiny_job(),
            asked,
            quiet=True,
            page=Wanted(tmp_path / "page.html", single_file=True),
            pictures=pictures,
        )
        assert ("data:image/jpeg" in page.path.read_text()) == shown
        assert (page.gone == 0) == (page.note == "") == shown
