"""Near-duplicates of a snapshot: pairs, their groups, and the files that these are copied to."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.export.groups import group_pairs
from lamella.pipeline.export.pairs import Pairs, find_pairs
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.ranking_copies import KINDS, check_kind, whole
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.rankings import QueryRun

GROUPS: Any = pa.schema(
    [
        pa.field("group", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("like", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("same_file", pa.bool_(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
    ]
)
"""One row a picture of a group. Groups count from 1, the largest first; in one the picture to keep
comes first. `like` is the kept picture that one is most like, by `score`; null of kept ones.
`same_file`: it has the bytes of that one, by SHA-256.
"""


@dataclass(frozen=True)
class Member:
    """A picture of a group; the fields are the columns of `GROUPS`."""

    image_id: int
    name: str
    width: int
    height: int
    size_bytes: int
    sha256: bytes
    like: "Member | None" = None
    score: float | None = None

    @property
    def keep(self) -> bool:
        """Whether it is the largest of its group, or makes no pair with one that is kept."""
        return self.like is None

    @property
    def same_file(self) -> bool:
        """Whether it has the bytes of the kept picture that it is like."""
        return self.like is not None and self.sha256 == self.like.sha256


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        pairs: in `pairs_schema` and a column `same_file`, the highest score first.
        groups: the largest first; in each the pictures to keep first.
        apart: how many pictures have the bytes of another one and make no pair with it: one in
            which a layer sees nothing, such as a blank page, scores less with itself too.
    """

    question: Question
    pairs: Any
    runs: tuple[QueryRun, ...]
    groups: tuple[tuple[Member, ...], ...] = field(repr=False)
    apart: int = 0

    @property
    def above(self) -> float:
        """The least score of a pair."""
        return self.question.search.above or 0.0

    @property
    def members(self) -> Iterator[Member]:
        """All pictures of all groups."""
        return (member for group in self.groups for member in group)

    @property
    def spare(self) -> list[Member]:
        """The pictures that are not kept."""
        return [member for member in self.members if not member.keep]

    @property
    def same_files(self) -> int:
        """How many pictures have the bytes of another one of their group."""
        seen = Counter((n, each.sha256) for n, group in enumerate(self.groups) for each in group)
        return sum(count - 1 for count in seen.values())

    def counts(self) -> dict[str, Any]:
        """Return the figures of what was found, for scripts."""
        return {
            "root_digest": self.runs[0].snapshot,
            "above": self.above,
            "images": self.runs[0].images,
            "pairs": self.pairs.num_rows,
            "groups": len(self.groups),
            "in_groups": sum(map(len, self.groups)),
            "spare": len(self.spare),
            "spare_bytes": sum(member.size_bytes for member in self.spare),
            "same_files": self.same_files,
            "same_files_apart": self.apart,
            "runs": [run.run for run in self.runs],
        }


def find_duplicates(
    place: Place, coordinator: Coordinator, question: Question, into: str | None = None
) -> Duplicates:
    """Return all pairs that score at least `question.search.above`, and their groups.

    Raises:
        InputError, IncompatibleInputs: as `find_pairs`.
    """
    pairs = find_pairs(place, coordinator, question, into)
    first, second = (pairs.table.column(name).to_numpy() for name in ("image_id", "other_id"))
    ids = np.unique(np.concatenate([first, second]))
    images = ImageTable(place.store, place.snapshot)
    rows = {row["image_id"]: row for row in images.rows_in_order(ids.tolist())}
    pictures = [_member(rows[image_id]) for image_id in ids.tolist()]
    ends = np.searchsorted(ids, first), np.searchsorted(ids, second)
    groups = _groups(pictures, *ends, pairs)
    digests = np.array([each.sha256.hex().encode() for each in pictures], "S64")
    same = digests[ends[0]] == digests[ends[1]]
    table = pairs.table.append_column(
        pa.field("same_file", pa.bool_(), nullable=False), pa.array(same)
    )
    every = images.image_ids()
    paired = {*first[same].tolist(), *second[same].tolist()}
    apart = _apart(every.tolist(), images.digests_of(every), paired)
    return Duplicates(question, table, pairs.runs, groups, apart)


def _apart(ids: Sequence[int], digests: Sequence[bytes], paired: Set[int]) -> int:
    """Return how many images have the digest of another one, and no pair with one of it."""
    counts = Counter(digests)
    return sum(counts[d] > 1 and each not in paired for each, d in zip(ids, digests, strict=True))


def _member(row: dict[str, Any]) -> Member:
    facts = ("image_id", "name", "width", "height", "size_bytes", "sha256")
    return Member(**{name: row[name] for name in facts})


def _groups(
    pictures: Sequence[Member], first: Int64s, second: Int64s, pairs: Pairs
) -> tuple[tuple[Member, ...], ...]:
    pixels = np.array([each.width * each.height for each in pictures], np.int64)
    scores = pairs.table.column("score").to_numpy()
    found = group_pairs(first, second, scores, pixels)
    groups: list[list[Member]] = [[] for _ in range(int(found.group.max(initial=-1)) + 1)]
    for place in found.order.tolist():
        member, like = pictures[place], int(found.like[place])
        if like >= 0:
            score = float(found.score[place])
            member = Member(**(vars(member) | {"like": pictures[like], "score": score}))
        groups[found.group[place]].append(member)
    # The kept ones first; those of one kind stay in their order.
    return tuple(tuple(sorted(group, key=lambda member: not member.keep)) for group in groups)


def write_pairs(found: Duplicates, path: Path) -> None:
    """Write the pairs to a file: .parquet, .csv or .json, as its name says.

    Raises:
        InputError: the name says no kind.
        OSError: it cannot be written.
    """
    check_kind(path)
    kind = KINDS[path.suffix.lower()]
    with whole(path) as part:
        if kind == "parquet":
            write_parquet(found.pairs, part)
        elif kind == "csv":
            pa_csv.write_csv(found.pairs, part)
        else:
            part.write_text(json.dumps({"pairs": pairs_json(found)}) + "\n", encoding="utf-8")


def pairs_json(found: Duplicates) -> list[dict[str, Any]]:
    """Return the pairs for JSON; ids are text, for they have more digits than a float."""
    ids = ("image_id", "other_id")
    return [row | {name: str(row[name]) for name in ids} for row in found.pairs.to_pylist()]


def write_groups(found: Duplicates, path: Path) -> None:
    """Write a row for each picture of each group, in `GROUPS`, as CSV.

    Raises:
        OSError: it cannot be written.
    """
    table = pa.Table.from_pylist(group_rows(found), GROUPS)
    with whole(path) as part:
        pa_csv.write_csv(table, part)


def group_rows(found: Duplicates) -> list[dict[str, Any]]:
    """Return a row for each picture of each group, by the columns of `GROUPS`."""
    return [
        {
            "group": number,
            "name": member.name,
            "image_id": member.image_id,
            "keep": member.keep,
            "like": None if member.like is None else member.like.name,
            "score": member.score,
            "same_file": member.same_file,
            "width": member.width,
            "height": member.height,
            "size_bytes": member.size_bytes,
        }
        for number, group in enumerate(found.groups, start=1)
        for member in group
    ]
