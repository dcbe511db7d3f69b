"""Golden queries: their file, recall and overlap worked by hand, and a real index that is asked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.gate import image_ids
from lamella.pipeline.jobs.golden import (
    GoldenQuery,
    Side,
    open_side,
    overlap_of,
    read_golden,
    recall_of,
)
from lamella.pipeline.store.local import LocalStore
from tests.conftest import Indexed
from tests.tiny import ids_by_name


def side(rankings: dict[int, list[int]], ids: Sequence[int], **named: int) -> Side:
    """Return a snapshot that answers so; each ranking is whole."""

    def ask(asked: Sequence[int], depth: int) -> Int64s:
        rows = [(rankings[each] + [-1] * depth)[:depth] for each in asked]
        return np.array(rows, np.int64).reshape(len(asked), depth)

    return Side(np.array(sorted(ids), np.int64), named, ask)


def test_a_line_is_a_query_and_the_names_it_must_find(tmp_path: Path) -> None:
    path = tmp_path / "golden.tsv"
    path.write_text("a b.jpg\tc.jpg\td.jpg\tc.jpg\ta b.jpg\r\n\n é.jpg \n", encoding="utf-8")
    golden = read_golden(str(path))
    assert golden.queries == (GoldenQuery("a b.jpg", ("c.jpg", "d.jpg")), GoldenQuery("é.jpg"))
    assert golden.names() == {"a b.jpg", "c.jpg", "d.jpg", "é.jpg"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n \n", r"names no golden query \(gate.golden\)"),
        (b"a\nb\na\tc\n", "line 3 of the golden queries .* names a again: each line has the name"),
        (b"\tc\n", "line 1 of .* begins with a tab"),
        (b"\xff\n", "are not UTF-8"),
    ],
)
def test_a_file_that_says_nothing_clear_is_refused(
    tmp_path: Path, text: bytes, message: str
) -> None:
    path = tmp_path / "golden.tsv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_golden(str(path))
    with pytest.raises(InputError, match=r"cannot be read: No such file"):
        read_golden(str(tmp_path / "absent"))


def test_recall_is_the_mean_share_of_expected_names() -> None:
    # Of query 0 the first two others are 3 and 1: one of its two names (b). Of query 2 both are 4
    # and 5, and more than two cannot be found: min(2, 3) = 2 of them are d and e.
    asked = side({0: [0, 3, 1, 2], 2: [4, 2, 5, 0]}, range(6), a=0, b=1, c=2, d=4, e=5)
    queries = [
        GoldenQuery("a", ("b", "gone")),
        GoldenQuery("c", ("d", "e", "a")),
        GoldenQuery("b"),
        GoldenQuery("gone", ("a",)),
    ]
    assert recall_of(asked, queries, 2) == (1 / 2 + 2 / 2) / 2
    assert recall_of(asked, queries[2:], 2) is None


def test_overlap_is_over_pictures_that_both_have() -> None:
    # Pictures 7 and 8 are new and stand before the others; among 0 to 4 the first two of query 0
    # are 1 and 2, then 1 and 3: one of two. Query 9 is not in both.
    old = side({0: [0, 1, 2, 3, 4]}, range(5), a=0)
    new = side({0: [7, 0, 8, 1, 3, 2, 4], 9: [9]}, [*range(5), 7, 8, 9], a=0, b=9)
    assert overlap_of(old, new, ["a", "b", "gone"], 2) == 1 / 2
    assert overlap_of(old, old, ["a"], 2) == 1.0
    # Fewer than k are in both: all of them are the first k of either.
    assert overlap_of(old, new, ["a"], 10) == 1.0
    assert overlap_of(old, new, ["b"], 2) is None
    # A picture of the same name and of other bytes has another id, so it is no such query.
    assert overlap_of(old, side({6: [6]}, [6, 1], a=6), ["a"], 2) is None


def test_a_real_index_is_asked_by_its_own_pictures(indexed: Indexed) -> None:
    store, snapshot = LocalStore(indexed.store), indexed.snapshot
    ids = image_ids(store, snapshot)
    named = ids_by_name(indexed.store, snapshot)
    assert ids.tolist() == sorted(named.values())
    names = list(named)
    (first, one), (_, other) = list(named.items())[5:7]
    opened = open_side(store, snapshot, ids, {first, "absent"})
    assert opened.named == {first: one}
    answers = opened.ask([one, other], 60)
    assert answers.shape == (2, 60)
    assert answers[:, 0].tolist() == [one, other]
    assert sorted(answers[0].tolist()) == [-1] * 12 + sorted(named.values())
    # Four views of one object: each finds the other three.
    opened = open_side(store, snapshot, ids, set(names))
    views = [GoldenQuery(names[0], tuple(names[1:4]))]
    assert recall_of(opened, views, 48) == 1.0
    assert overlap_of(opened, opened, names, 5) == 1.0
