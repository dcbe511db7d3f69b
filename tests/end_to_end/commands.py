"""The commands as functions of a tiny store, for tests that disturb them."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from lamella.cluster.commands.evaluate import Asked, evaluate_store
from lamella.cluster.commands.query import Queries, answer_queries, prepare_queries
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.extract import backbone
from lamella.pipeline.index.expired import expired_numbers, snapshot_numbers
from lamella.pipeline.index.promotions import current_snapshot, promote
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.jobs.query_run import Answered
from lamella.pipeline.jobs.rankings import read_rankings, refusal_tables
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.expire import expire_snapshots
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.forgotten_check import check_forgotten
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.retry_refused import retry_store
from lamella.pipeline.upkeep.runs import list_runs, remove_run
from lamella.pipeline.upkeep.verify import verify_store
from lamella.pipeline.vocabulary.exchange import export_vocabulary
from lamella.schemas.corpus import ShardRef
from lamella.schemas.job import JobConfig
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.snapshot import IndexSnapshot
from tests.faulty import away
from tests.tiny import tiny_index, tiny_job, tiny_pictures

ENGINE = Engine(SerialRunner(), lambda: 1)


def query_store(
    engine: Engine,
    url: str,
    job: JobConfig,
    queries: Queries,
    *,
    number: int | None = None,
    weights: Path | None = None,
    quiet: bool = False,
) -> Answered:
    """Return the run that answers queries, by an engine that is open."""
    prepared = prepare_queries(url, job, queries, number=number)
    return answer_queries(engine, prepared, weights=weights, quiet=quiet)


@dataclass(frozen=True)
class Stores:
    """The pictures; a store of one snapshot; one of two, of which the second is promoted.

    All tests share them: a test that writes takes a copy.
    """

    pictures: Path
    one: Path
    two: Path


@contextlib.contextmanager
def tiny_runs() -> Iterator[None]:
    """Let commands over tiny stores be quick: a network is opened once."""
    with mock.patch.object(backbone, "Backbone", _opened_once):
        yield


_opened_once = functools.lru_cache(backbone.Backbone)


def make_stores(folder: Path) -> Stores:
    """Make the pictures and the stores in a folder."""
    with tiny_runs():
        pictures = tiny_pictures(folder / "pictures")
        tiny_index(folder / "one", pictures)
        shutil.copytree(folder / "one", folder / "two")
        tiny_index(folder / "two", pictures, fusion__preset="scaled")
    return Stores(pictures, folder / "one", folder / "two")


def contents(stores: Stores) -> dict[str, bytes]:
    """Return the bytes of every file of the pictures and the stores."""
    return {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for folder in (stores.pictures, stores.one, stores.two)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Command:
    """What a command begins with, and what it gives: equal however often it was interrupted.

    `damaged` says that `verify` may find a fault where it was interrupted: a repair begins with
    one, and a retry takes a done record away to do its task again.
    """

    start: Callable[[Stores], Path | None]
    run: Callable[[Stores, Path], Any]
    damaged: bool = False

    def begin(self, stores: Stores, place: Path) -> Path:
        """Make a store for one run."""
        start = self.start(stores)
        if start is None:
            place.mkdir()
        else:
            shutil.copytree(start, place)
        return place


def _index(stores: Stores, store: Path) -> Any:
    return tiny_index(store, stores.pictures).root_digest


def current(store: Path) -> IndexSnapshot:
    """Return the snapshot that queries of a store use."""
    found = current_snapshot(LocalStore(store))
    assert found is not None
    return found


def rows_of(store: Path) -> dict[str, tuple[ShardRef, dict[str, Any]]]:
    """Return the shard and the row of each picture of the current snapshot, by name."""
    return {
        row["name"]: (shard, row)
        for shard in shards_of(LocalStore(store), current(store))
        for row in read_images(store / shard.file.path).to_pylist()
    }


def shard_of(store: Path, name: str) -> ShardRef:
    """Return the shard of a picture in the current snapshot."""
    return rows_of(store)[name][0]


def id_of(store: Path, name: str) -> int:
    """Return the id of a picture in the current snapshot."""
    found: int = rows_of(store)[name][1]["image_id"]
    return found


def exported(stores: Stores) -> Path:
    """Return a folder with the words of the store of one snapshot."""
    words = stores.one.parent / "words"
    if not words.exists():
        store = LocalStore(stores.one)
        snapshot = current(stores.one)
        export_vocabulary(store, snapshot.vocabularies["p15"], snapshot.extraction, words)
    return words


def _index_with_words(stores: Stores, store: Path) -> Any:
    words = str(exported(stores))
    return tiny_index(store, stores.pictures, vocabulary_from=words).root_digest


def _index_again(stores: Stores, store: Path) -> Any:
    found = tiny_index(store, stores.pictures, fusion__preset="scaled")
    return found.root_digest, found.number


def _query(stores: Stores, store: Path, pictures: str | None, ids: str | None) -> Any:
    run = query_store(
        ENGINE,
        str(store),
        tiny_job(search__k=3, search__batch_queries=4),
        Queries(pictures, ids),
        quiet=True,
    ).run
    refusals = [table.to_pylist() for table in refusal_tables(LocalStore(store), run)]
    rankings = read_rankings(LocalStore(store), run).to_pylist()
    return run.run, run.answered, rankings, refusals


def _query_ids(stores: Stores, store: Path) -> Any:
    return _query(stores, store, None, "all")


def _query_pictures(stores: Stores, store: Path) -> Any:
    return _query(stores, store, str(stores.pictures), None)


def _evaluate(stores: Stores, store: Path) -> Any:
    asked = Asked(protocol="groups", pattern=r"(\d)\d")
    report, page = evaluate_store(ENGINE, str(store), tiny_job(), asked, quiet=True)
    assert page.path.is_file()
    return report.model_dump(exclude={"elapsed_seconds"})


def _promote(stores: Stores, store: Path) -> Any:
    promote(LocalStore(store), 1)
    return current(store).number


def _with_garbage(stores: Stores) -> Path:
    """Return a store with what died attempts and an ended round leave."""
    store = stores.one.parent / "garbage"
    if not store.exists():
        shutil.copytree(stores.one, store)
        for number in range(3):
            (store / f"segments/0000{number}.abcdefabcdef.arrow").write_bytes(b"lost")
        (store / "bags/.0123456789abcdef.tmp").write_bytes(b"cut sh")
    return store


def _gc(stores: Stores, store: Path) -> Any:
    collect_garbage(LocalStore(store), older_than_s=-1.0, forced=True)
    return sorted(path.name for path in store.rglob("*") if path.is_file())


def _gc_intermediate(stores: Stores, store: Path) -> Any:
    collect_garbage(LocalStore(store), older_than_s=-1.0, forced=True, intermediate=True)
    return sorted(path.name for path in store.rglob("*") if path.is_file())


def _expire(stores: Stores, store: Path) -> Any:
    opened = LocalStore(store)
    expire_snapshots(opened, keep_last=1, keep_days=0)
    return snapshot_numbers(opened), expired_numbers(opened)


def _forget(stores: Stores, store: Path) -> Any:
    opened = LocalStore(store)
    asked = {"by": "name", "value": "02.png", "reason": "its owner asked"}
    forget_picture(opened, SerialRunner(), threads=1, **asked)  # type: ignore[arg-type]
    left = check_forgotten(opened, name="02.png")
    return current(store).root_digest, snapshot_numbers(opened), left


def _with_run(stores: Stores) -> Path:
    """Return a store with a run of queries."""
    store = stores.one.parent / "asked"
    if not store.exists():
        shutil.copytree(stores.one, store)
        _query_ids(stores, store)
    return store


def _remove_runs(stores: Stores, store: Path) -> Any:
    for run in list_runs(LocalStore(store)):
        remove_run(LocalStore(store), run.name)
    return list_runs(LocalStore(store))


def _damaged(stores: Stores) -> Path:
    """Return a store with damage in a stage of each kind."""
    store = stores.one.parent / "damaged"
    if not store.exists():
        shutil.copytree(stores.one, store)
        for pattern in ("vocabularies/*/*/rounds/00002.*.arrow", "segments/*/p15/*.postings.arrow"):
            path = sorted(store.glob(pattern))[0]
            path.write_bytes(path.read_bytes()[:-1])
    return store


def _repair(stores: Stores, store: Path) -> Any:
    repair_store(LocalStore(store), SerialRunner(), threads=1)
    assert verify_store(LocalStore(store)).damage == ()
    return _query_ids(stores, store)


def _with_one_away(stores: Stores) -> Path:
    """Return a store whose job could not have one picture."""
    store = stores.one.parent / "away"
    if not store.exists():
        with away("02.png"):
            tiny_index(store, stores.pictures)
    return store


def _retry(stores: Stores, store: Path) -> Any:
    states = {RefusalReason.FETCH_FAILED}
    done = retry_store(LocalStore(store), SerialRunner(), states, threads=1, watch=Watch())
    return done.snapshot.number, done.snapshot.root_digest


COMMANDS = {
    "index": Command(lambda stores: None, _index),
    "index with words": Command(lambda stores: None, _index_with_words),
    "index again": Command(lambda stores: stores.one, _index_again),
    "query ids": Command(lambda stores: stores.one, _query_ids),
    "query pictures": Command(lambda stores: stores.one, _query_pictures),
    "evaluate": Command(lambda stores: stores.one, _evaluate),
    "gc": Command(_with_garbage, _gc),
    "gc --intermediate": Command(lambda stores: stores.one, _gc_intermediate),
    "expire": Command(lambda stores: stores.two, _expire),
    # Records that hold the picture go before the snapshot that was made from them.
    "forget": Command(lambda stores: stores.one, _forget, damaged=True),
    "runs --remove": Command(_with_run, _remove_runs),
    "repair": Command(_damaged, _repair, damaged=True),
    "retry": Command(_with_one_away, _retry, damaged=True),
    "promote": Command(lambda stores: stores.two, _promote),
}
