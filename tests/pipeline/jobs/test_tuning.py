"""Reaches are measured once a draft; a query says what it asks of them, and what was found."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from lamella.cluster.commands.show_query import show_account
from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.index.publish import read_frequencies
from lamella.pipeline.jobs.query_run import Answered, Place
from lamella.pipeline.jobs.querying import query_images
from lamella.pipeline.jobs.question import Question
from lamella.pipeline.jobs.tuning import note_on, tuned
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.propose import Proposing
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.record_rules import tuning_path
from lamella.schemas.job import SearchSettings
from lamella.schemas.query import Weighting
from lamella.schemas.snapshot import IndexSnapshot, Proposers
from tests.builders import copied
from tests.conftest import Indexed
from tests.pipeline.search.fast_servers import exact_proposers, known, reach


@contextmanager
def opened(store: Store, draft: IndexSnapshot, weighting: Weighting) -> Iterator[Coordinator]:
    """Open a snapshot as if its segments had proposers, which look at everything."""
    searcher = SegmentSearcher(store.url, draft, None, weighting)
    files = draft.document_frequencies.items()
    searcher.__dict__["_proposing"] = (
        [
            Proposing.of(segment, number, exact_proposers(segment))
            for number, segment in enumerate(searcher.segments)
        ],
        {name: read_frequencies(store, file) for name, file in files},
    )
    yield Coordinator(LocalServers(searcher), draft.indexed, draft.proposers)


def drafted(snapshot: IndexSnapshot, proposers: Proposers | None) -> IndexSnapshot:
    fields = {name: getattr(snapshot, name) for name in IndexSnapshot.model_fields}
    return IndexSnapshot(**fields | {"proposers": proposers, "root_digest": ""})


@pytest.fixture
def store(indexed: Indexed, tmp_path: Path) -> LocalStore:
    folders = ("segments", "totals", "looks", "activations", "bags", "corpora")
    there = [each for each in folders if (indexed.store / each).exists()]
    return LocalStore(copied(indexed.store, tmp_path / "store", *there))


def test_a_draft_is_measured_once_and_the_record_is_found_again(
    indexed: Indexed, store: LocalStore
) -> None:
    draft = drafted(indexed.snapshot, known())
    told: list[Progress] = []
    first = tuned(store, draft, 5, opened, told.append)
    assert first.proposers is not None
    assert first.proposers.k == 5
    assert first.proposers.queries == indexed.snapshot.indexed
    assert first.proposers.reaches[-1].recall >= 0.99
    asked = [each for each in told if each.stage == "answer sample"]
    tried = [each for each in told if each.stage == "tune"]
    assert told == asked + tried
    for some in (asked, tried):
        assert [each.done for each in some] == sorted(each.done for each in some)
        assert all(each.done < each.total for each in some[:-1])
        assert some[-1].done == some[-1].total > 1
    assert asked[-1].total == indexed.snapshot.indexed
    assert first.root_digest not in (draft.root_digest, indexed.snapshot.root_digest)
    path = tuning_path(draft.root_digest, 5)
    assert tree.kind_of(path) == "record"

    def refusing(*_: object) -> None:
        raise AssertionError("it was measured twice")

    told.clear()
    assert tuned(store, draft, 5, refusing, told.append) == first  # type: ignore[arg-type]
    assert told == []
    other = tuned(store, draft, 6, opened)
    assert other.root_digest != first.root_digest


def test_a_draft_without_proposers_stays_as_it_is(indexed: Indexed, store: LocalStore) -> None:
    assert tuned(store, indexed.snapshot, 5, opened) is indexed.snapshot
    assert note_on(indexed.snapshot) is None


def test_a_default_that_is_out_of_reach_is_noted(indexed: Indexed) -> None:
    assert note_on(drafted(indexed.snapshot, known(reach(recall=0.95)))) is None
    note = note_on(drafted(indexed.snapshot, known(reach(recall=0.93))))
    assert note is not None
    assert "find 0.93 of exact answers at most" in note


def question(snapshot: IndexSnapshot, **search: object) -> Question:
    settings = SearchSettings.model_validate({"k": 5, "mode": "candidates"} | search)
    return Question(snapshot.fusion, snapshot.weighting, settings)


def test_what_cannot_be_asked_is_said(indexed: Indexed) -> None:
    plain = indexed.snapshot
    made = drafted(plain, known(reach(2, recall=0.8), reach(5, recall=0.96)))
    assert question(plain).target(plain) is None
    assert question(made, mode="exact").target(made) is None
    found = question(made).target(made)
    assert found is not None
    assert (found[0], found[1].cells) == (0.95, 5)
    found = question(made, recall=0.7).target(made)
    assert found is not None
    assert (found[0], found[1].cells) == (0.7, 2)
    with pytest.raises(InputError, match=r"mode is exact: leave it out"):
        question(made, mode="exact", recall=0.9).target(made)
    with pytest.raises(InputError, match=r'no proposers: index again with index.proposer = "ivf"'):
        question(plain, recall=0.9).target(plain)
    with pytest.raises(InputError, match=r"is 0.97, and the farthest reach .* found 0.96"):
        question(made, recall=0.97).target(made)


def asked(store: LocalStore, made: IndexSnapshot, into: str, **search: object) -> Answered:
    place = Place(store, made, SerialRunner(), 1)
    with opened(store, made, made.weighting) as coordinator:
        ids = coordinator.image_ids()[:20].tolist()
        return query_images(place, coordinator, ids, question(made, **search), into=into)


def said(answered: Answered) -> str:
    text = io.StringIO()
    show_account(Console(file=text, width=300), answered)
    return text.getvalue()


def test_a_run_says_what_was_asked_of_proposers_and_where_less_was_found(
    indexed: Indexed, store: LocalStore
) -> None:
    near, far = reach(1, 5, 0, recall=0.6), reach(3, 40, recall=0.96)
    made = drafted(indexed.snapshot, known(near, far))
    run = asked(store, made, "far").run
    assert (run.target, run.reach, run.certified) == (0.95, far, 0)
    assert run.recall == 1.0
    assert "target 0.95; reach 3, 40 pictures a layer" in said(asked(store, made, "far"))
    low = asked(store, made, "near", recall=0.6)
    assert low.run.reach == near
    assert low.run.recall is not None
    claimed = low.run.model_copy(update={"target": 0.999999, "audit_found": 1})
    text = said(Answered(claimed, 1, 1.0, store, images=low.images))
    assert "below the target 0.999999;" in text
    with pytest.raises(IncompatibleInputs, match=r"recall was 0.6, is 0.5"):
        asked(store, made, "near", recall=0.5)
    plain = asked(store, indexed.snapshot, "plain")
    assert (plain.run.target, plain.run.reach) == (None, None)
    assert "target" not in plain.run.to_json().decode()
