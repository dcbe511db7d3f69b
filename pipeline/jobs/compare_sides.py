"""What may be compared: a snapshot of a store, a run that is stored there, or a TREC run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.index.expired import snapshot_numbers
from lamella.pipeline.index.tags import read_tags
from lamella.pipeline.jobs.rankings import known_run, stored_run
from lamella.pipeline.jobs.resolve import chosen_snapshot
from lamella.pipeline.jobs.scoring import corpus_names, ranked_file, ranked_run, snapshot_of
from lamella.pipeline.store import tree
from lamella.pipeline.store.address import is_s3
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.snapshot import IndexSnapshot

FORMS = "STORE, STORE@SNAPSHOT, STORE@TAG, STORE@RUN or a file of a TREC run"

COLUMNS = ("name", "image_id")


@dataclass(frozen=True)
class Side:
    """One of two things that are compared.

    Attributes:
        given: as the user wrote it.
        label: what it is called: "index@3", "index@monday", "monday.trec".
        ranked: its rankings; None for a snapshot, which is asked.
        store: where it is; None for a file.
        snapshot: what is asked, or what a run asked; None where that is not known, or has expired.
    """

    given: str
    label: str
    ranked: Ranked | None = None
    store: Store | None = None
    snapshot: IndexSnapshot | None = None

    @cached_property
    def corpus(self) -> dict[str, int] | None:
        """The ids of the pictures that were searched, by name; None where they are not known."""
        if self.store is None or self.snapshot is None:
            return None
        table = corpus_names(self.store, self.snapshot)
        found: dict[str, int] = {}
        for name, image_id in zip(
            *(table.column(each).to_pylist() for each in COLUMNS), strict=True
        ):
            found.setdefault(name, image_id)
        return found


def open_sides(a: str, b: str) -> tuple[Side, Side]:
    """Return both sides. Raises InputError as `open_side`."""
    one, other = open_side(a), open_side(b)
    if one.label != other.label:
        return one, other
    return _called(one, one.given), _called(other, other.given if a != b else f"{b} again")


def _called(side: Side, label: str) -> Side:
    return Side(side.given, label, side.ranked, side.store, side.snapshot)


def open_side(given: str) -> Side:
    """Return what a text names: a file that is there, a store, or something in a store.

    After the last @ stands a number or a tag of a snapshot, or the name of a run; a store alone
    means its promoted snapshot. `run:`, `tag:` and `snapshot:` say which, where a name is of two.

    Raises:
        InputError: there is no such thing, or it is not clear which is meant.
    """
    path = Path(given)
    if not is_s3(given) and path.is_file():
        return Side(given, path.name, ranked_file(path))
    whole = not is_s3(given) and path.is_dir()
    url, at, said = (given, "", "") if whole else given.rpartition("@")
    if not at:
        url = given
    elif not said or not url:
        raise InputError(f"A and B are each {FORMS}; got {one_line(repr(given), 200)}")
    if not is_s3(url) and not Path(url).exists():
        raise InputError(
            f"A and B are each {FORMS}; there is no file and no store "
            f"{one_line(repr(url), 200)}: give one that is there"
        )
    store = open_store(url)
    folder = url.rstrip("/").rpartition("/")[2]
    if not at:
        return _snapshot(given, folder, store, None)
    kind, colon, name = said.partition(":")
    if not colon:
        kind, name = _kind_of(store, url, said), said
    if kind == "run":
        run = known_run(store, name)
        return Side(
            given,
            f"{folder}@{name}",
            ranked_run(store, run),
            store,
            snapshot_of(store, run.snapshot),
        )
    if kind in ("tag", "snapshot"):
        return _snapshot(given, folder, store, name)
    raise InputError(
        f"after the @ and before a colon stands run, tag or snapshot; {one_line(repr(kind), 60)} is"
        f" none, in {one_line(repr(given), 200)}"
    )


def _snapshot(given: str, folder: str, store: Store, name: str | None) -> Side:
    snapshot = chosen_snapshot(store, name)
    return Side(given, f"{folder}@{snapshot.number}", None, store, snapshot)


def _kind_of(store: Store, url: str, name: str) -> str:
    """Return whether a name is a run's or a snapshot's. Raises InputError: it is both, or neither.

    A number is a snapshot's, whether there is one or not, unless a run has it.
    """
    is_run = tree.slug(name) == name and stored_run(store, name) is not None
    tags, number = read_tags(store), name.isdecimal()
    is_snapshot = name in tags or (number and int(name[:18]) in snapshot_numbers(store))
    if is_run and is_snapshot:
        other = "tag" if name in tags else "snapshot"
        raise InputError(
            f"{name} is the name of a run and a {other} of {url}: say which, {url}@run:{name} or "
            f"{url}@{other}:{name}"
        )
    if is_run or is_snapshot or number:
        return "run" if is_run else "snapshot"
    raise InputError(
        f"after the @ stands a snapshot's number or tag, or a run; {one_line(repr(name), 60)} is "
        f"none of {url}: see `lamella snapshots {url}` and `lamella runs {url}`"
    )
