"""A promoted snapshot takes over between requests; none fails, and each answer says which it is."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import lamella
from lamella.cluster.serve.following import Following
from lamella.cluster.serve.settings import ServeSettings
from lamella.pipeline.index.promotions import promote
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from tests.end_to_end.commands import Stores
from tests.serving import asked, until


@pytest.fixture
def store(stores: Stores, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores.two, tmp_path / "store"))


def test_no_request_fails_while_snapshots_change(store: Path) -> None:
    expected = {}
    for number in (1, 2):
        with lamella.open(store, at=number) as index:
            found = index.query(names="00.png", k=5)
            expected[number] = [
                (str(i), s) for i, s in zip(found.ids[0], found.scores[0], strict=True)
            ]
    assert expected[1] != expected[2]
    with asked(store, follow_s=0.02) as (client, service):
        service.following.begin()
        seen: list[int] = []
        wrong: list[Any] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                response = client.post("/query", json={"names": "00.png", "k": 5})
                if response.status_code != 200:
                    wrong.append(response.text)
                    continue
                said = response.json()
                got = [(h["image_id"], h["score"]) for h in said["answers"][0]["results"]]
                seen.append(said["snapshot"])
                if got != expected[said["snapshot"]]:
                    wrong.append(said)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        try:
            for number in (1, 2, 1):
                promote(LocalStore(store), number)
                until(lambda number=number: service.following.current.snapshot.number == number)
                already = len(seen)
                until(lambda already=already: len(seen) > already + 8)
        finally:
            done.set()
            for each in threads:
                each.join()
        assert not wrong
        assert set(seen) == {1, 2}
        assert client.get("/healthz").json()["snapshot"] == 1


def test_a_request_ends_on_the_snapshot_that_it_began_with(store: Path) -> None:
    following = Following(ServeSettings(str(store)))
    with following.serving() as before:
        promote(LocalStore(store), 1)
        assert following.look()
        assert following.current is not before
        assert before.index.query(names="00.png", k=1).names[0, 0] == "00.png"
    with pytest.raises(lamella.errors.InputError, match="closed"):
        before.index.query(names="00.png")  # nobody had it any more
    assert not following.look()
    following.stop()


def test_a_snapshot_that_cannot_be_opened_leaves_the_old_one_and_is_told(store: Path) -> None:
    promote(LocalStore(store), 1)
    with asked(store) as (client, service):
        promote(LocalStore(store), 2)
        path = store / tree.SNAPSHOT.at(number=2)
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(whole[:-20])
        assert not service.following.look()
        health = client.get("/healthz").json()
        assert health["snapshot"] == 1
        assert "snapshots/" in health["problem"]
        answer = client.post("/query", json={"names": "00.png"}).json()
        assert answer["snapshot"] == 1
        path.write_bytes(whole)
        assert service.following.look()
        assert client.get("/healthz").json()["problem"] == ""


def test_a_snapshot_that_is_named_stays(store: Path) -> None:
    with asked(store, snapshot=1) as (client, service):
        assert not service.following.follows
        assert client.get("/index").json()["snapshot"] == 1
    with asked(store, follow_s=None) as (client, service):
        assert not service.following.follows


@pytest.mark.parametrize(
    ("snapshot", "said"), [(9, "no snapshot 9"), ("monday", "monday"), (None, "holds no snapshot")]
)
def test_what_is_not_there_is_not_served(
    store: Path, snapshot: int | str | None, said: str
) -> None:
    if snapshot is None:
        shutil.rmtree(store / "promotions")
    with pytest.raises(lamella.errors.InputError, match=said):
        Following(ServeSettings(str(store), snapshot=snapshot))
