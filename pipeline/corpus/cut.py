"""Cut a corpus into shards, and shards into segments, by what stands in them.

Where a shard ends depends on the names around it alone. So a picture that comes or goes changes one
shard, wherever it stands, and a corpus that has grown is cut like one that is indexed anew. Cuts at
every n-th picture would move all later ones. (This is content-defined chunking, as in LBFS:
Muthitacharoen, Chen, Mazieres 2001.)
"""

import bisect
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from lamella.pipeline.corpus.listing import Entry
from lamella.schemas.corpus import ShardRef

T = TypeVar("T")

LEAST, MOST = 4, 4
"""A run ends early only from a quarter of the wanted size on, and at four times in any case."""


def mark_of(entry: Entry) -> int:
    """Return the number of an entry, 63 bits made from its container and its name."""
    named = f"{entry.container}\0{entry.name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest()) >> 1


def cut_shards(entries: Iterable[Entry], shard_images: int) -> Iterator[tuple[Entry, ...]]:
    """Yield the shards of a corpus, entries in their order; on average they have a little more
    than `shard_images`.
    """
    return _cut(entries, shard_images, lambda entry: 1, lambda e: mark_of(e) % shard_images == 0)


def cut_segments(
    shards: Sequence[ShardRef], shard_images: int, segment_images: int
) -> Iterator[tuple[ShardRef, ...]]:
    """Yield the segments of a corpus: the shards of each, those without pictures left out."""
    every = shard_images * max(1, segment_images // shard_images)
    some = [shard for shard in shards if shard.images]
    return _cut(some, segment_images, lambda s: s.images, lambda s: s.mark % every == 0)


def runs(count: float, size: int) -> int:
    """Return about how many runs of a wanted size there will be of a number of things.

    A run ends at a quarter of the size at the earliest, and then after as many as the size on
    average.
    """
    return max(1, round(count / ((1 + 1 / LEAST) * size)))


def _cut(
    things: Iterable[T], size: int, weight: Callable[[T], int], ends: Callable[[T], bool]
) -> Iterator[tuple[T, ...]]:
    run: list[T] = []
    held = 0
    for thing in things:
        run.append(thing)
        held += weight(thing)
        if held >= MOST * size or (held * LEAST >= size and ends(thing)):
            yield tuple(run)
            run, held = [], 0
    if run:
        yield tuple(run)


class Nearby:
    """Finds the earlier shards that stand where a new one stands, in the order of a listing."""

    def __init__(self, shards: Sequence[ShardRef]) -> None:
        self._shards = shards
        self._firsts = [shard.first.encode() for shard in shards]
        self._lasts = [shard.last.encode() for shard in shards]

    def of(self, first: str, last: str) -> Sequence[ShardRef]:
        """Return the shards with an entry from `first` to `last`, as `Entry.place` gives them."""
        start = bisect.bisect_left(self._lasts, first.encode())
        return self._shards[start : bisect.bisect_right(self._firsts, last.encode())]
