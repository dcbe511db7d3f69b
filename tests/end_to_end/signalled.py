"""Every command, from a store that it begins with to what it must have come to."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.index.expired import expired_numbers, snapshot_numbers
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.verify import verify_store
from tests.builders import SMALL
from tests.end_to_end.commands import (
    Stores,
    _damaged,
    _with_garbage,
    _with_one_away,
    _with_run,
    current,
)
from tests.tiny import TINY


@dataclass(frozen=True)
class Place:
    """Where one run takes place: a store of its own, and a folder for what it writes."""

    stores: Stores
    store: Path
    folder: Path

    @property
    def job(self) -> Path:
        """The settings of the tiny stores."""
        path = self.folder / "job.toml"
        settings = SMALL | {name.replace("__", "."): value for name, value in TINY.items()}
        path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))
        return path


Call = Callable[[Place], list[object]]


@dataclass(frozen=True)
class Case:
    """A command: its call, the store it begins with, and what it must come to."""

    call: Call
    start: Callable[[Stores], Path | None] = lambda stores: stores.one
    result: Callable[[Place], object] = lambda place: None
    on_ray: bool = False


def root_digests(place: Place) -> object:
    """Return the current snapshot's digest, and check that every file is as its record says."""
    opened = LocalStore(place.store)
    assert verify_store(opened).damage == ()
    numbers = snapshot_numbers(opened), expired_numbers(opened)
    return current(place.store).root_digest, *map(list, numbers)


def files(place: Place) -> object:
    """Return the names of all files of the store."""
    return sorted(path.name for path in place.store.rglob("*") if path.is_file())


def exported(place: Place) -> object:
    """Return the digests of the files that the command wrote."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((place.folder / "words").rglob("*"))
        if path.is_file()
    }


def answers(place: Place) -> object:
    """Return what was answered, but for the times."""
    return json.loads((place.folder / "answers.json").read_text())["rankings"]


def _with_another(stores: Stores) -> Path:
    """Return a store whose source has a picture more by now."""
    return stores.one


CASES = {
    "index": Case(
        lambda p: ["index", p.stores.pictures, "--into", p.store, "--job", p.job],
        lambda stores: None,
        root_digests,
        on_ray=True,
    ),
    "reindex": Case(
        lambda p: ["reindex", p.store, "--retrain", "--rehash"],
        result=root_digests,
        on_ray=True,
    ),
    "query": Case(
        lambda p: [
            *("query", p.store, p.stores.pictures, "--into", "asked", "--k", 3),
            *("--out", p.folder / "answers.json"),
        ],
        result=answers,
        on_ray=True,
    ),
    "evaluate": Case(
        lambda p: ["evaluate", p.store, "--protocol", "groups", "--pattern", r"(\d)\d"],
        result=root_digests,
        on_ray=True,
    ),
    "compare": Case(
        lambda p: ["compare", p.store, p.stores.two, "--page", p.folder / "night.html"],
        result=root_digests,
        on_ray=True,
    ),
    "explain": Case(
        lambda p: ["explain", p.store, "00.png", "01.png", "--page", p.folder / "why.html"],
        result=root_digests,
    ),
    "duplicates": Case(
        lambda p: [
            *("duplicates", p.store, "--above", 1.2, "--into", "same", "--k", 1),
            *("--groups", p.folder / "groups.csv"),
        ],
        result=lambda p: (p.folder / "groups.csv").read_text(),
        on_ray=True,
    ),
    "export": Case(lambda p: ["export", p.store, "--to", p.folder / "words"], result=exported),
    "repair": Case(lambda p: ["repair", p.store], _damaged, root_digests, on_ray=True),
    "retry": Case(
        lambda p: ["retry", p.store, "--state", "fetch-failed"],
        _with_one_away,
        root_digests,
        on_ray=True,
    ),
    "forget": Case(
        lambda p: ["forget", p.store, "--name", "02.png", "--reason", "its owner asked"],
        result=root_digests,
        on_ray=True,
    ),
    "plan": Case(
        lambda p: ["plan", p.stores.pictures, "--into", p.folder / "s", "--job", p.job],
        on_ray=True,
    ),
    "verify": Case(lambda p: ["verify", p.store], result=root_digests),
    "gc": Case(lambda p: ["gc", p.store, "--older-than", "0s", "--force"], _with_garbage, files),
    "status": Case(lambda p: ["status", p.store], result=root_digests),
    "snapshots": Case(
        lambda p: ["snapshots", p.store, "--promote", 1], lambda s: s.two, root_digests
    ),
    "tag": Case(lambda p: ["tag", p.store, "kept", 1], lambda s: s.two, root_digests),
    "expire": Case(
        lambda p: ["expire", p.store, "--keep-last", 1, "--keep-days", 0],
        lambda s: s.two,
        root_digests,
    ),
    "runs": Case(lambda p: ["runs", p.store], _with_run, files),
    "vocabulary show": Case(
        lambda p: ["vocabulary", "show", p.store, "--page", p.folder / "words.html"]
    ),
    "vocabulary compare": Case(
        lambda p: ["vocabulary", "compare", p.store, p.stores.two], result=root_digests
    ),
    "vocabulary export": Case(
        lambda p: ["vocabulary", "export", p.store, "--into", p.folder / "words"], result=exported
    ),
    "bench search": Case(lambda p: ["bench", "search", "--pictures", 2000, "--folder", p.folder]),
    "demo": Case(lambda p: ["demo", p.folder / "demo", "--objects", 4], on_ray=True),
}


def begin(case: Case, stores: Stores, folder: Path) -> Place:
    """Make the place for one run of a command."""
    folder.mkdir(parents=True)
    start = case.start(stores)
    if start is not None:
        shutil.copytree(start, folder / "store")
    return Place(stores, folder / "store", folder)
