"""What a night costs at a million files: seconds and memory of every part, for some changes.

The files are real, and so are listing, looking (each is read and hashed), cutting, segments and
publishing. Only decoding and the network are drawn: a header says 64 x 64, and a picture's vector
and descriptors are made of its SHA-256. `NIGHTLY_FILES` (1,000,000) chooses how many there are,
`NIGHTLY_CHANGES` (10,000) how many change; `NIGHTLY_DAYS` (30) are simulated over `NIGHTLY_DAILY`
(20,000) files.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from lamella.pipeline import journey
from lamella.pipeline.corpus import image_table
from lamella.pipeline.extract import backbone, work
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.descriptors import Descriptors
from lamella.pipeline.jobs import indexing
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.address import parse_s3
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.s3 import client
from lamella.pipeline.store.storage import open_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.benchmarks.memory import memory_now, peak_memory
from tests.benchmarks.record import write_json
from tests.builders import small_job
from tests.nightly import Source, counted, identities, shard_files
from tests.s3 import upload
from tests.tiny import tiny_index, tiny_pictures

KEPT = Path("build/bench/nightly")
FILES = int(os.environ.get("NIGHTLY_FILES", "1000000"))
CHANGES = int(os.environ.get("NIGHTLY_CHANGES", "10000"))
DAYS = int(os.environ.get("NIGHTLY_DAYS", "30"))
DAILY = int(os.environ.get("NIGHTLY_DAILY", "20000"))
IN_A_FOLDER = 1_000
DIMENSIONS, POSITIONS = 64, 4
LONG_AGO_NS = 1_600_000_000_000_000_001


class Files:
    """A folder of small files that are called pictures."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.number, self.clock = folder, 0, LONG_AGO_NS
        for start in range(0, count, IN_A_FOLDER):
            for place in range(start, min(start + IN_A_FOLDER, count)):
                self.write(self.name_of(place))

    def name_of(self, place: int) -> str:
        return f"{place // IN_A_FOLDER:05d}/{place % IN_A_FOLDER:04d}.jpg"

    def write(self, name: str) -> None:
        """Write a file of bytes that no other has, dated after all others."""
        self.number += 1
        self.clock += 1_000_000
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff" + self.number.to_bytes(8) + bytes(53))
        os.utime(path, ns=(self.clock, self.clock))


def drawn_batches(
    opened: Any, source: Any, rows: Sequence[Any], image_ids: Any, **named: Any
) -> Iterator[BatchActivations]:
    """Yield drawn activations of some pictures, those at hand left out."""
    at_hand = named.get("at_hand", frozenset())
    for start in range(0, len(rows), 64):
        part = slice(start, start + 64)
        asked = image_ids[part]
        wanted = [n for n, each in enumerate(asked.tolist()) if each not in at_hand]
        seeds = [int.from_bytes(rows[start + n]["sha256"][:8]) for n in wanted]
        drawn = np.stack(
            [np.random.default_rng(s).random((1 + POSITIONS, 320), np.float32) for s in seeds]
        ) if seeds else np.empty((0, 1 + POSITIONS, 320), np.float32)  # fmt: skip
        ids = asked[wanted]
        owners = np.repeat(ids, POSITIONS)
        y = np.tile(np.arange(POSITIONS, dtype=np.uint16), len(ids))
        vectors = drawn[:, 1:].reshape(-1, 320).astype(np.float16)
        yield BatchActivations(
            ids,
            {"head": np.ascontiguousarray(drawn[:, 0, :DIMENSIONS])},
            {"p15": Descriptors(owners, y, np.zeros_like(y), vectors)},
            (),
            asked,
        )


@contextmanager
def nothing_decoded() -> Iterator[None]:
    """Let headers say 64 x 64, and pictures have drawn activations."""
    lane = SimpleNamespace(queues=False)
    with ExitStack() as stack:
        header = SimpleNamespace(width=64, height=64, detail="")
        stack.enter_context(mock.patch.object(image_table, "probe", return_value=header))
        stack.enter_context(mock.patch.object(work, "forward_pictures", drawn_batches))
        stack.enter_context(mock.patch.object(work, "threads_for", return_value=1))
        stack.enter_context(
            mock.patch.object(
                backbone, "Backbone", lambda spec, *a: SimpleNamespace(spec=spec, lane=lane)
            )
        )
        yield


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time the parts of a run, in seconds by name."""
    taken: dict[str, float] = {}

    def wrapped(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return do(*arguments, **named)
            finally:
                taken[name] = taken.get(name, 0.0) + time.perf_counter() - began

        return run

    parts = {
        "list": (indexing, "list_source"),
        "cut and look": (journey, "build_corpus"),
        "extract": (journey, "extract_corpus"),
        "segments": (journey, "index_corpus"),
        "totals": (journey, "make_totals"),
        "draft": (indexing, "draft_of"),
        "gate and promote": (indexing, "publish_and_promote"),
    }
    with ExitStack() as stack:
        for name, (module, function) in parts.items():
            work_of = wrapped(name, getattr(module, function))
            stack.enter_context(mock.patch.object(module, function, work_of))
        yield taken


def settings(words: Path) -> dict[str, object]:
    return {
        "name": "files",
        "vocabulary_from": str(words),
        "vocabulary__projection": "none",
        "network__preprocess__short_edge": 64,
        "network__preprocess__crop": 64,
        "index__segment_images": 20_000,
        "gate__added": 1,
        "gate__removed": 1,
    }


def run(store: Store, files: Files, words: Path) -> tuple[IndexSnapshot, dict[str, float]]:
    """Index the files as they are now; return the snapshot and what it took."""
    job = small_job(**settings(words), corpus__shard_images=512)
    before = memory_now()
    began = time.perf_counter()
    with nothing_decoded(), timed() as taken, peak_memory() as peak:
        prepared = indexing.prepare(str(files.folder), job)
        snapshot = indexing.index_prepared(
            store, SerialRunner(), prepared, threads=1, watch=Watch()
        )
        peak.look()
    taken["all"] = time.perf_counter() - began
    taken["memory, MB"] = (peak.size_bytes - before) / 1e6
    return snapshot, taken


def trained(folder: Path) -> Path:
    """Return a folder with twelve words of layer p15."""
    from lamella.pipeline.vocabulary.exchange import export_vocabulary

    if not (folder / "words").exists():
        snapshot = tiny_index(folder / "small", tiny_pictures(folder / "few"))
        export_vocabulary(
            open_store(str(folder / "small")),
            snapshot.vocabularies["p15"],
            snapshot.extraction,
            folder / "words",
        )
    return folder / "words"


def stored(folder: Path) -> int:
    """Return the bytes of all files of a store."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


CHANGES_OF_96 = {
    "nothing": (),
    "add last": ("write z.png",),
    "change in place": ("write b/036.png", "write d/041.png"),
    "delete in the middle": ("delete b/036.png", "delete d/041.png", "delete d/045.png"),
    "delete last": ("delete h/095.png",),
    "rename": ("move b/036.png b/036b.png",),
    "rename across": ("move b/036.png z.png",),
    "insert first": ("write a.png",),
    "all together": (
        *("write a.png", "write b/036.png", "delete d/041.png"),
        *("move f/002.png z.png", "touch h/095.png"),
    ),
    "touch": ("touch b/036.png",),
}


@pytest.mark.bench
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_changes_of_96_pictures(where: str, tmp_path: Path, request: Any) -> None:
    """Print what each change costs, with source and store in a folder or in S3."""
    words = trained(tmp_path)
    found = []
    for number, (name, edits) in enumerate(CHANGES_OF_96.items()):
        source = Source(tmp_path / f"pictures-{number}")
        for picture in range(96):
            source.write(f"{'bdfh'[picture % 4]}/{picture:03d}.png", seed=picture)
        place, store = str(source.folder), str(tmp_path / f"store-{number}")
        if where == "s3":
            bucket = request.getfixturevalue("bucket")
            place, store = f"s3://{bucket}/p{number}", f"s3://{bucket}/s{number}"
            upload(source.folder, place)
        given: dict[str, object] = {"name": "pictures", "vocabulary_from": str(words)}
        before = tiny_index(store, place, **given, corpus__shard_images=8)
        opened = open_store(store)
        size, tables = _bytes_of(opened), shard_files(store, before)
        for edit in edits:
            verb, *names = edit.split()
            getattr(source, verb)(*names)
            if where == "s3":
                _follow(source, place, verb, names)
        with counted() as cost:
            after = reindex(opened, SerialRunner(), threads=1, watch=Watch(), pictures=place)
        fresh = tiny_index(f"{store}-fresh", place, **given, corpus__shard_images=8)
        assert after.root_digest == fresh.root_digest
        old, new = identities(store, before), identities(store, after)
        made = shard_files(store, after) - tables
        row = {
            "change": name,
            "pictures read": cost.looked_at,
            "through the network": cost.through_the_network,
            "shards made": sum(path.startswith("looks/") for path in made),
            "segments made": len({p.split("/")[-1].split(".")[0] for p in made if "segm" in p}),
            "new bytes": _bytes_of(opened) - size,
            "ids kept": f"{len(old.keys() & new.keys())} of {len(new)}",
        }
        found.append(row)
        print(where, row)
    write_json(f"nightly_changes_{where}.json", found)


def _follow(source: Source, place: str, verb: str, names: list[str]) -> None:
    """Bring an edit of a folder to its copy in S3."""
    address = parse_s3(place)
    gone = names[:1] if verb in ("delete", "move") else []
    for name in gone:
        client().remove(address.bucket, address.key(name))
    for name in [] if verb == "delete" else names[-1:]:
        client().put(address.bucket, address.key(name), (source.folder / name).read_bytes())


def _bytes_of(store: Store) -> int:
    return sum(file.size_bytes for file in store.walk(""))


@pytest.mark.bench
def test_a_night_over_many_files() -> None:
    shutil.rmtree(KEPT, ignore_errors=True)
    words = trained(KEPT)
    began = time.perf_counter()
    files = Files(KEPT / "pictures", FILES)
    print(f"\n{FILES:,} files written in {time.perf_counter() - began:.0f} s")
    store = open_store(str(KEPT / "store"), create=True)
    chance = random.Random(0)
    found: list[dict[str, Any]] = []

    def night(name: str) -> None:
        size, held = stored(KEPT / "store"), set(_segments(store))
        snapshot, taken = run(store, files, words)
        made = [each for each in _segments(store) if each not in held]
        row = {
            "night": name,
            "pictures": snapshot.indexed,
            "in segments": len(snapshot.segments),
            "segments made": len(made),
            "new bytes": stored(KEPT / "store") - size,
            **{part: round(value, 1) for part, value in taken.items()},
        }
        found.append(row)
        print(", ".join(f"{key} {value:,}" if not isinstance(value, str) else value
                        for key, value in row.items()))  # fmt: skip

    night("from nothing")
    night("nothing changed")
    for place in chance.sample(range(FILES), CHANGES):
        files.write(files.name_of(place))
    night(f"{CHANGES:,} changed, spread evenly")
    for number in range(CHANGES):
        files.write(f"00500x/{number:06d}.jpg")
    night(f"{CHANGES:,} added in one folder")
    write_json("nightly.json", found)
    shutil.rmtree(KEPT)


def _segments(store: Store) -> list[str]:
    return [
        f"{folder}/{name}"
        for folder in store.folders("segments")
        for name in store.names(f"segments/{folder}/done")
    ]


@pytest.mark.bench
def test_many_nights() -> None:
    from lamella.pipeline.upkeep.expire import expire_snapshots
    from lamella.pipeline.upkeep.gc import collect_garbage

    shutil.rmtree(KEPT, ignore_errors=True)
    words = trained(KEPT)
    files = Files(KEPT / "pictures", DAILY)
    store = open_store(str(KEPT / "store"), create=True)
    chance = random.Random(0)
    run(store, files, words)
    once = stored(KEPT / "store")
    for _ in range(DAYS):
        for place in chance.sample(range(DAILY), DAILY // 100):
            files.write(files.name_of(place))
        last, _ = run(store, files, words)
    before = stored(KEPT / "store")
    expire_snapshots(store, keep_last=1, keep_days=0)
    collect_garbage(store, older_than_s=-1.0, forced=True)
    after = stored(KEPT / "store")
    fresh = open_store(str(KEPT / "fresh"), create=True)
    anew, _ = run(fresh, files, words)
    assert anew.root_digest == last.root_digest
    alone = stored(KEPT / "fresh")
    print(
        f"\n{DAYS} nights of 1 % of {DAILY:,} pictures: {once:,} bytes at first, {before:,} after "
        f"them, {after:,} after expire and gc; an index from nothing has {alone:,}"
    )
    write_json(
        "nights.json",
        {"first": once, "after the nights": before, "after gc": after, "from nothing": alone},
    )
    shutil.rmtree(KEPT)
