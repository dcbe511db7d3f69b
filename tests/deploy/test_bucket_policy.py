"""The policies of buckets allow what each role calls, and no more; a real server enforces them."""

import inspect
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lamella.pipeline.store import s3, tree
from tests.command_line import Said, lamella
from tests.deploy.manifests import Manifest, policy
from tests.s3 import PLAIN_KEY, PLAIN_SECRET, S3Server, environ, environment, make_bucket, upload
from tests.tiny import tiny_pictures

ACTIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "list_objects_v2": "s3:ListBucket",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "delete_object": "s3:DeleteObject",
}
"""The right that each operation of S3 needs."""

ROLES = ("indexer", "reader", "keeper")
JOB = """
[corpus]
shard_images = 3
[network.preprocess]
short_edge = 64
crop = 64
[vocabulary]
words = 12
rounds = 3
projection = "none"
[index]
segment_images = 3
"""


def statements_of(name: str, role: str) -> list[Manifest]:
    """Return what a policy allows a role."""
    return [
        each
        for each in policy(name)["Statement"]
        if any(arn.endswith(f":role/lamella-{role}") for arn in each["Principal"]["AWS"])
    ]


def rights(name: str, role: str) -> set[tuple[str, str]]:
    """Return the actions that a role has, each with the resource."""
    return {
        (action, resource)
        for each in statements_of(name, role)
        for action in each["Action"]
        for resource in each["Resource"]
    }


def test_the_policies_have_the_rights_that_the_code_needs_and_no_other() -> None:
    called = set(re.findall(r"\bs3\.([a-z_0-9]+)\(", inspect.getsource(s3)))
    assert called == set(ACTIONS)
    allowed = {action for role in ROLES for action, _ in rights("store-policy", role)}
    assert allowed == set(ACTIONS.values())
    for role in ROLES:
        assert rights("source-policy", role) == {
            ("s3:ListBucket", "arn:aws:s3:::pictures"),
            ("s3:GetObject", "arn:aws:s3:::pictures/photos/*"),
        }


def test_only_the_keeper_deletes_and_the_reader_writes_nothing_but_runs_and_beats() -> None:
    deleting = {
        role: {at for action, at in rights("store-policy", role) if action == "s3:DeleteObject"}
        for role in ROLES
    }
    assert deleting == {
        "indexer": {"arn:aws:s3:::index/photos/vocabularies/*"},
        "reader": set(),
        "keeper": {"arn:aws:s3:::index/photos/*"},
    }
    writing = {at for action, at in rights("store-policy", "reader") if "Put" in action}
    tops = [tree.RUN.at(run="r").split("/")[0], tree.BEAT.at(job="j", number=1).split("/")[0]]
    assert writing == {f"arn:aws:s3:::index/photos/{top}/*" for top in tops}


@pytest.mark.parametrize("name", ["store-policy", "source-policy"])
def test_nothing_is_allowed_to_all_or_by_a_pattern(name: str) -> None:
    found = policy(name)
    assert found["Version"] == "2012-10-17"
    assert len({each["Sid"] for each in found["Statement"]}) == len(found["Statement"])
    for each in found["Statement"]:
        assert each["Effect"] == "Allow"
        assert "*" not in json.dumps(each["Principal"])
        assert not any("*" in action for action in each["Action"])
        # The right to list is one on a bucket, all others are on objects. Without a condition on
        # the prefix: with one, AWS says of an object that is not there that access is denied.
        assert "Condition" not in each
        assert (each["Action"] == ["s3:ListBucket"]) == all(
            "/" not in at for at in each["Resource"]
        )


ALLOWED = {"indexer": "photos/x", "reader": "photos/runs/x", "keeper": "photos/x"}
REFUSED = {"indexer": "x", "reader": "photos/x", "keeper": "x"}
"""A key that a role may write, and one that it may not."""


def client() -> Any:
    """Return a client of S3 that is not ours, with the keys of the environment."""
    from botocore.session import Session

    return Session().create_client("s3")


@dataclass
class Cloud:
    """Two buckets on the real server, an identity without rights of its own, and its commands."""

    server: S3Server
    folder: Path

    def put_policies(self, role: str) -> None:
        """Have the buckets allow the identity what the policies allow the role."""
        for bucket, name in (("index", "store-policy"), ("pictures", "source-policy")):
            # The server has no roles; its identity stands for one of them after the other.
            allowed = [each | {"Principal": "*"} for each in statements_of(name, role)]
            text = json.dumps(policy(name) | {"Statement": allowed})
            client().put_bucket_policy(Bucket=bucket, Policy=text)

    @contextmanager
    def as_(self, role: str) -> Iterator[None]:
        """Let commands inside the block have the rights of a role."""
        self.put_policies(role)
        keys = environment(self.server.endpoint, PLAIN_KEY, PLAIN_SECRET)
        own = {"LAMELLA_CACHE": str(self.folder / role), "LAMELLA_S3_PATIENCE_S": "10"}
        with environ(keys):
            self._wait_for_the_policy(role, client())
        client().delete_object(Bucket="index", Key=ALLOWED[role])
        with environ(keys | own):
            yield

    def _wait_for_the_policy(self, role: str, plain: Any) -> None:
        """The server takes a policy up a moment after it says that it has it."""
        from botocore.exceptions import ClientError

        deadline = time.monotonic() + 30.0
        while True:
            answers = []
            for key in (ALLOWED[role], REFUSED[role]):
                try:
                    plain.put_object(Bucket="index", Key=key, Body=b"")
                    answers.append(True)
                except ClientError:
                    answers.append(False)
            if answers == [True, False]:
                return
            assert time.monotonic() < deadline, answers
            time.sleep(0.1)


@pytest.fixture(scope="module")
def cloud(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """Pictures and job are there; nothing is indexed."""
    folder = tmp_path_factory.mktemp("cloud")
    for bucket in ("index", "pictures"):
        make_bucket(bucket)
    upload(tiny_pictures(folder / "pictures", 9), "s3://pictures/photos")
    (folder / "job.toml").write_text(JOB)
    return Cloud(s3_server, folder)


SOURCE, STORE = "s3://pictures/photos", "s3://index/photos"
SERIAL = ("--engine", "serial")


def good(said: Said) -> Said:
    assert said.returncode == 0, said.stderr
    return said


def refused(said: Said) -> None:
    assert said.returncode in (1, 4), said.stderr
    assert "right" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.slow
def test_each_role_can_do_its_work_and_no_other(cloud: Cloud) -> None:
    job = cloud.folder / "job.toml"
    index = ("index", SOURCE, "--into", STORE, "--job", job, "--max-refused", "1", *SERIAL)
    with cloud.as_("indexer"):
        good(lamella("plan", *index[1:-1], "serial", "--sample", "6"))
        good(lamella(*index))
    more = tiny_pictures(cloud.folder / "more", 11, broken=0)
    upload(more, "s3://pictures/photos")  # two of them are new
    with cloud.as_("indexer"):
        good(lamella("reindex", STORE, "--pictures", SOURCE, "--force", *SERIAL))
    with cloud.as_("reader"):
        refused(lamella(*index))
        good(lamella("status", STORE))
        good(lamella("query", STORE, more / "00.png"))
        good(lamella("query", STORE, "--queries", "snapshot", "--into", "pairs", *SERIAL))
        groups = ("--protocol", "groups", "--pattern", "(.)[0-9].png", "--pictures", SOURCE)
        good(lamella("evaluate", STORE, *groups, *SERIAL))
        good(lamella("verify", STORE))
        refused(lamella("expire", STORE, "--keep-last", "1", "--keep-days", "0"))
    with cloud.as_("indexer"):
        refused(lamella("gc", STORE, "--older-than", "0m", "--force"))
    with cloud.as_("keeper"):
        good(lamella("tag", STORE, "first", "2"))
        good(lamella("tag", STORE, "--remove", "first"))
        good(lamella("expire", STORE, "--keep-last", "1", "--keep-days", "0"))
        good(lamella("gc", STORE, "--older-than", "0m", "--force"))
        good(lamella("gc", STORE, "--intermediate"))
        good(lamella("retry", STORE, "--pictures", SOURCE, "--force", *SERIAL))
        good(lamella("runs", STORE, "--remove", "pairs"))
        good(lamella("verify", STORE))
    shutil.rmtree(cloud.folder)


def test_uploads_that_died_are_aborted_by_a_rule() -> None:
    """The form of the rule is checked by the client of S3, with its own model of the service."""
    from botocore.session import Session

    (rule,) = policy("store-lifecycle")["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7
    model = Session().get_service_model("s3").operation_model("PutBucketLifecycleConfiguration")
    from botocore.validate import ParamValidator

    given = {"Bucket": "index", "LifecycleConfiguration": policy("store-lifecycle")}
    assert not ParamValidator().validate(given, model.input_shape).has_errors()
