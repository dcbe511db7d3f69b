"""List a local folder: each subfolder is read by itself, and its files are looked at in parts."""

import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial

from lamella.pipeline.corpus.at_once import Request, all_at_once
from lamella.pipeline.corpus.blame import check_own_fault
from lamella.pipeline.corpus.listing import Entry, storable
from lamella.pipeline.corpus.passed_over import FOLDER_LINKS, HIDDEN, NO_FILES, STORES
from lamella.pipeline.corpus.stores_within import MARKED, is_own, is_store
from lamella.schemas.refusals import RefusalReason

PART = 1_000
"""Files that one request looks at: a file server answers one after the other."""

Named = tuple[str, bool]
"""A name under the root, and whether it is a link."""

Found = tuple[list[Entry | str], list[Request[Entry | str]]]


def walk(root: str) -> Iterator[Entry | str]:
    """Yield an entry for each file of a folder and its subfolders, and the kind of all else.

    They come in no order. Names of one folder are in memory at once, and not of all.

    Raises:
        OSError: a folder cannot be listed.
    """
    return all_at_once([partial(_read_folder, root, os.path.realpath(root), "")])


def _read_folder(root: str, real_root: str, below: str) -> Found:
    path = os.path.join(root, below) if below else root
    with os.scandir(path) as scanned:
        names = {entry.name: (entry.is_symlink(), _is_folder(entry)) for entry in scanned}
    passed_over: list[Entry | str] = []
    if MARKED in names and names[MARKED][1] and is_store(path):
        own = {name for name, (_, is_folder) in names.items() if is_folder and is_own(name)}
        passed_over += [STORES] * len(own)
        names = {} if below else {name: names[name] for name in names if name not in own}
    passed_over += [HIDDEN for name in names if name.startswith(".")]
    files: list[Named] = []
    more: list[Request[Entry | str]] = []
    for name, (is_link, is_folder) in names.items():
        full = f"{below}/{name}" if below else name
        if name.startswith("."):
            continue
        if not is_folder:
            files.append((full, is_link))
        elif is_link:
            passed_over.append(FOLDER_LINKS)
        else:
            more.append(partial(_read_folder, root, real_root, full))
    for start in range(0, len(files), PART):
        more.append(partial(_look_at, root, real_root, files[start : start + PART]))
    return passed_over, more


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _look_at(root: str, real_root: str, files: Sequence[Named]) -> Found:
    return [_entry(root, real_root, name, is_link) for name, is_link in files], []


def _entry(root: str, real_root: str, name: str, is_link: bool) -> Entry | str:
    path = os.path.join(root, name)
    stored, fault = storable(name)
    if is_link and leads_out(path, real_root):
        fault = fault or RefusalReason.OUTSIDE_SOURCE
    facts: tuple[int, int] = (-1, 0)
    try:
        found = os.stat(path)
    except OSError as error:
        if fault is None:
            check_own_fault(error, path, None)
    else:
        # Opening a pipe would wait for ever, so pipes, sockets and devices are not listed.
        if not stat.S_ISREG(found.st_mode):
            return NO_FILES
        if fault is None:
            facts = found.st_size, found.st_mtime_ns
    return Entry(stored, "", 0, *facts, fault)


def leads_out(path: str, real_root: str) -> bool:
    """Say whether a link leads out of a folder, which is given with all links followed."""
    return os.path.commonpath([real_root, os.path.realpath(path)]) != real_root
