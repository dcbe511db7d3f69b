"""Runs commands of the command line in forks of a process that has imported everything.

A fork that crashes, hangs or eats memory says so to whoever asked, and ends alone. Reads a line of
JSON for each question, {"arguments": [[...], ...], "folder": ...}, and answers with one.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 120
"""A command that takes longer hangs: on a tiny store it takes a second or two."""


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Run the commands one after the other in one fork; return what became of it.

    Its code is the greatest of those of the commands.
    """
    log = Path(question["folder"], "log")
    log.write_bytes(b"")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(question["arguments"], log)
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - began > SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "peak_bytes": usage.ru_maxrss * 1024,
        "said": log.read_text(errors="replace")[-4000:],
    }


def _run(calls: list[list[str]], log: Path) -> None:
    from lamella.cluster.commands.main import main

    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code, worst = 70, 0
    try:
        for call in calls:
            sys.argv = ["lamella", *call]
            print("$", *call, flush=True)
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
            worst = max(worst, code)
            sys.stdout.flush()
            sys.stderr.flush()
        code = worst
    finally:
        os._exit(code)


def serve() -> None:
    """Answer until standard input ends."""

    import torch  # noqa: F401  # isort: skip

    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
