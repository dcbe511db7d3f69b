"""Every picture is in exactly one state, and no stage ends when they do not add up."""

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamella.pipeline.errors import AccountMismatch, SnapshotIncomplete
from lamella.pipeline.index import publish
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.recorded import read_jobs
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.store.local import LocalStore
from tests.builders import Killed, counted_creates, reseal
from tests.tiny import tiny_index, tiny_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures(tmp_path_factory.mktemp("account") / "pictures")


@pytest.fixture(scope="module")
def whole(pictures: Path) -> Path:
    store = pictures.parent / "store"
    tiny_index(store, pictures)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


def one_more(store: Path, pattern: str, state: str) -> None:
    """Let the done record of the larger of two shards claim a picture that is not there."""
    path = max(
        store.glob(pattern), key=lambda each: json.loads(each.read_bytes())["counts"]["images"]
    )
    counts = json.loads(path.read_bytes())["counts"]
    reseal(path, counts=counts | {state: counts[state] + 1})


@pytest.mark.parametrize(
    ("stage", "state", "message"),
    [
        ("looks/*", "ignored", "corpus [0-9a-f]{16}: 4 images + 1 ignored is not 4: its record"),
        ("activations/*", "refused", r"extract [0-9a-f]{16}: 4 indexed \+ 1 refused is not 4: its"),
        (
            "bags/*",
            "images",
            "encode [0-9a-f]{16}: 5 images is not 4: its record is wrong; `lamella",
        ),
        ("segments/*", "images", "index [0-9a-f]{16}: 5 images is not 4: its record is wrong"),
    ],
)
def test_no_stage_ends_when_its_pictures_do_not_add_up(
    pictures: Path, store: Path, stage: str, state: str, message: str
) -> None:
    for path in [*store.glob("corpora/*/manifest.json"), *store.glob("*/000001.json")]:
        path.unlink()
    one_more(store, f"{stage}/done/*.json", state)
    with pytest.raises(AccountMismatch, match=message.replace("4 images + 1", r"4 images \+ 1")):
        tiny_index(store, pictures)
    assert current_snapshot(LocalStore(store)) is None


def test_nothing_is_published_that_does_not_add_up(pictures: Path, store: Path) -> None:
    for path in store.glob("*/000001.json"):
        path.unlink()
    with (
        mock.patch.object(publish, "refusals_by_reason", return_value={"truncated": 2}),
        pytest.raises(SnapshotIncomplete, match=r"2 refusals have a reason, 1 images .*refused"),
    ):
        tiny_index(store, pictures)
    assert current_snapshot(LocalStore(store)) is None


def states(store: Path) -> list[dict[str, Any]]:
    return [corpus["states"] for corpus in store_status(LocalStore(store))["corpora"]]


def test_the_states_add_up_at_every_moment_of_a_job(pictures: Path, tmp_path: Path) -> None:
    (pictures / "notes.txt").touch()  # passed over, in no state
    with counted_creates() as creates:
        tiny_index(tmp_path / "whole", pictures)
    seen: list[dict[str, int]] = []
    for number in (1, 2, 4, 5, 6, len(creates) - 3, len(creates) - 1):
        store = tmp_path / f"killed-{number}"
        with pytest.raises(Killed), counted_creates(die_before=number):
            tiny_index(store, pictures)
        (found,) = states(store)
        assert sum(found.values()) == (7 if "listed" in found else 6)
        seen += [found] if found not in seen else []
    assert seen == [
        {"listed": 7},
        {"pending": 6},
        {"extracted": 4, "pending": 2},
        {"extracted": 5, "refused: truncated": 1},
        {"indexed": 5, "refused: truncated": 1},
    ]
    (pictures / "notes.txt").unlink()


def test_status_shows_a_sum_that_is_off(store: Path) -> None:
    one_more(store, "activations/*/done/*.json", "indexed")
    assert states(store) == [
        {"indexed": 5, "extracted": 1, "refused: truncated": 1, "unaccounted": -1}
    ]


def test_a_job_is_recorded_once_without_what_changes_no_bit(pictures: Path, store: Path) -> None:
    jobs = read_jobs(LocalStore(store))
    ((path, job),) = jobs.items()
    assert job.source == str(pictures)
    assert (job.entries, job.shard_images) == (6, 3)
    tiny_index(store, pictures, engine__kind="serial", engine__workers=3)
    assert read_jobs(LocalStore(store)) == jobs
    tiny_index(store, pictures, fusion__preset="scaled")
    assert len(read_jobs(LocalStore(store))) == 2
    # A damaged record of a job is put right by the job itself.
    kept = (store / path).read_bytes()
    (store / path).write_bytes(
        kept.replace(b"tiny", b"tony").replace(b'"entries":6', b'"entries":5')
    )
    assert len(read_jobs(LocalStore(store))) == 1
    tiny_index(store, pictures)
    assert (store / path).read_bytes() == kept
