"""Garbage goes, whatever happened before; what anything needs stays."""

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_done
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep import gc
from lamella.pipeline.upkeep.gc import DAY_S, collect_garbage
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.files import FileRef
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary
from tests.builders import finish_whole
from tests.pipeline.upkeep.memory_store import MemoryStore
from tests.tiny import tiny_index, tiny_pictures

HOUR_S = 3600.0
LOOSE = "segments/x-000000000000/00000.abcdefabcdef.arrow"
INPUTS = "d" * 64
FOLDERS = {
    "activations/net-dddddddddddd": "extract",
    "segments/net-dddddddddddd": "index",
    "vocabularies/b-dddddddddddd/b": "round",
    "vocabularies/b-dddddddddddd/b/rounds/00000": "sum",
    "vocabularies/b-dddddddddddd/b/rounds/00001": "sum",
}


HAPPENINGS = (
    *("begin", "begin", "write", "commit", "commit", "die", "cut_short"),
    *("later", "name", "expire", "collect", "root", "root"),
)


@dataclass
class History:
    """Attempts that begin, write, commit or die; other writers; time; and what must stay."""

    chance: random.Random
    scratch: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    open: list[tuple[Attempt, float]] = field(default_factory=list)
    rooted: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    snapshots: tuple[IndexSnapshot, ...] = ()

    def step(self) -> None:
        """Let something happen."""
        for attempt, began in list(self.open):
            # No attempt outlives the limit of a task, which is far below the age of garbage.
            if self.store.now - began > HOUR_S:
                self.open.remove((attempt, began))
        getattr(self, self.chance.choice(HAPPENINGS))()

    def begin(self) -> None:
        folder = self.chance.choice(list(FOLDERS))
        key = tree.shard_key(self.chance.randrange(2))
        self.scratch.mkdir(exist_ok=True)
        token = f"{self.chance.getrandbits(48):012x}"
        attempt = Attempt(self.store, folder, FOLDERS[folder], key, INPUTS, self.scratch, token)
        self.open.append((attempt, self.store.now))
        self.write()

    def write(self) -> None:
        for attempt, _ in self.chance.sample(self.open, min(len(self.open), 2)):
            name = f"f{len(attempt.files)}"
            data = self.chance.randbytes(8)
            suffix = f"{name}.arrow"
            attempt.write(name, attempt.folder, suffix, lambda path, d=data: path.write_bytes(d))  # type: ignore[misc]

    def commit(self) -> None:
        if self.open:
            attempt, _ = self.open.pop(self.chance.randrange(len(self.open)))
            finish_whole(attempt)

    def die(self) -> None:
        if self.open:
            self.open.pop(self.chance.randrange(len(self.open)))

    def cut_short(self) -> None:
        name = f"segments/net-dddddddddddd/.{self.chance.getrandbits(64):016x}.tmp"
        self.store.files[name] = (b"half", self.store.now)

    def later(self) -> None:
        self.store.now += self.chance.choice((60.0, HOUR_S / 2, DAY_S / 2, 3 * DAY_S))

    def name(self) -> None:
        """Let a vocabulary name a committed file, as it does its centroids."""
        record = read_done(self.store, "vocabularies/b-dddddddddddd/b", "00000")
        path = "vocabularies/b-dddddddddddd/b/vocabulary.json"
        if record is not None and record.files and not self.store.exists(path):
            words = max(1, record.files["centroids"].rows)
            vocabulary = Vocabulary(
                layer="b", words=words, words_requested=words, dimensions=1, spec="s",
                extraction="e", rounds=(), centroids=record.files["centroids"],
            )  # fmt: skip
            self.store.create(path, vocabulary.to_json())

    def root(self) -> None:
        """Let a snapshot or a job reach a record, or reach it no more."""
        records = sorted(path for path in self.store.files if path.endswith(".json"))
        if records:
            self.rooted ^= {self.chance.choice(records)}

    def reaches(self, path: str) -> bool:
        """Say whether a root reaches a record; stands in for `alive.Alive`."""
        return path in self.rooted

    def expire(self) -> None:
        """Remove a record, as a repair does: what only it named is garbage now."""
        records = [path for path in self.store.files if "/done/" in path and "/rounds/" not in path]
        if records and self.chance.random() < 0.3:
            self.store.discard(self.chance.choice(sorted(records)))

    def is_young(self, path: str) -> bool:
        return self.store.now - self.store.files[path][1] <= DAY_S

    def needed(self) -> set[str]:
        """Return what a rooted or young record or a living attempt needs, found the slow way."""
        paths: set[str] = set()
        for path in list(self.store.files):
            folder, _, name = path.rpartition("/done/")
            if folder:
                record = read_done(self.store, folder, name.removesuffix(".json"))
                assert record is not None
                training, _, number = folder.partition("/rounds/")
                spent = bool(number) and self.store.exists(tree.done(training, number))
                if self.is_young(path) or (path in self.rooted and not spent):
                    paths |= {path, *(file.path for file in record.files.values())}
            elif path.endswith("vocabulary.json"):
                if not (self.is_young(path) or path in self.rooted):
                    continue
                named: FileRef | None = Vocabulary.from_json(self.store.read(path)).centroids
                assert named is not None
                paths |= {path, named.path}
        for attempt, began in self.open:
            if self.store.now - began <= HOUR_S:
                paths |= {file.path for file in attempt.files.values()}
        return paths

    def collect(self) -> None:
        before, needed = dict(self.store.files), self.needed()
        with mock.patch.object(gc, "Alive", return_value=self):
            dry = collect_garbage(self.store, dry_run=True)
            assert self.store.files == before
            done = collect_garbage(self.store)
        assert done == dry
        assert needed <= set(self.store.files)
        left = {
            path
            for path, (_, modified) in self.store.files.items()
            if path not in needed and self.store.now - modified > DAY_S
        }
        assert left == set()
        assert {file.path for file in done.removed} == set(before) - set(self.store.files)


def run_histories(first: int, count: int, scratch: Path) -> None:
    removed = 0
    for seed in range(first, first + count):
        history = History(random.Random(seed), scratch)
        for _ in range(40):
            history.step()
        before = len(history.store.files)
        history.open.clear()
        history.store.now += 10 * DAY_S
        history.collect()
        removed += before - len(history.store.files)
    assert removed > count  # the histories leave something to remove
    print(f"{count} histories: 0 needed files removed, 0 old orphans left")


def test_gc_removes_every_old_orphan_and_nothing_that_is_needed(tmp_path: Path) -> None:
    run_histories(0, 50, tmp_path / "scratch")


@pytest.mark.slow
def test_gc_removes_every_old_orphan_and_nothing_needed_in_2000_histories(tmp_path: Path) -> None:
    run_histories(1_000, 2_000, tmp_path / "scratch")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gc")
    tiny_index(folder / "store", tiny_pictures(folder / "pictures"))
    return folder


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> LocalStore:
    return LocalStore(Path(shutil.copytree(whole / "store", tmp_path / "store")))


def test_a_whole_store_has_no_garbage_and_after_gc_a_job_finds_everything_done(
    whole: Path, store: LocalStore
) -> None:
    orphan = store.root / LOOSE
    orphan.parent.mkdir()
    orphan.write_bytes(b"lost")
    assert [file.path for file in collect_garbage(store).young] == [LOOSE]
    files = {file.path for file in store.walk()}
    found = collect_garbage(store, older_than_s=-1.0, forced=True)
    assert [file.path for file in found.removed] == [LOOSE]
    assert found.size_bytes == 4
    assert verify_store(store).damage == ()
    again = tiny_index(store.root, whole / "pictures")
    assert again.number == 1
    assert {file.path for file in store.walk()} == files - {found.removed[0].path}


def test_nothing_is_removed_while_a_record_is_damaged(store: LocalStore) -> None:
    path = next(store.root.glob("segments/*/done/*.json"))
    path.write_bytes(path.read_bytes()[:-1])
    before = {file.path for file in store.walk()}
    with pytest.raises(CorruptFile, match=r"done/\w+.json was changed .*nothing was removed: "):
        collect_garbage(store, older_than_s=-1.0, forced=True)
    assert {file.path for file in store.walk()} == before
