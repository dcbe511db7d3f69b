"""Memory of this process and all that it started, watched from a thread."""

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD_S = 0.5


class Peak:
    """The most bytes seen so far: proportional share of every process of this session.

    Pages that several processes map are counted once, cached files that none maps not at all.
    """

    size_bytes = 0

    def look(self) -> None:
        """Look at all processes now."""
        self.size_bytes = max(self.size_bytes, memory_now())


def memory_now(named: str = "") -> int:
    """Return the bytes of this process and all that it started, each page counted once.

    Args:
        named: how the command lines begin of those, among the processes started, that are meant
            with what they started themselves; all are, if none is given.
    """
    family = _family(os.getpid())
    if named:
        family = set().union(*(_family(each) for each in family if _name(each).startswith(named)))
    return sum(map(_share, family))


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch memory inside the block."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(PERIOD_S):
            peak.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _family(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(stat[1])
    found, grew = {root}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def _share(process: int) -> int:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024
    return 0
