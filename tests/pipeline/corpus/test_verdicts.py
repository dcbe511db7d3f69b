"""What a picture cost two processes to find out is found out once a shard."""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.pipeline.corpus.stage import LookTask, LookWork
from lamella.pipeline.corpus.verdicts import Verdicts, discard_verdicts, judged
from lamella.pipeline.run.step import StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import read_parquet
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.verdict import DEAR
from tests.builders import Killed, counted_creates
from tests.hostile_child import marked
from tests.tiny import tiny_index

LIMITS = DecodeLimits(max_seconds=0.2)
FOLDER = "corpora/c-0123456789ab"
SHA = hashlib.sha256(b"a picture").digest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), create=True)


class Looking:
    """Looks at a picture, in vain, and counts how often."""

    def __init__(self, reason: RefusalReason, detail: str = "SIGSEGV") -> None:
        self.times = 0
        self.refused = Refused(reason, detail)

    def __call__(self) -> int:
        self.times += 1
        raise self.refused


@pytest.mark.parametrize("reason", DEAR)
def test_a_later_attempt_does_not_look_again(store: Store, reason: RefusalReason) -> None:
    look = Looking(reason)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            Verdicts(store, FOLDER, "00000").judge(SHA, LIMITS, look)
        assert (caught.value.reason, caught.value.detail) == (reason, "SIGSEGV")
    assert look.times == 1


def test_a_verdict_counts_for_its_shard_its_bytes_and_its_limits_alone(store: Store) -> None:
    look = Looking(RefusalReason.TOO_SLOW)
    more_time, more_memory = DecodeLimits(max_seconds=9), DecodeLimits(max_memory=2**33)
    for shard, sha, limits in (
        ("00000", SHA, LIMITS),
        ("00001", SHA, LIMITS),
        ("00000", hashlib.sha256(b"another").digest(), LIMITS),
        ("00000", SHA, more_time),
        ("00000", SHA, more_memory),
    ):
        with pytest.raises(Refused):
            Verdicts(store, FOLDER, shard).judge(sha, limits, look)
    assert look.times == 5


def test_what_costs_little_is_not_kept(store: Store) -> None:
    verdicts = Verdicts(store, FOLDER, "00000")
    for reason in set(RefusalReason) - set(DEAR):
        with pytest.raises(Refused):
            verdicts.judge(SHA, LIMITS, Looking(reason))
    assert verdicts.judge(SHA, LIMITS, lambda: 7) == 7
    assert list(store.walk(FOLDER)) == []


def test_a_verdict_that_is_damaged_or_gone_costs_another_look(store: Store, tmp_path: Path) -> None:
    look = Looking(RefusalReason.TOO_SLOW)
    with pytest.raises(Refused):
        Verdicts(store, FOLDER, "00000").judge(SHA, LIMITS, look)
    (kept,) = store.walk(FOLDER)
    path = tmp_path / "store" / kept.path
    path.write_bytes(path.read_bytes().replace(b"too-slow", b"too-much-memory"))
    verdicts = Verdicts(store, FOLDER, "00000")
    assert verdicts.judge(SHA, LIMITS, lambda: 7) == 7
    path.unlink()
    assert verdicts.judge(SHA, LIMITS, lambda: 7) == 7


def test_verdicts_that_are_discarded_are_forgotten(store: Store) -> None:
    look = Looking(RefusalReason.TOO_SLOW)
    for shard in ("00000", "00001"):
        with pytest.raises(Refused):
            Verdicts(store, FOLDER, shard).judge(SHA, LIMITS, look)
    discard_verdicts(store, FOLDER, "00000")
    discard_verdicts(store, FOLDER, "00007")
    (kept,) = store.walk(FOLDER)
    assert kept.path.startswith(tree.verdicts(FOLDER, "00001"))
    assert Verdicts(store, FOLDER, "00000").judge(SHA, LIMITS, lambda: 7) == 7


def test_without_verdicts_a_picture_is_looked_at() -> None:
    assert judged(None, SHA, LIMITS, lambda: 7) == 7


@pytest.fixture
def flawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The sandbox with a child that has flaws."""
    made = Sandbox("tests.hostile_child")
    monkeypatch.setattr(sandbox, "_sandbox", made)
    yield made
    made.close()


def filled(folder: Path, *acts: str, at: str) -> Path:
    """Fill a folder with a picture for each act, and one without."""
    folder.mkdir()
    for number, act in enumerate([*acts, ""]):
        pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC).save(buffer, "PNG")
        data = marked(buffer.getvalue(), act, at=at) if act else buffer.getvalue()
        (folder / f"{number}.png").write_bytes(data)
    return folder


def test_headers_that_an_attempt_has_tried_cost_the_next_no_process(
    store: Store, flawed: Sandbox, tmp_path: Path
) -> None:
    pictures = filled(tmp_path / "pictures", "crash", "spin", at="header")
    entries = tuple(Entry(path.name, "", 0, 1) for path in sorted(pictures.iterdir()))
    work = LookWork(str(pictures), "folder", LIMITS)
    probe = StoreStep(tree.LOOK, store.url, FOLDER, "0123456789ab", work).open()
    with mock.patch.object(Attempt, "finish", side_effect=Killed), pytest.raises(Killed):
        probe(LookTask("00000", entries))
    tried = flawed.started
    assert tried >= 4  # two for each
    record = probe(LookTask("00000", entries))
    assert flawed.started == tried
    rows = read_parquet(open_committed(store, record.files["images"])).to_pylist()
    assert [(row["refusal"], row["detail"]) for row in rows] == [
        ("decoder-crashed", "SIGSEGV"),
        ("too-slow", "more than 0.2 s of processor time"),
        (None, ""),
    ]


def test_pixels_that_an_attempt_has_tried_cost_the_next_no_process_and_change_no_bit(
    flawed: Sandbox, tmp_path: Path
) -> None:
    pictures = filled(tmp_path / "pictures", "crash", "spin", "", "", at="pixels")
    settings = {"corpus__max_seconds": 0.2, "corpus__max_refused": 1.0}
    with counted_creates() as created:
        whole = tiny_index(tmp_path / "whole", pictures, **settings)
    extracted = next(n for n, path in enumerate(created) if re.match("activations/.*/done/", path))
    with pytest.raises(Killed), counted_creates(die_before=extracted):
        tiny_index(tmp_path / "store", pictures, **settings)
    tried = flawed.started
    again = tiny_index(tmp_path / "store", pictures, **settings)
    assert flawed.started <= tried + 1  # pictures without a flaw may need one more at once
    assert again.root_digest == whole.root_digest
    assert again.refused_by_reason == {"decoder-crashed": 1, "too-slow": 1}
