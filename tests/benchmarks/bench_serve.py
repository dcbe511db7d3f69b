"""`lamella serve` under load: queries a second and their times, at 1, 8 and 64 clients.

`SERVE_PICTURES` (1,000) views of planted objects are indexed, with a short edge of `SERVE_EDGE`
pixels (the network's own) as the network sees them. Clients in this process ask a server in another
one, for `SERVE_SECONDS` (5) each time, by names of indexed pictures and by uploads. The peer is the
same server without the answering of several requests in one call: each is an `Index.query` of its
own.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.pipeline.planted.generate import generate_pictures
from tests.benchmarks.record import FOLDER, write_json
from tests.builders import index_into, small_job
from tests.serving import in_threads

PICTURES = int(os.environ.get("SERVE_PICTURES", "1000"))
EDGE = int(os.environ.get("SERVE_EDGE", "0"))
SECONDS = float(os.environ.get("SERVE_SECONDS", "5"))
CLIENTS = (1, 8, 64)
K = 10
ALONE = (
    "import lamella.cluster.early as early; early.listen();"
    "from lamella.cluster.serve import turns; turns.TOGETHER = 1;"
    "from lamella.cluster.commands.main import main; main()"
)
"""The peer: `lamella`, whose server answers one request a call."""

Request = tuple[bytes, dict[str, str]]
"""A body and its headers."""


@contextmanager
def served(store: Path, *, together: bool) -> Iterator[tuple[str, int]]:
    """Start a server in a process of its own; give its host and port."""
    program = ["-m", "lamella"] if together else ["-c", ALONE]
    options = ["serve", str(store), "--port", "0", "--json", "--queue", "256"]
    started = subprocess.Popen(
        [sys.executable, *program, *options], cwd="/", stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    try:
        text = ""
        while not text.rstrip().endswith("}"):
            line = started.stdout.readline()
            assert line, "the server ended"
            text += line
        host, _, port = json.loads(text)["address"].removeprefix("http://").rpartition(":")
        yield host, int(port)
    finally:
        started.terminate()
        started.communicate(timeout=30)


def by_name(names: list[str], chance: random.Random) -> Request:
    body = json.dumps({"names": [chance.choice(names)], "k": K}).encode()
    return body, {"Content-Type": "application/json"}


def by_upload(files: list[Path], chance: random.Random) -> Request:
    data = chance.choice(files).read_bytes()
    part = b'--b\r\nContent-Disposition: form-data; name="k"\r\n\r\n%d\r\n' % K
    part += b'--b\r\nContent-Disposition: form-data; name="p"; filename="a.jpg"\r\n\r\n'
    return part + data + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def load(
    place: tuple[str, int], clients: int, request: Callable[[random.Random], Request]
) -> Mapping[str, float]:
    """Have clients ask one after the other what `request` gives; return rates and times."""
    end = time.perf_counter() + SECONDS
    begin = threading.Barrier(clients)

    def client(number: int) -> list[float]:
        chance = random.Random(number)
        connection = http.client.HTTPConnection(*place, timeout=60)
        taken = []
        begin.wait()
        while time.perf_counter() < end:
            body, headers = request(chance)
            began = time.perf_counter()
            connection.request("POST", "/query", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            taken.append(time.perf_counter() - began)
            assert answer.status == 200, said[:300]
        connection.close()
        return taken

    began = time.perf_counter()
    taken = [each for one in in_threads(clients, client) for each in one]
    seconds = time.perf_counter() - began
    half, most = np.percentile(taken, [50, 99])
    return {
        "queries": len(taken),
        "queries/s": round(len(taken) / seconds, 1),
        "p50 ms": round(1e3 * float(half), 1),
        "p99 ms": round(1e3 * float(most), 1),
    }


def index_of(count: int, edge: int) -> tuple[Path, Path]:
    """Return the pictures and the store of a corpus, making them if they are not there."""
    folder = FOLDER.absolute() / f"serve-{count}-{edge}"
    pictures, store = folder / "pictures", folder / "store"
    if not store.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if not pictures.exists():
            generate_pictures(pictures, count)
        small = {"network__preprocess__short_edge": edge, "network__preprocess__crop": edge}
        job = small_job(
            vocabulary__words=1_000,
            corpus__shard_images=1_000,
            index__segment_images=20_000,
            **(small if edge else {}),
        )
        index_into(store, pictures, job=job)
    return pictures, store


@pytest.mark.bench
def test_a_server_under_load() -> None:
    pictures, store = index_of(PICTURES, EDGE)
    files = sorted(pictures.rglob("*.jpg"))
    names = [str(path.relative_to(pictures)) for path in files]
    kinds: dict[str, Callable[[random.Random], Request]] = {
        "by name": lambda chance: by_name(names, chance),
        "by upload": lambda chance: by_upload(files, chance),
    }
    found: list[dict[str, Any]] = []
    for kind, request in kinds.items():
        for together in (True, False):
            with served(store, together=together) as place:
                load(place, 1, request)  # what is opened once, and caches
                for clients in CLIENTS:
                    figures = load(place, clients, request)
                    about = {"kind": kind, "together": together, "clients": clients}
                    found.append(about | dict(figures) | {"load": os.getloadavg()[0]})
                    print(found[-1], flush=True)
    about_all = {"pictures": len(files), "edge": EDGE, "seconds": SECONDS}
    write_json("serve.json", about_all | {"found": found})
    rate = {(each["kind"], each["together"], each["clients"]): each["queries/s"] for each in found}
    assert rate["by name", True, 64] > 0.5 * rate["by name", False, 64]
