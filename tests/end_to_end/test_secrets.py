"""Credentials in the environment appear nowhere: not on a screen, in a store, or in a log."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Indexed

CANARIES = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY0001",
    "AWS_SECRET_ACCESS_KEY": "canary/secret/0123456789abcdefghijklmnop",
    "AWS_SESSION_TOKEN": "canary-session-token-0123456789",
}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie in it, and their names are limited."""
    folder = Path(tempfile.mkdtemp(prefix="lm-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def logs_in(folder: Path) -> dict[Path, bytes]:
    """Return what Ray's logs hold now."""
    found = {}
    # Folders may go while they are listed, which `os.walk` passes over.
    for each, _, names in os.walk(folder):
        if "lamella-ray-" in each and "/logs" in each:
            for path in (Path(each, name) for name in names):
                with contextlib.suppress(OSError):
                    if path.is_file():
                        found[path] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_no_credential_is_written_or_shown(indexed: Indexed, short_folder: Path) -> None:
    store = short_folder / "store"
    # The network has run already; what is left goes through every other stage, on Ray.
    for folder in ("probe", "corpora", "looks", "activations"):
        shutil.copytree(indexed.store / folder, store / folder)
    environment = os.environ | CANARIES | {"RAY_TMPDIR": str(short_folder), "HOME": "/nowhere"}

    logs: dict[Path, bytes] = {}

    def lamella(*arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "lamella", *map(str, arguments)]
        with (
            (short_folder / "said").open("wb+") as said,
            subprocess.Popen(command, env=environment, stdout=said, stderr=said) as running,
        ):
            deadline = time.monotonic() + 300
            while running.poll() is None:
                assert time.monotonic() < deadline
                logs.update(logs_in(short_folder))  # they go when the command ends
                time.sleep(0.05)
        text = (short_folder / "said").read_text()
        assert running.returncode == code, text
        return text

    job = short_folder / "job.toml"
    job.write_text(
        "[corpus]\nshard_images = 16\n[vocabulary]\nwords = 64\nrounds = 6\n"
        "[index]\nsegment_images = 20\n"
    )
    said = lamella("index", indexed.source, "--into", store, "--job", job, "--workers", "1")
    assert "snapshot 1" in said
    said += lamella("status", store, "--json")
    said += lamella("index", store / "none", "--into", store, "--debug", code=1)
    assert len(logs) > 3
    written = {path: path.read_bytes() for path in short_folder.rglob("*") if path.is_file()} | logs
    for name, secret in CANARIES.items():
        assert secret not in said, name
        assert [path for path, data in written.items() if secret.encode() in data] == [], name
