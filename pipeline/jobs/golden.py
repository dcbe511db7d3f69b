"""Golden queries: indexed pictures that a person chose, and what two snapshots answer to them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.protocol import Store
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import IndexSnapshot

ASKED_AT_ONCE = 64


@dataclass(frozen=True)
class GoldenQuery:
    """The name of an indexed picture, and the names of pictures that its answer is to have."""

    name: str
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Golden:
    """The golden queries of a file, and its SHA-256."""

    path: str
    sha256: str
    queries: tuple[GoldenQuery, ...]

    def names(self) -> set[str]:
        """Return every name in the file."""
        return {name for each in self.queries for name in (each.name, *each.expected)}


def read_golden(path: str) -> Golden:
    """Read a file of golden queries: on each line a query's name, then names it must find.

    Names are separated by tabs; a query without expected names is only compared between snapshots.

    Raises:
        InputError: the file cannot be read, names no query, or names one twice.
    """
    try:
        data = Path(path).expanduser().read_bytes()
        text = data.decode()
    except OSError as error:
        raise InputError(
            f"the golden queries {path} cannot be read: {error.strerror} (gate.golden)"
        ) from error
    except ValueError:
        raise InputError(f"the golden queries {path} are not UTF-8 (gate.golden)") from None
    found: dict[str, GoldenQuery] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, *expected = (part.strip() for part in line.split("\t"))
        if not name and not any(expected):
            continue
        if not name or name in found:
            what = f"names {one_line(name, 80)} again" if name else "begins with a tab"
            raise InputError(
                f"line {number} of the golden queries {path} {what}: each line has the name of "
                "one query, then tabs and the names that it must find"
            )
        others = tuple(each for each in dict.fromkeys(expected) if each and each != name)
        found[name] = GoldenQuery(name, others)
    if not found:
        raise InputError(f"{path} names no golden query (gate.golden): write one on each line")
    return Golden(str(path), hashlib.sha256(data).hexdigest(), tuple(found.values()))


Ask = Callable[[Sequence[int], int], Int64s]
"""Returns the best images of indexed ones: (Q,) ids and a depth to (Q, depth) ids, -1 for none."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of two snapshots that are compared.

    Attributes:
        ids: of its indexed pictures, (n,) rising.
        named: the ids of the golden names that are indexed.
        ask: answers its indexed pictures.
    """

    ids: Int64s
    named: Mapping[str, int]
    ask: Ask


def open_side(store: Store, snapshot: IndexSnapshot, ids: Int64s, names: set[str]) -> Side:
    """Open a snapshot in this process, to be asked by its own pictures, with its own fusion.

    Args:
        ids: of its indexed pictures, (n,) rising.
        names: of the pictures that are looked up.

    Raises:
        StoreError: a file of it is damaged or gone.
    """
    coordinator = Coordinator(
        LocalServers(SegmentSearcher(store.url, snapshot)), images=snapshot.indexed
    )
    found = ImageTable(store, snapshot).ids_of(names)
    known = np.array(sorted(found.values()), np.int64)
    indexed = set(known[np.isin(known, ids)].tolist())
    return Side(
        ids,
        {name: image_id for name, image_id in found.items() if image_id in indexed},
        _asked(coordinator, snapshot.fusion),
    )


def _asked(coordinator: Coordinator, fusion: FusionSpec) -> Ask:
    layers = [entry.layer for entry in fusion.layers]

    def ask(image_ids: Sequence[int], depth: int) -> Int64s:
        parts = [np.empty((0, depth), np.int64)]
        for start in range(0, len(image_ids), ASKED_AT_ONCE):
            queries = coordinator.features(image_ids[start : start + ASKED_AT_ONCE], layers)
            answer = coordinator.answer(queries, fusion, depth).image_ids
            short = ((0, 0), (0, depth - answer.shape[1]))
            parts.append(np.pad(answer, short, constant_values=-1))
        return np.concatenate(parts)

    return ask


def recall_of(side: Side, queries: Sequence[GoldenQuery], k: int) -> float | None:
    """Return the mean share of the expected names among the first k; None where none are expected.

    The query itself is passed over. A name that is not indexed counts as not found. Of more than k
    expected names k are enough.
    """
    asked = [each for each in queries if each.expected and each.name in side.named]
    if not asked:
        return None
    ids = [side.named[each.name] for each in asked]
    shares = []
    for each, own, row in zip(asked, ids, side.ask(ids, k + 1), strict=True):
        first = set(row[row != own][:k].tolist())
        found = sum(side.named.get(name, -1) in first - {-1} for name in each.expected)
        shares.append(min(found, k) / min(k, len(each.expected)))
    return float(np.mean(shares))


def overlap_of(old: Side, new: Side, names: Sequence[str], k: int) -> float | None:
    """Return the mean share of the first k that two snapshots have in common.

    Only queries and answers that are in both count; None where there are none.
    """
    common = np.intersect1d(old.ids, new.ids, assume_unique=True)
    most = min(k, len(common) - 1)
    in_both = set(common.tolist())
    asked = [new.named[name] for name in names if name in new.named]
    ids = [image_id for image_id in asked if image_id in in_both]
    if not ids or most < 1:
        return None
    firsts = [_first_common(side, ids, common, most) for side in (old, new)]
    shares = [len(one & other) / most for one, other in zip(*firsts, strict=True)]
    return float(np.mean(shares))


def _first_common(side: Side, ids: Sequence[int], common: Int64s, most: int) -> list[set[int]]:
    """Return of each query the best `most` among the common pictures, without itself.

    Pictures that only this side has push others down, so it asks deeper until there are enough.
    """
    depth = most + 1
    while True:
        depth = min(depth, len(side.ids))
        answers = side.ask(ids, depth)
        kept = [
            row[(row != own) & np.isin(row, common)][:most]
            for own, row in zip(ids, answers, strict=True)
        ]
        if depth == len(side.ids) or all(len(row) == most for row in kept):
            return [set(row.tolist()) for row in kept]
        depth *= 2
