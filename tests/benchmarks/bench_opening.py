"""What it costs to look at the form of a segment when it opens, beside its SHA-256.

`OPENING_PICTURES` (100,000) chooses how many drawn pictures the segment has. The files lie in the
page cache, so a disk would make the share smaller.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lamella.pipeline.bench.segments import HIGH, LOW
from lamella.pipeline.index.files import read_bags, read_dense, read_postings, read_sketch
from lamella.pipeline.planted.scale import ScaleSpec
from lamella.pipeline.store.commit import sha256_of
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.record import Measurement, write_record

PICTURES = int(os.environ.get("OPENING_PICTURES", "100000"))
REPEATS = 5


def seconds_of(work: Callable[[], object]) -> float:
    """Return the shortest time of some work."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


@pytest.mark.bench
def test_looking_at_the_form_of_a_segment() -> None:
    spec = ScaleSpec(pictures=max(PICTURES, 1_000_000))
    folder = Path(build_segment(spec, 0, PICTURES, threads=2).folder)
    files = {name: folder / f"{name}.arrow" for name in _names()}
    hashed = seconds_of(lambda: [sha256_of(path) for path in files.values()])
    mapped = seconds_of(
        lambda: (
            read_dense(files[f"{HIGH}.dense"]),
            read_sketch(files[f"{HIGH}.sketch"], files[f"{HIGH}.axes"]),
        )
    )
    _, bags = read_bags(files[f"{LOW}.bags"])
    postings = read_postings(files[f"{LOW}.postings"])
    looked = seconds_of(lambda: read_bags(files[f"{LOW}.bags"]))
    looked += seconds_of(lambda: postings.check_rows(len(bags)))
    looked += seconds_of(lambda: bags.check_words(postings.words))
    size = sum(path.stat().st_size for path in files.values())
    print(
        f"\n{PICTURES:,} pictures, {len(bags.words):,} postings, {size:,} bytes: SHA-256 "
        f"{1000 * hashed:.1f} ms, mapping {1000 * mapped:.1f} ms, form {1000 * looked:.1f} ms, "
        f"{looked / (hashed + mapped + looked):.1%} of all"
    )
    sizes = {"pictures": PICTURES, "postings": len(bags.words), "bytes": size}
    write_record(
        "opening.json",
        [
            Measurement(
                name="form of a segment, looked at when it opens",
                sizes=sizes,
                ours=size / looked,
                peer=size / hashed,
                peer_name="SHA-256 of the same files",
                unit="bytes/s",
            )
        ],
    )
    assert looked < hashed


def _names() -> tuple[str, ...]:
    high = (f"{HIGH}.dense", f"{HIGH}.sketch", f"{HIGH}.axes")
    return (*high, f"{LOW}.bags", f"{LOW}.postings")
