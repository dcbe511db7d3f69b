"""How fast a source is listed, and in how much memory: a local folder, and a prefix in S3.

`LISTING_FILES` (200,000) lie in folders of a thousand. fsspec, the peer, lists them with sizes and
times and keeps all of them in memory; it is what most programs read folders and buckets with. The
server of the tests answers within a millisecond, so each page of its listing is held back for
50 ms, about what S3 takes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamella.pipeline.corpus import objects, sources
from lamella.pipeline.corpus.objects import Named, OutOfOrder, objects_under
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.store import s3
from lamella.pipeline.store.s3 import Page, S3Client, client
from tests.benchmarks.record import Measurement, write_json, write_record

FILES = int(os.environ.get("LISTING_FILES", "200000"))
IN_A_FOLDER = 1_000
OBJECTS, PAGE_KEYS, PAGE_S = 3_000, 50, 0.05

OURS = "from lamella.pipeline.corpus.sources import list_source as work"
PEER = """
from fsspec.implementations.local import LocalFileSystem
def work(folder):
    found = LocalFileSystem().find(folder, detail=True)
    return sorted((name, each["size"], each["mtime"]) for name, each in found.items())
"""
MEASURED = """
import re, sys, time
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before, began = most(), time.perf_counter()
kept = work(sys.argv[1])
print(time.perf_counter() - began, most() - before)
"""


def measured(code: str, folder: Path) -> tuple[float, float]:
    """Return the seconds and the bytes that a fresh process takes for a folder."""
    command = [sys.executable, "-c", code + MEASURED, str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), float(said[1]) * 1024


@pytest.mark.bench
def test_a_folder(tmp_path: Path) -> None:
    for start in range(0, FILES, IN_A_FOLDER):
        (tmp_path / f"{start:08d}").mkdir()
        for number in range(start, min(start + IN_A_FOLDER, FILES)):
            os.mknod(tmp_path / f"{start:08d}" / f"{number:08d}.jpg")
    pairs = [(measured(OURS, tmp_path), measured(PEER, tmp_path)) for _ in range(3)]
    ours, peer = (min(pair[which][0] for pair in pairs) for which in (0, 1))
    record = Measurement(
        "list a folder", {"files": FILES}, FILES / ours, FILES / peer, "fsspec find", "files/s"
    )
    write_record("listing.json", [record])
    memory = {"ours": pairs[0][0][1], "fsspec": pairs[0][1][1]}
    write_json("listing_memory.json", {"files": FILES, "bytes": memory})
    print(f"\n{FILES:,} files: {ours:.2f} s, fsspec {peer:.2f} s;", memory)


@pytest.mark.bench
def test_a_prefix_far_away(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(OBJECTS):
        client().put(bucket, f"far/{number // 30:04d}/{number:06d}.jpg", b"")
    monkeypatch.setattr(s3, "PAGE_KEYS", PAGE_KEYS)
    plain = S3Client.pages

    def slowly(*args: object, **named: object) -> Iterator[Page]:
        for page in plain(*args, **named):  # type: ignore[arg-type]
            time.sleep(PAGE_S)
            yield page

    monkeypatch.setattr(S3Client, "pages", slowly)

    def one_after_another(place: str) -> Iterator[Named]:
        raise OutOfOrder
        yield from objects_under(place)

    seconds = []
    for how in (objects.objects_at_once, one_after_another):
        monkeypatch.setattr(sources, "objects_at_once", how)
        began = time.perf_counter()
        assert len(list_source(f"s3://{bucket}/far").entries) == OBJECTS
        seconds.append(time.perf_counter() - began)
    ours, peer = (OBJECTS / each for each in seconds)
    sizes = {"objects": OBJECTS, "keys a page": PAGE_KEYS, "seconds a page": PAGE_S}
    record = Measurement("list a prefix", sizes, ours, peer, "page after page", "objects/s")
    write_record("listing_s3.json", [record])
    print(f"\n{OBJECTS:,} objects: {seconds[0]:.2f} s, page after page {seconds[1]:.2f} s")
