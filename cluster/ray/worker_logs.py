"""Why workers of our own Ray do not start, from its logs: Ray itself only waits."""

import contextlib
import re
from pathlib import Path

from ray._private import worker as driver

from lamella.cluster.ray.processes import lives
from lamella.pipeline.errors import one_line

_STARTED = re.compile(r"Started worker process with pid (\d+)")
_OF_THE_SCHEDULER = re.compile(r"\[[^]]* [A-Z] \d+ \d+\] \(raylet\) ")
"""How a line begins that Ray's scheduler logs of itself, such as that a disk is nearly full."""

_MOST_BYTES = 1 << 16

LOOK_S = 2.0
"""How long to wait for a first worker before looking whether one can still come."""


def why_none_starts(logs: Path | None = None) -> str | None:
    """Return why every worker process that Ray started has died before it was known to Ray.

    None if one may still start, or if it is not known: then Ray's own limit of time decides.

    Args:
        logs: the folder of Ray's logs; by default that of the Ray which this process started.
    """
    logs = logs or own_logs()
    if logs is None:
        return None
    started = {int(found[1]) for found in _STARTED.finditer(_end_of(logs / "raylet.out"))}
    known = {int(path.stem.rpartition("_")[2]) for path in logs.glob("python-core-worker-*_*.log")}
    if not started or started & known or any(map(lives, started)):
        return None
    return last_words(logs) or "its processes ended before they could say why"


def last_words(logs: Path | None = None) -> str | None:
    """Return the last line that a worker printed before it was known to Ray, None if none did.

    It stands in the scheduler's file, among lines of the scheduler's own, which are not it.
    """
    logs = logs or own_logs()
    lines = _end_of(logs / "raylet.err").splitlines() if logs is not None else []
    said = [line.strip() for line in lines if line.strip() and not _OF_THE_SCHEDULER.match(line)]
    return one_line(said[-1]) if said else None


def own_logs() -> Path | None:
    """Return the folder of the logs of the Ray that this process started; None of another."""
    node = driver._global_node
    return Path(node.get_logs_dir_path()) if node is not None and node.head else None


def _end_of(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MOST_BYTES))
        return file.read().decode(errors="replace")
    return ""
