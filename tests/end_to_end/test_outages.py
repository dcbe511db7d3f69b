"""Rights that are lost in mid-job: who must do what, and the same command continues."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.store.storage import open_store
from tests.end_to_end.commands import Stores, current
from tests.end_to_end.signalled import Place
from tests.s3 import SECRET, S3Server, environ, environment, make_bucket

pytestmark = pytest.mark.slow


def with_secret(server: S3Server, secret: str) -> None:
    """Start a server anew, with another secret of its writing key."""
    config = server.folder / "s3.json"
    settings = json.loads(config.read_text())
    settings["identities"][0]["credentials"][0]["secretKey"] = secret
    server.kill()
    config.write_text(json.dumps(settings))
    server.start()


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["serial", "ray"])
def test_credentials_that_expire_in_mid_job_need_a_person_and_the_same_command_continues(
    stores: Stores, tmp_path: Path, engine: str
) -> None:
    server = S3Server(tmp_path / "s3")
    (tmp_path / "place").mkdir()
    job = Place(stores, tmp_path, tmp_path / "place").job
    # Only around clients: the server would take the keys for further ones of its own.
    reached = environ(environment(server.endpoint) | {"LAMELLA_CACHE": str(tmp_path / "cache")})
    try:
        server.start()
        with reached:
            store = f"s3://{make_bucket('expiring')}/store"
            call = ("index", stores.pictures, "--into", store, "--job", job, "--engine", engine)
            command = [sys.executable, "-m", "lamella", *map(str, call)]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        with process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("corpus done"):
                    with_secret(server, "renewed-secret-0123456789")
                    break
            said = process.stderr.read()
        assert process.returncode == 4, said
        (last,) = [each for each in said.splitlines() if each.startswith("lamella: ")]
        assert re.search("the secret key is wrong.*run the same command again", last), last
        with_secret(server, SECRET)
        with environ(environment(server.endpoint)):
            subprocess.run(command, check=True, capture_output=True)
            found = current_snapshot(open_store(store))
        assert found is not None
        assert found.root_digest == current(stores.one).root_digest
    finally:
        server.kill()
