"""Why no worker starts is found in Ray's logs, once every worker that Ray started has died."""

import os
import subprocess
import sys
from pathlib import Path

from lamella.cluster.ray.worker_logs import last_words, why_none_starts

STARTED = (
    "[.. I 1 1] (raylet) worker_pool.cc:564: Started worker process with pid {} worker_id=ab\n"
)
TRACEBACK = "Traceback (most recent call last):\n  File x\nImportError: libx.so.7: cannot open\n\n"
FULL = (
    "[2026-12-01 11:04:31,685 E 21779 21797] (raylet) file_system_monitor.cc:116: /tmp/r is over "
    "95% full, available space: 10.0668 GB; capacity: 251.972 GB.\n"
)


def dead() -> int:
    """Return the id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def planted(folder: Path, *started: int, said: str = TRACEBACK) -> Path:
    (folder / "raylet.out").write_text("...\n" + "".join(map(STARTED.format, started)))
    (folder / "raylet.err").write_text(said)
    return folder


def test_the_last_words_of_workers_that_all_died_are_the_reason(tmp_path: Path) -> None:
    logs = planted(tmp_path, dead(), dead())
    assert why_none_starts(logs) == "ImportError: libx.so.7: cannot open"
    planted(tmp_path, dead(), said="")
    assert why_none_starts(logs) == "its processes ended before they could say why"


def test_what_the_scheduler_logs_of_itself_is_no_workers_last_word(tmp_path: Path) -> None:
    logs = planted(tmp_path, dead(), said=FULL + TRACEBACK + FULL)
    assert last_words(logs) == "ImportError: libx.so.7: cannot open"
    planted(tmp_path, dead(), said=FULL)
    assert last_words(logs) is None
    assert why_none_starts(logs) == "its processes ended before they could say why"


def test_nothing_is_known_while_one_lives_or_has_reached_ray(tmp_path: Path) -> None:
    gone = dead()
    assert why_none_starts(planted(tmp_path)) is None
    assert why_none_starts(planted(tmp_path, gone, os.getpid())) is None
    logs = planted(tmp_path, gone)
    (logs / f"python-core-worker-ab_{gone}.log").touch()  # it ended later, or was idle
    assert why_none_starts(logs) is None


def test_without_logs_there_is_no_reason(tmp_path: Path) -> None:
    assert why_none_starts(tmp_path) is None
    assert last_words(tmp_path) is None
