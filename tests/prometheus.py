"""A real Prometheus for tests, and what it answers; tests skip where there is none."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus (Debian: prometheus)"
)
needs_pushgateway = pytest.mark.skipif(
    shutil.which("prometheus-pushgateway") is None,
    reason="needs prometheus-pushgateway (Debian: prometheus-pushgateway)",
)


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(command: Sequence[str], ready: str) -> Iterator[None]:
    """Run a server in the block, which begins once `ready` answers."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + 30
            while not _answers(ready):
                assert process.poll() is None, process.stderr and process.stderr.read().decode()
                assert time.monotonic() < until, f"{ready} does not answer"
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def prometheus(folder: Path, targets: Sequence[str], relabel: str = "") -> Iterator[str]:
    """Run a Prometheus that scrapes these hosts and ports every second; yield its address."""
    config, port = folder / "prometheus.yml", free_port()
    named = ", ".join(f'"{target}"' for target in targets)
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: lamella\n"
        "    honor_labels: true\n"
        f"    static_configs: [{{targets: [{named}]}}]\n{relabel}"
    )
    command = [
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/-/ready"):
        yield address


def asked(address: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Return what a query gives now: labels and value of each series."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as reply:
        found: Any = json.load(reply)
    return [(each["metric"], float(each["value"][1])) for each in found["data"]["result"]]


def awaited(address: str, query: str, seconds: float = 30) -> list[tuple[dict[str, str], float]]:
    """Return what a query gives once it gives anything."""
    until = time.monotonic() + seconds
    while not (found := asked(address, query)):
        assert time.monotonic() < until, f"{query} gives nothing"
        time.sleep(0.1)
    return found
