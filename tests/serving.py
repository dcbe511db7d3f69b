"""A server for tests: its application alone, on a port in threads, or a process of its own."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from lamella.cluster.serve.run import Server
from lamella.cluster.serve.service import Service
from lamella.cluster.serve.settings import ServeSettings

HERE = "http://127.0.0.1"


@contextlib.contextmanager
def asked(store: Path | str, **settings: Any) -> Iterator[tuple[TestClient, Service]]:
    """Give a client of an application over a store; no port is listened on."""
    service = Service(ServeSettings(str(store), **settings))
    try:
        yield TestClient(service.app, base_url=HERE, raise_server_exceptions=False), service
    finally:
        service.stop()


@contextlib.contextmanager
def listening(store: Path | str, **settings: Any) -> Iterator[Server]:
    """Give a server that listens on a free port."""
    server = Server(ServeSettings(str(store), port=0, **settings))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def error_of(response: Any, status: int, code: str) -> str:
    """Return the message of a request that failed, having checked how it did."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error", "code"}
    assert response.json()["code"] == code
    assert "\n" not in response.json()["error"]
    return str(response.json()["error"])


def png(colour: tuple[int, int, int] = (90, 120, 40), size: tuple[int, int] = (40, 40)) -> bytes:
    """Return a plain picture."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


class Raw:
    """A connection of which every byte is ours."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)

    def send(self, text: str | bytes) -> None:
        """Send some bytes."""
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def send_until_cut(self, part: bytes, times: int, pause_s: float = 0.0) -> int:
        """Send a part again and again until the other side cuts; return how many bytes went."""
        sent = 0
        try:
            while sent < times * len(part):
                self.send(part)
                sent += len(part)
                time.sleep(pause_s)
        except (BrokenPipeError, ConnectionResetError):
            self.socket.close()
            return sent
        raise AssertionError("all of it was taken")

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of what comes until the other side closes."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65_536):
                data += part
        self.socket.close()
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body)


def head(path: str, **headers: object) -> str:
    """Return the head of a POST request."""
    said = {"Host": "127.0.0.1", "Content-Type": "application/json"}
    said |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n"


@dataclass
class Process:
    """`lamella serve` in a process of its own; `said` is what it printed when it was ready."""

    process: "subprocess.Popen[str]"
    said: dict[str, Any]

    @property
    def address(self) -> str:
        """Where it is asked."""
        return str(self.said["address"])

    def peak_bytes(self) -> int:
        """Return the most memory that it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [each for each in status.splitlines() if each.startswith("VmHWM")]
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def process(store: Path | str, *options: object) -> Iterator[Process]:
    """Start `lamella serve` on a free port, and end it after the block if it still runs."""
    command = [sys.executable, "-m", "lamella", "serve", store, "--port", 0, "--json", *options]
    started = subprocess.Popen(
        [str(each) for each in command],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LAMELLA_LOG": "json"},
    )
    try:
        yield Process(started, _first_value(started))
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def _first_value(started: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the JSON that a process prints first."""
    assert started.stdout is not None
    text = ""
    for line in started.stdout:
        text += line
        with contextlib.suppress(json.JSONDecodeError):
            return dict(json.loads(text))
    assert started.stderr is not None
    raise AssertionError(f"the server ended: {text} {started.stderr.read()}")


def in_threads(count: int, work: Any) -> list[Any]:
    """Return what a function of a number gives in so many threads at once."""
    found: list[Any] = [None] * count

    def one(number: int) -> None:
        found[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return found


def until(true: Any, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
