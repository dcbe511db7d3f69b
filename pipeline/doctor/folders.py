"""Folders that are written beside the store: scratch files, copies from S3, compiled loops."""

import os
import shutil
import tempfile
from pathlib import Path

from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.doctor.imports import Imported
from lamella.pipeline.scratch import scratch
from lamella.pipeline.store.cache import Cache
from lamella.pipeline.text import byte_size

LITTLE_BYTES = 10**9
"""Less free space than this is little: a task keeps the files of two shards there."""

SHARED = Path("/dev/shm")
"""Where Ray keeps what its processes share."""

TRIAL = bytes(4096)
"""What is written to see whether a folder takes it."""

LITTLE_SHARED_BYTES = 256 * 2**20


def temporary() -> Finding:
    """Make a scratch folder, as tasks do, and say what is free there."""
    with scratch("doctor") as files:
        free = shutil.disk_usage(files).free
    taken, named = tempfile.gettempdir(), os.environ.get("TMPDIR")
    said = f"{taken}, {byte_size(free)} free"
    if named and Path(named).absolute() != Path(taken):
        cure = "make that folder writable, or name another one by TMPDIR"
        said = f"{said}; TMPDIR names {named}, which cannot be written"
        return Finding("TMPDIR", "missing", said, cure)
    if free < LITTLE_BYTES:
        cure = "free space, or name another folder by TMPDIR"
        return Finding("TMPDIR", "missing", f"{said}: little for scratch files", cure)
    return Finding("TMPDIR", "ok", said, needed=True)


def cache() -> Finding:
    """Say where copies of files in S3 are kept; write one there."""
    found = Cache.standard()
    there = found.folder.exists()
    name = Cache.name("doctor")
    found.get(name, len(TRIAL), _write_trial)
    found.drop(name)
    free = shutil.disk_usage(found.folder).free
    if not there:
        shutil.rmtree(found.folder, ignore_errors=True)
    said = f"{found.folder}, {byte_size(found.limit_bytes)} at most, {byte_size(free)} free"
    return Finding("copies from S3", "ok", said)


def _write_trial(file: Path) -> None:
    file.write_bytes(TRIAL)


def compiled_loops(numba: Imported) -> Finding:
    """Say where compiled loops are kept from one process to the next."""
    what, folder = "compiled loops", numba.facts.get("cache")
    if numba.error:
        return Finding(what, "broken", "numba cannot be imported")
    if folder is not None and (why := not_writable(Path(folder))) is None:
        return Finding(what, "ok", f"{folder}")
    why = why if folder is not None else "no folder for them can be written by this user alone"
    said = f"{why}, so every process compiles again, which takes seconds"
    return Finding(what, "missing", said, "name a private folder by NUMBA_CACHE_DIR")


def shared_memory() -> list[Finding]:
    """Say whether Ray has memory to share; nothing where the system has no such folder."""
    if not SHARED.is_dir():
        return []
    free = shutil.disk_usage(SHARED).free
    if free < LITTLE_SHARED_BYTES:
        said = f"{byte_size(free)} free in {SHARED}: Ray shares files instead, which is slow"
        return [Finding("shared memory", "missing", said, "docker run --shm-size=512m")]
    return [Finding("shared memory", "ok", f"{byte_size(free)} free in {SHARED}")]


def not_writable(folder: Path) -> str | None:
    """Return why no file can be made in a folder, or None: it can be, or the folder can."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror or os.strerror(error.errno or 0)})"
