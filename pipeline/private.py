"""Check that no other user of the machine can change the contents of a folder."""

import grp
import os
import pwd
import stat
from pathlib import Path


def others_can_change(folder: str | Path, *, like: str | Path | None = None) -> bool:
    """Say whether a user other than this one and root can change the contents of a folder.

    Args:
        folder: must exist. A relative path counts as open, because it depends on the current
            folder.
        like: a trusted file. A folder below the file's own need not be safer than the file's.
    """
    path = Path(folder)
    if not path.is_absolute():
        return True
    path = path.resolve()
    if like is not None and (beside := Path(like).resolve().parent) in path.parents:
        return _is_open(path) and not _is_open(beside)
    return _is_open(path) or way_is_open(path)


def way_is_open(folder: Path) -> bool:
    """Say whether another user can replace this folder with another.

    They can if they may write to a folder above it, unless the sticky bit of that folder keeps
    them from renaming what is not theirs.
    """
    return any(_is_open(each) and not _is_sticky(each) for each in folder.resolve().parents)


def _is_open(folder: Path) -> bool:
    facts = folder.stat()
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & stat.S_IWOTH:
        return True
    return bool(facts.st_mode & stat.S_IWGRP) and not _is_own_group(facts.st_gid)


def _is_sticky(folder: Path) -> bool:
    facts = folder.stat()
    return bool(facts.st_mode & stat.S_ISVTX) and facts.st_uid in (0, os.geteuid())


def _is_own_group(group_id: int) -> bool:
    """Say whether a group has no members but this user and root, as on systems that give each
    user a group of their own.
    """
    if group_id == 0:
        return True
    try:
        me, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(group_id)
    except KeyError:
        return False
    return (
        group_id == me.pw_gid and group.gr_name == me.pw_name and not {*group.gr_mem} - {me.pw_name}
    )
