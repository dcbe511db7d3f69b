from pathlib import Path

import pytest

from pipeline.errors import InputError, StoreError
from pipeline.store import layout
from pipeline.store.storage import LocalStore, open_store, probe_create_only


class ForgetfulStore(LocalStore):
    """Replaces what is there, as a store does that ignores the condition of a write."""

    def create(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)


class FullStore(LocalStore):
    """Has no space left."""

    def create(self, path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")


def test_a_store_that_ignores_create_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="create-only is ignored"):
        probe_create_only(ForgetfulStore(tmp_path))


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written \(ENOSPC\)"):
        probe_create_only(FullStore(tmp_path))


def test_a_store_is_probed_as_often_as_it_is_opened(tmp_path: Path) -> None:
    for _ in range(2):
        probe_create_only(LocalStore(tmp_path))


def test_opening_says_what_is_wrong_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store at"):
        open_store(str(tmp_path / "absent"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        open_store(str(tmp_path / "file"), create=True)
    with pytest.raises(InputError, match="local folder"):
        open_store("ftp://host/place")
    assert not (tmp_path / "absent").exists()


def test_opening_for_reading_writes_nothing(tmp_path: Path) -> None:
    open_store(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("Places 2026 (a)", "Places-2026-a"),
        ("../../etc", "etc"),
        ("...", "unnamed"),
        ("Größe", "Gr-e"),
        ("x" * 60, "x" * 40),
    ],
)
def test_a_name_from_outside_becomes_a_safe_part_of_a_path(name: str, readable: str) -> None:
    assert layout.slug(name) == readable
    LocalStore(Path("nowhere")).exists(layout.manifest(layout.keyed(name, "d" * 64)))
