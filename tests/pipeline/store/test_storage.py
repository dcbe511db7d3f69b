import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from lamella.pipeline.errors import InputError, StoreError
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store, probe_create_only
from lamella.schemas.snapshot import Promotion


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


def test_what_opening_writes_is_the_marker(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no store at .* it has no probe/create-only"):
        open_store(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    open_store(str(tmp_path), create=True)
    assert (tmp_path / "probe/create-only").read_bytes() == b"lamella\n"
    before = list(tmp_path.rglob("*"))
    open_store(str(tmp_path))
    assert list(tmp_path.rglob("*")) == before


def test_a_folder_of_other_things_is_no_store_and_no_store_is_made_of_a_folder_like_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/log.txt").write_text("a run of mine")
    for way in ({}, {"create": True}):
        with pytest.raises(StoreError, match=r"holds runs/ and no probe/create-only"):
            open_store(str(tmp_path), **way)
    with pytest.raises(InputError, match="there is no store"):
        open_store(str(tmp_path), damaged=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "log.txt"]


@pytest.mark.parametrize("harm", ["gone", "changed", "a folder"])
def test_a_store_that_lost_its_marker_is_opened_to_be_mended_alone(
    harm: str, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path), create=True)
    promotion = Promotion(number=1, snapshot=1, promoted_at="now", commit_id="c")
    store.create("promotions/000001.json", promotion.to_json())
    marker = tmp_path / "probe/create-only"
    marker.unlink()
    if harm == "changed":
        marker.write_bytes(b"mine\n")
    elif harm == "a folder":
        marker.mkdir()
    with pytest.raises(StoreError, match="probe/create-only"):
        open_store(str(tmp_path))
    if harm != "a folder":
        assert open_store(str(tmp_path), damaged=True).url == str(tmp_path)


@pytest.mark.parametrize("code", ["EPERM", "ENOTSUP", "ENOSYS", "EACCES", "EINVAL"])
def test_a_file_system_without_hard_links_is_named(code: str, tmp_path: Path) -> None:
    with (
        mock.patch.object(os, "link", side_effect=OSError(getattr(errno, code), "no links")),
        pytest.raises(StoreError, match=rf"a file system without hard links \({code}\)"),
    ):
        open_store(str(tmp_path / "store"), create=True)


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
    assert tree.slug(name) == readable
    LocalStore(Path("nowhere")).exists(tree.MANIFEST.at(keyed=tree.keyed(name, "d" * 64)))
