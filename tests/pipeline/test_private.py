"""Which folders another user of the machine could change."""

import os
from pathlib import Path

import pytest

from lamella.pipeline import private
from lamella.pipeline.private import others_can_change, way_is_open

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of our own, below folders of our own."""
    (tmp_path / "above" / "mine").mkdir(parents=True, mode=0o700)
    for each in (tmp_path, tmp_path / "above", tmp_path / "above" / "mine"):
        each.chmod(0o700)
    return tmp_path / "above" / "mine"


def test_a_folder_of_our_own_is_safe(folder: Path) -> None:
    assert not others_can_change(folder)
    folder.chmod(0o755)
    assert not others_can_change(str(folder))


def test_one_that_all_can_write_is_not(folder: Path) -> None:
    for mode in (0o777, 0o1777):  # a sticky bit keeps others from removing, not from adding
        folder.chmod(mode)
        assert others_can_change(folder)


def test_one_that_can_be_replaced_from_above_is_not(folder: Path) -> None:
    folder.parent.chmod(0o777)
    assert others_can_change(folder)
    assert way_is_open(folder)
    folder.parent.chmod(0o1777)  # as /tmp: what is ours there stays
    assert not others_can_change(folder)


def test_one_that_a_link_leads_to_is_looked_at_itself(folder: Path, tmp_path: Path) -> None:
    link = folder / "link"
    link.symlink_to(tmp_path / "open")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert others_can_change(link)


def test_a_relative_path_is_whoevers_folder_one_stands_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert others_can_change("mine")


@as_root
def test_one_of_another_user_is_not(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    assert others_can_change(folder)
    os.chown(folder, 0, 0)
    os.chown(folder.parent, 65534, 65534)
    assert others_can_change(folder)


@as_root
def test_one_of_a_group_is_safe_where_the_group_is_this_user_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(folder, 0, 65534)
    folder.chmod(0o775)
    assert others_can_change(folder)
    monkeypatch.setattr(private, "_is_own_group", lambda group: group == 65534)
    assert not others_can_change(folder)


def test_below_a_trusted_file_a_folder_need_be_no_safer_than_that(folder: Path) -> None:
    source, cache = folder / "source.py", folder / "cache"
    source.touch()
    cache.mkdir()
    folder.chmod(0o777)
    assert others_can_change(cache)
    assert not others_can_change(cache, like=source)
    folder.chmod(0o755)
    cache.chmod(0o777)
    assert others_can_change(cache, like=source)
