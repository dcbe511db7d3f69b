"""Proposers in S3: made, served, and mended there as on a disk; on a real server."""

import json
from pathlib import Path

import numpy as np
import pytest

import lamella as api
from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import CorruptFile, MissingFile
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.command_line import lamella
from tests.pipeline.proposers.stored import CUTS, write_vectors

pytest.importorskip("faiss")

ASKED = ("000", "100", "200")


def indexed(url: str, file: Path) -> tuple[Store, IndexSnapshot]:
    settings = CUTS | {"index.proposer": "ivf"}
    api.index(None, into=url, vectors={"clip": file}, settings=settings).close()
    store = open_store(url)
    snapshot = current_snapshot(store)
    assert snapshot is not None
    return store, snapshot


def made(store: Store) -> dict[str, bytes]:
    """Return the bytes of proposers and of frames, whatever the tokens of their attempts are."""
    found = {}
    for folder in ("frames", "proposers"):
        for each in store.walk(folder):
            file = tree.read(each.path)
            assert file is not None
            if file.kind == "data":
                found[f"{file.folder} {file.place} {file.key} {file.suffix}"] = store.read(
                    each.path
                )
    return found


@pytest.mark.slow
def test_proposers_in_a_bucket_are_those_of_a_disk_and_are_mended(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "cache"))
    file, url = write_vectors(tmp_path), f"s3://{bucket}/index"
    here, at_home = indexed(str(tmp_path / "store"), file)
    store, snapshot = indexed(url, file)
    assert made(store) == made(here)
    assert snapshot.root_digest == at_home.root_digest
    assert snapshot.proposers is not None
    assert at_home.proposers is not None
    assert snapshot.proposers.reaches == at_home.proposers.reaches
    assert verify_store(store).damage == ()

    asked = ("--names", ",".join(ASKED), "-k", "5", "--mode", "candidates", "--recall", "0.9")
    searched = lamella("query", url, *asked, "--engine", "serial", "--json")
    assert searched.returncode == 0, searched.stderr
    assert json.loads(searched.stdout)["run"]["target"] == 0.9

    damaged, gone = (segment.files["clip.proposer"] for segment in snapshot.segments[:2])
    whole = store.read(damaged.path)
    store.replace(damaged.path, whole[:-1] + bytes([whole[-1] ^ 1]))
    store.discard(gone.path)
    found = verify_store(store)
    assert {each.path for each in found.damage} == {damaged.path, gone.path}
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "another"))
    with pytest.raises((CorruptFile, MissingFile)):
        nearest(url)
    mended = repair_store(store, SerialRunner(), threads=1)
    assert (mended.after, mended.notes) == ((), ())
    assert verify_store(store).damage == ()
    assert made(store) == made(here)
    assert store.read(damaged.path) == whole
    np.testing.assert_array_equal(nearest(url), nearest(str(tmp_path / "store")))


def nearest(url: str) -> Int64s:
    """Return the ids (3, 5) that proposers find of three images."""
    with api.open(url) as index:
        asked = index.query(names=ASKED, k=5, mode="candidates", recall=0.9)
        return np.asarray(asked.ids)
