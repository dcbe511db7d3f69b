"""The door to a promotion: gate, order and hold, in one process and with another writer."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, NotPromoted
from lamella.pipeline.index import promotions
from lamella.pipeline.index.promotions import (
    current_promotion,
    current_snapshot,
    latest_number,
    promote,
    promote_after,
    read_snapshot,
    release,
)
from lamella.pipeline.jobs import gate
from lamella.pipeline.jobs.gate import Gate, judgements
from lamella.pipeline.jobs.promoting import publish_and_promote
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.records import read_record
from lamella.pipeline.upkeep.rebuild import rebuild_promotion
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot, Promotion
from tests.end_to_end.commands import Stores

EARLY, LATE = "2126-11-29T02:00:00+00:00", "2126-11-30T02:00:00+00:00"
"""Both later than the snapshot that the stores have was listed."""


@pytest.fixture
def store(stores: Stores, tmp_path: Path) -> LocalStore:
    """A store of one snapshot that has the files of another one too."""
    place = Path(shutil.copytree(stores.two, tmp_path / "store"))
    for path in ("snapshots/000002.json", "promotions/000002.json", "gates"):
        shutil.rmtree(place / path) if (place / path).is_dir() else (place / path).unlink()
    return LocalStore(place)


@pytest.fixture
def draft(stores: Stores) -> IndexSnapshot:
    return read_snapshot(LocalStore(stores.two), 2).model_copy(update={"number": 1})


@pytest.fixture
def halved() -> Iterator[None]:
    """Let every snapshot but the first have lost five of its ten pictures."""

    def ids(store: LocalStore, snapshot: IndexSnapshot) -> Any:
        return np.arange(10 if snapshot.number == 1 else 5)

    with mock.patch.object(gate, "image_ids", ids):
        yield


def third(draft: IndexSnapshot) -> IndexSnapshot:
    """Return a draft of the same files that is yet another snapshot."""
    value = draft.model_dump() | {"weighting": "tf", "root_digest": ""}
    return IndexSnapshot.model_validate(value)


def listed(draft: IndexSnapshot, time: str) -> IndexSnapshot:
    return draft.model_copy(update={"listed_at": time})


def promoted(store: LocalStore) -> list[int]:
    """Return the snapshots of all promotions, in order."""
    numbers = range(1, latest_number(store, tree.PROMOTION) + 1)
    paths = [tree.PROMOTION.at(number=number) for number in numbers]
    return [read_record(store, path, Promotion).snapshot for path in paths]


def refused(store: LocalStore, draft: IndexSnapshot, *expected: str) -> NotPromoted:
    """Return the error with which a draft is made and not promoted, in one line."""
    before = promoted(store)
    with pytest.raises(NotPromoted) as caught:
        publish_and_promote(store, draft, Gate())
    for text in expected:
        assert re.search(text, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "the same command with --force promotes it all the same" in str(caught.value)
    assert promoted(store) == before
    assert read_snapshot(store, caught.value.snapshot).root_digest == draft.root_digest
    return caught.value


def test_the_first_snapshot_has_no_gate(stores: Stores, tmp_path: Path) -> None:
    place = Path(shutil.copytree(stores.one, tmp_path / "store"))
    first = read_snapshot(LocalStore(place), 1)
    for path in place.glob("*/000001.json"):
        path.unlink()
    store = LocalStore(place)
    done = publish_and_promote(store, listed(first, EARLY), Gate())
    assert (done.snapshot.number, done.judgement) == (1, None)
    made = current_promotion(store)
    assert made is not None
    assert (made.reason, made.held, made.forced) == ("the first", False, False)
    assert made.listed_at == EARLY
    assert store.names("gates") == []


def test_a_snapshot_that_passes_is_promoted(store: LocalStore, draft: IndexSnapshot) -> None:
    done = publish_and_promote(store, listed(draft, LATE), Gate())
    assert done.judgement is not None
    assert done.judgement.passed
    made = current_promotion(store)
    assert made is not None
    assert (made.snapshot, made.reason, made.listed_at) == (2, "passed its gate", LATE)
    # What is current already stays so, and nothing is written.
    assert publish_and_promote(store, draft, Gate()) == done
    assert promoted(store) == [1, 2]


@pytest.mark.usefixtures("halved")
def test_a_failing_gate_leaves_the_promotions_as_they_were(
    store: LocalStore, draft: IndexSnapshot
) -> None:
    error = refused(
        store,
        draft,
        "^snapshot 2 is made and not promoted, snapshot 1 stays current: 5 of 10 pictures of",
        r"50\.0%, and at most 5\.0% may be \(gate.removed\)",
        f"look at it .* then `lamella snapshots {store.url} --promote 2`, or change the setting",
    )
    assert error.snapshot == 2
    assert not judgements(store)[2].passed
    # Given again, it is not promoted either, and nothing more is made.
    assert str(refused(store, draft)) == str(error)
    assert latest_number(store, tree.SNAPSHOT) == 2
    assert len(store.names("gates")) == 1
    # `verify` finds nothing damaged, and says why it waits.
    found = verify_store(store)
    assert found.damage == ()
    assert any("never promoted (its gate failed: removed): give" in it for it in found.unfinished)
    # A person may promote it after a look.
    assert promote(store, 2).held is False
    assert promoted(store) == [1, 2]


@pytest.mark.usefixtures("halved")
def test_force_promotes_and_says_so(store: LocalStore, draft: IndexSnapshot) -> None:
    refused(store, draft)
    assert publish_and_promote(store, draft, Gate(), force=True).snapshot.number == 2
    made = current_promotion(store)
    assert made is not None
    assert (made.snapshot, made.forced) == (2, True)
    assert made.reason.startswith("forced: 5 of 10 pictures of snapshot 1 are gone")


def test_force_that_was_not_needed_is_not_recorded(store: LocalStore, draft: IndexSnapshot) -> None:
    publish_and_promote(store, draft, Gate(), force=True)
    made = current_promotion(store)
    assert made is not None
    assert not made.forced


def test_an_older_listing_replaces_no_newer_one(store: LocalStore, draft: IndexSnapshot) -> None:
    publish_and_promote(store, listed(draft, LATE), Gate())
    refused(
        store,
        listed(third(draft), EARLY),
        f"its source was listed at {re.escape(EARLY)}, that of the current one at "
        f"{re.escape(LATE)}, and an older listing replaces no newer one: index the source",
    )
    # The same contents listed later are as good as any others, though their snapshot is old.
    done = publish_and_promote(store, listed(third(draft), "2126-11-30T03:00:00+01:00"), Gate())
    assert done.snapshot.listed_at == EARLY
    made = current_promotion(store)
    assert made is not None
    assert made.listed_at == "2126-11-30T03:00:00+01:00"
    # A listing of an unknown time is judged by its gate alone, and force goes before order.
    assert publish_and_promote(store, listed(draft, ""), Gate()).snapshot.number == 2
    publish_and_promote(store, listed(third(draft), LATE), Gate())
    publish_and_promote(store, listed(draft, EARLY), Gate(), force=True)
    assert promoted(store) == [1, 2, 3, 2, 3, 2]


def test_a_rollback_holds_until_it_is_released(store: LocalStore, draft: IndexSnapshot) -> None:
    publish_and_promote(store, draft, Gate())
    back = promote(store, 1)
    assert (back.held, back.reason) == (True, "rolled back from snapshot 2")
    refused(
        store,
        third(draft),
        f"promotion 3 holds snapshot 1 since {re.escape(back.promoted_at)} .rolled back from sn",
        "though snapshot 3 passed its gate: end the hold with `lamella snapshots .* --release`",
    )
    assert judgements(store)[3].passed
    # The snapshot that is held may be made again, and stays held.
    first = read_snapshot(store, 1)
    assert publish_and_promote(store, first, Gate()).snapshot == first
    # Another step on the way back holds too; a hold ends with the newest, or by release.
    assert promote(store, 2).held
    assert promote(store, 1).held
    ended = release(store)
    assert (ended.snapshot, ended.held) == (1, False)
    assert ended.reason == "released the hold of promotion 5"
    assert publish_and_promote(store, third(draft), Gate()).snapshot.number == 3
    promote(store, 1)
    assert not promote(store, 3).held
    with pytest.raises(InputError, match=r"promotion 9 of snapshot 3 is no hold\): there is"):
        release(store)


def test_a_retry_does_not_end_a_hold(store: LocalStore, draft: IndexSnapshot) -> None:
    second = publish_and_promote(store, draft, Gate()).snapshot
    first = promote(store, 1)
    with pytest.raises(NotPromoted, match=f"promotion {first.number} holds snapshot 1"):
        publish_and_promote(store, third(draft), Gate(shares=False), instead_of=second)
    # One that changed nothing does nothing.
    assert publish_and_promote(store, draft, Gate(), instead_of=second).snapshot == second
    assert promoted(store) == [1, 2, 1]


def test_nothing_is_released_where_nothing_is_held(tmp_path: Path, store: LocalStore) -> None:
    with pytest.raises(InputError, match=r"holds no snapshot back \(there is no promotion yet"):
        release(LocalStore(tmp_path))
    with pytest.raises(InputError, match="promotion 1 of snapshot 1 is no hold"):
        release(store)


def overtaken(store: LocalStore, by: Any) -> Any:
    """Let another writer promote just before this one's first promotion."""
    left = [by]

    def late(*arguments: Any, **settings: Any) -> Promotion | None:
        if left:
            left.pop()()
        return promote_after(*arguments, **settings)

    return mock.patch("lamella.pipeline.jobs.promoting.promote_after", late)


def test_who_loses_the_race_decides_again(store: LocalStore, draft: IndexSnapshot) -> None:
    publish_and_promote(store, listed(draft, EARLY), Gate())
    newest = third(draft)

    def rollback() -> None:
        promote(store, 1)

    with overtaken(store, rollback), pytest.raises(NotPromoted, match="promotion 3 holds"):
        publish_and_promote(store, listed(newest, EARLY), Gate())
    assert promoted(store) == [1, 2, 1]
    release(store)

    def newer() -> None:
        publish_and_promote(store, listed(draft, LATE), Gate())

    with overtaken(store, newer), pytest.raises(NotPromoted, match="older listing replaces"):
        publish_and_promote(store, listed(newest, EARLY), Gate())
    assert promoted(store) == [1, 2, 1, 1, 2]

    def same() -> None:
        publish_and_promote(store, listed(newest, LATE), Gate())

    with overtaken(store, same):
        assert publish_and_promote(store, listed(newest, LATE), Gate()).snapshot.number == 3
    assert promoted(store) == [1, 2, 1, 1, 2, 3]


def test_the_gate_judges_against_what_is_current_at_the_end(
    store: LocalStore, draft: IndexSnapshot
) -> None:
    with overtaken(store, lambda: publish_and_promote(store, draft, Gate())):
        done = publish_and_promote(store, third(draft), Gate())
    assert done.judgement is not None
    assert (done.snapshot.number, done.judgement.against) == (2, 3)
    assert promoted(store) == [1, 3, 2]


def test_promotions_by_hand_are_numbered_without_gaps(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = promotions.promote_after
    left = [1, 2]

    def late(*arguments: Any, **settings: Any) -> Promotion | None:
        if left:
            left.pop()
            real(*arguments, **settings)
        return real(*arguments, **settings)

    monkeypatch.setattr(promotions, "promote_after", late)
    assert promote(store, 1).number == 4
    assert promoted(store) == [1, 1, 1, 1]


@pytest.mark.usefixtures("halved")
def test_a_lost_promotion_is_not_rebuilt_for_what_failed_its_gate(
    store: LocalStore, draft: IndexSnapshot
) -> None:
    refused(store, draft)
    note = rebuild_promotion(store, tree.PROMOTION.at(number=1))
    assert "names snapshot 1, the newest whose gate did not fail" in note
    current = current_snapshot(store)
    assert current is not None
    assert current.number == 1
