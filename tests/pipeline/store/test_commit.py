from collections.abc import Callable
from pathlib import Path

import pytest

from lamella.pipeline.errors import CommitConflict, CommitUnknown, CorruptFile, MissingFile
from lamella.pipeline.store.commit import attempt, create_once, open_committed, read_done, sha256_of
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.files import DoneRecord


class FaultyStore(LocalStore):
    """A folder whose creates and reads meet what the test says."""

    def __init__(
        self,
        root: Path,
        *,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
        reading: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(root)
        self.before, self.after, self.reading = before, after, reading

    def create(self, path: str, data: bytes) -> None:
        self.before()
        super().create(path, data)
        self.after()

    def read(self, path: str) -> bytes:
        self.reading()
        return super().read(path)


def lost() -> None:
    raise OSError("connection reset")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def commit(
    store: LocalStore, data: bytes = b"rows", *, inputs: str = "inputs", **counts: int
) -> DoneRecord:
    with attempt(store, "stage", "extract", "00042", inputs) as work:
        work.write("file", "stage/layer", "bin", lambda path: path.write_bytes(data))
        return work.finish(**counts)


def files_of(store: LocalStore) -> set[str]:
    found = (path for path in store.root.rglob("*") if path.is_file())
    return {str(path.relative_to(store.root)) for path in found}


def test_a_create_whose_reply_is_lost_is_won(tmp_path: Path) -> None:
    store = FaultyStore(tmp_path, after=lost)
    assert create_once(store, "record", b"mine") == b"mine"
    assert store.read("record") == b"mine"


def test_a_client_that_repeats_its_own_create_has_won(tmp_path: Path) -> None:
    # The first try arrived, its reply did not, and the client asked again by itself.
    store = FaultyStore(tmp_path)
    store.create("record", b"mine")
    assert create_once(store, "record", b"mine") == b"mine"


def test_who_comes_second_gets_what_the_first_wrote(store: LocalStore) -> None:
    assert create_once(store, "record", b"first") == b"first"
    assert create_once(store, "record", b"second") == b"first"
    assert store.read("record") == b"first"


def test_a_create_that_neither_arrived_nor_can_be_read_is_unknown(tmp_path: Path) -> None:
    store = FaultyStore(tmp_path, before=lost)
    with pytest.raises(CommitUnknown, match="run the same command again"):
        create_once(store, "record", b"mine")


def test_of_an_unknown_commit_nothing_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(CommitUnknown, match="nothing was deleted"):
        commit(FaultyStore(tmp_path, after=lost, reading=lost))
    # It had arrived after all: the next try finds it whole.
    store = LocalStore(tmp_path)
    found = read_done(store, "stage", "00042")
    assert found is not None
    assert open_committed(store, found.files["file"]).read_bytes() == b"rows"
    assert commit(store).commit_id == found.commit_id


def test_a_file_exists_only_through_its_done_record(store: LocalStore) -> None:
    done = commit(store, images=3)
    assert done.counts == {"images": 3}
    assert done.files["file"].rows == 4  # what `fill` returned
    assert done.files["file"].sha256 == sha256_of(store.local_path(done.files["file"].path))
    assert read_done(store, "stage", "00042") == done
    assert read_done(store, "stage", "00043") is None
    assert files_of(store) == {"stage/done/00042.json", done.files["file"].path}


def test_two_attempts_at_a_task_end_with_one_record(store: LocalStore) -> None:
    with attempt(store, "stage", "extract", "1", "inputs") as slow:
        slow.write("file", "stage/layer", "bin", lambda path: path.write_bytes(b"rows"))
        with attempt(store, "stage", "extract", "1", "inputs") as fast:
            fast.write("file", "stage/layer", "bin", lambda path: path.write_bytes(b"rows"))
            first = fast.finish()
        second = slow.finish()
    assert second == first == read_done(store, "stage", "1")
    # The loser's file is an orphan beside the winner's; neither replaced the other.
    assert len(store.names("stage/layer")) == 2
    assert first.files["file"].path == f"stage/layer/1.{fast.token}.bin"


def test_a_record_made_from_other_inputs_is_a_conflict(store: LocalStore) -> None:
    commit(store, inputs="a" * 64)
    with pytest.raises(CommitConflict, match=r"inputs a{12}, this task from b{12}.*another store"):
        commit(store, inputs="b" * 64)
    assert read_done(store, "stage", "00042").inputs == "a" * 64  # type: ignore[union-attr]


def test_an_attempt_that_raises_commits_nothing(store: LocalStore) -> None:
    scratch: list[Path] = []

    def fill(path: Path) -> int:
        scratch.append(path.parent)
        path.write_bytes(b"half of the ro")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"), attempt(store, "s", "s", "1", "i") as work:
        work.write("file", "s", "bin", fill)
    assert files_of(store) == set()
    assert not scratch[0].exists()


def test_two_files_of_an_attempt_in_one_folder_keep_apart(store: LocalStore) -> None:
    with attempt(store, "s", "s", "1", "i") as work:
        work.write("a", "s", "a.bin", lambda path: path.write_bytes(b"a"))
        work.write("b", "s", "b.bin", lambda path: path.write_bytes(b"b"))
        done = work.finish()
    assert [store.read(done.files[name].path) for name in "ab"] == [b"a", b"b"]


def test_a_damaged_file_is_named(store: LocalStore) -> None:
    reference = commit(store).files["file"]
    place = store.local_path(reference.path)
    place.write_bytes(b"rowz")
    assert open_committed(store, reference, verify=False) == place  # the size alone is right
    with pytest.raises(
        CorruptFile, match=r"SHA-256 \w{12}, \w{12} in its record: .*lamella verify"
    ):
        open_committed(store, reference)
    place.write_bytes(b"row")
    with pytest.raises(CorruptFile, match="has 3 bytes, 4 in its record"):
        open_committed(store, reference)
    place.unlink()
    with pytest.raises(MissingFile, match="is not in"):
        open_committed(store, reference)
