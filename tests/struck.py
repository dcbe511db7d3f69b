"""A command that is sent a signal at a moment: how it ends, and what it leaves."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.import_path import python_running

_KEEPER = """
import ctypes, json, os, signal, subprocess, sys, time
from pathlib import Path

folder, moment, number, group, *command = sys.argv[1:]
# Whatever a child of the command leaves becomes a child of this process, and so is found.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0

def living():
    names, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = path.read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        if after.split()[0] not in "ZX":
            names[int(path.parent.name)] = before.partition("(")[2]
            parents[int(path.parent.name)] = int(after.split()[1])
    def is_below(number):
        while number in parents:
            number = parents[number]
            if number == os.getpid():
                return True
        return False
    return {number: name for number, name in names.items() if is_below(number)}

with open(folder + "/out", "wb") as out, open(folder + "/err", "wb") as err:
    process = subprocess.Popen(command, stdout=out, stderr=err, cwd="/", process_group=0)
began = time.monotonic()
try:
    process.wait(float(moment))
except subprocess.TimeoutExpired:
    (os.killpg if int(group) else os.kill)(process.pid, int(number))
    sent = time.monotonic()
else:
    sent = None
most = 60.0 if sent else 600.0
try:
    code = process.wait(most)
except subprocess.TimeoutExpired:
    code = None
ended = time.monotonic()
at_once = living()
left = at_once
while left and time.monotonic() < ended + 5.0:
    time.sleep(0.05)
    left = living()
gone_s = time.monotonic() - ended
for number in left:
    os.kill(number, signal.SIGKILL)
print(json.dumps({
    "code": code,
    "seconds": ended - (sent or began),
    "sent": sent is not None,
    "at_once": sorted(at_once.values()),
    "gone_s": gone_s,
    "left": sorted(left.values()),
}))
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: as a shell gives it; None where the command had to be killed.
        seconds: from the signal to the end, or from the start where it had ended before.
        sent: whether it still ran at the moment.
        at_once: names of the processes that were there as the command ended.
        gone_s: how long those were there.
        left: names of the processes that were still there 5 s later.
        folders: what it left in the folder for scratch files.
        out, err: what it printed.
    """

    code: int | None
    seconds: float
    sent: bool
    at_once: list[str]
    gone_s: float
    left: list[str]
    folders: list[str]
    out: str
    err: str


def strike(
    folder: Path,
    call: list[object],
    moment: float = 600.0,
    number: int = signal.SIGTERM,
    *,
    group: bool = False,
) -> Ended:
    """Run a command, send it a signal after so many seconds, and say how it ended.

    Args:
        folder: an empty folder with a short path; its `t` is where scratch files go.
        group: send it to the process group, as a terminal does at Ctrl-C.
    """
    (folder / "t").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "lamella", *map(str, call)]
    said = subprocess.run(
        [
            *python_running(_KEEPER),
            *map(str, (folder, moment, int(number), int(group), *command)),
        ],
        env=os.environ | {"TMPDIR": str(folder / "t")},
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(said.stdout)
    code = found.pop("code")
    if code is not None and code < 0:
        code = 128 - code
    return Ended(
        code,
        **found,
        folders=sorted(each.name for each in (folder / "t").iterdir()),
        out=(folder / "out").read_text(errors="replace"),
        err=(folder / "err").read_text(errors="replace"),
    )
