"""Each rule of the gate, with both values in its words; and the judgement that is kept."""

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from pydantic import ValidationError

from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.index.words_fit import WordsFit, shards_fits
from lamella.pipeline.jobs import gate
from lamella.pipeline.jobs.gate import (
    Gate,
    drift_rule,
    golden_rules,
    judge,
    judgements,
    open_gate,
    refused_rule,
    share_rules,
)
from lamella.pipeline.jobs.golden import Golden, GoldenQuery
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.record_rules import judgement_path
from lamella.pipeline.store.records import read_record
from lamella.schemas.gate import GateSettings, Judgement, RuleResult
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import reseal
from tests.conftest import Indexed
from tests.end_to_end.commands import Stores
from tests.pipeline.jobs.test_golden import side

DEFAULTS = GateSettings()


def pair(indexed: Indexed, **changes: Any) -> tuple[IndexSnapshot, IndexSnapshot]:
    """Return a new snapshot with these fields, and the current one before it."""
    new = indexed.snapshot.model_copy(update={"number": 2} | changes)
    return new, indexed.snapshot


def told(rule: RuleResult) -> tuple[str, str]:
    return rule.rule, rule.state


def shares(indexed: Indexed, new: range, old: range, **settings: Any) -> list[RuleResult]:
    ids = (np.array(new, np.int64), np.array(old, np.int64))
    return share_rules(GateSettings(**settings), *pair(indexed), *ids)


def test_too_many_pictures_that_are_gone_fail(indexed: Indexed) -> None:
    removed, added = shares(indexed, range(94, 100), range(100))
    assert (told(removed), told(added)) == (("removed", "failed"), ("added", "passed"))
    assert (removed.value, removed.limit) == (0.94, 0.05)
    assert removed.text == (
        "94 of 100 pictures of snapshot 1 are gone or changed, 94.0%, and at most 5.0% may be "
        "(gate.removed)"
    )
    assert shares(indexed, range(5, 100), range(100))[0].state == "passed"
    assert shares(indexed, range(6, 100), range(100))[0].state == "failed"
    assert shares(indexed, range(6, 100), range(100), removed=0.06)[0].state == "passed"


def test_too_many_new_pictures_fail(indexed: Indexed) -> None:
    removed, added = shares(indexed, range(151), range(100))
    assert (told(removed), told(added)) == (("removed", "passed"), ("added", "failed"))
    assert added.text == (
        "51 pictures are new beside 100 of snapshot 1, 51.0%, and at most 50.0% may be (gate.added)"
    )
    assert shares(indexed, range(150), range(100))[1].state == "passed"
    assert shares(indexed, range(300), range(100), added=2)[1].state == "passed"


def test_a_few_pictures_fail_no_gate(indexed: Indexed) -> None:
    assert [rule.state for rule in shares(indexed, range(3, 7), range(4))] == ["passed", "passed"]
    assert [rule.state for rule in shares(indexed, range(4, 8), range(4))] == ["failed", "failed"]


def test_versions_of_no_one_corpus_are_not_compared_by_shares(indexed: Indexed) -> None:
    new, current = pair(indexed, corpus="other")
    none, some = np.arange(10, 20), np.arange(19, 30)
    rules = share_rules(DEFAULTS, new, current, none, np.arange(10))
    assert [told(rule) for rule in rules] == [("removed", "not judged"), ("added", "not judged")]
    assert rules[0].text == (
        "snapshot 2 is of corpus other, snapshot 1 of pictures, and they have no picture in common"
    )
    # A mount that has another name every night is still judged: its pictures are known.
    assert share_rules(DEFAULTS, new, current, some, none)[0].state == "failed"
    assert share_rules(DEFAULTS, *pair(indexed), none, np.arange(10))[0].state == "failed"
    empty = share_rules(DEFAULTS, *pair(indexed), none, none[:0])
    assert {rule.state for rule in empty} == {"not judged"}


def test_more_refused_pictures_fail(indexed: Indexed) -> None:
    new, current = pair(indexed, images=200, refused=10)
    reasons = {"missing": 2, "truncated": 8}
    new = new.model_copy(update={"refused_by_reason": reasons})
    rule = refused_rule(DEFAULTS, new, current.model_copy(update={"images": 100, "refused": 1}))
    assert told(rule) == ("refused", "failed")
    assert rule.text == (
        "5.0% of the pictures are refused (8 truncated, 2 missing), 1.0% were in snapshot 1, and "
        "the share may rise by at most 2.0% (gate.refused)"
    )
    assert refused_rule(DEFAULTS, current, new).state == "passed"
    few = current.model_copy(update={"images": 10, "refused": 3})
    assert refused_rule(DEFAULTS, few, current).state == "passed"


def golden_told(indexed: Indexed, queries: list[GoldenQuery], **settings: Any) -> list[RuleResult]:
    new = side({0: [0, 2, 1, 3]}, range(4), a=0, b=1)
    old = side({0: [0, 1, 2, 3]}, range(4), a=0, b=1)
    golden = Golden("golden.tsv", "0" * 64, tuple(queries))
    given = GateSettings(k=1, **settings)
    return list(golden_rules(given, golden, indexed.snapshot, new, old, same_spec=True))


def test_golden_queries_must_find_what_they_did(indexed: Indexed) -> None:
    gone, recall, overlap = golden_told(indexed, [GoldenQuery("a", ("b",))])
    assert (gone.rule, gone.state) == ("golden", "passed")
    assert (told(recall), told(overlap)) == (("golden_recall", "failed"), ("overlap", "failed"))
    assert recall.text == (
        "golden queries find 0.0% of their expected names among the first 1, and at least 90.0% "
        "must be (gate.golden_recall)"
    )
    assert overlap.text == (
        "0.0% of the first 1 of golden queries are as before, and at least 50.0% must be "
        "(gate.overlap)"
    )
    lenient = golden_told(indexed, [GoldenQuery("a", ("b",))], golden_recall=0, overlap=0)
    assert {rule.state for rule in lenient} == {"passed"}


def test_a_golden_query_that_is_gone_fails(indexed: Indexed) -> None:
    queries = [GoldenQuery("x"), GoldenQuery("a"), GoldenQuery("y")]
    gone, recall, _ = golden_told(indexed, queries)
    assert told(gone) == ("golden", "failed")
    assert gone.text == (
        "golden query x and 1 more are not in snapshot 1, and all of golden.tsv must be "
        "(gate.golden): put the pictures back, or take the lines out"
    )
    assert told(recall) == ("golden_recall", "not judged")
    assert "query x is not in" in golden_told(indexed, queries[:2])[0].text


def test_another_network_may_answer_otherwise(indexed: Indexed) -> None:
    one = side({0: [0, 1]}, range(2), a=0)
    golden = Golden("golden.tsv", "0" * 64, (GoldenQuery("a"),))
    *_, overlap = golden_rules(DEFAULTS, golden, indexed.snapshot, one, one, same_spec=False)
    assert told(overlap) == ("overlap", "not judged")


def test_words_that_drift_fail() -> None:
    fits = [WordsFit("p10", 900, 0.3, 0.3), WordsFit("p15", 900, 0.8, 0.4)]
    rule = drift_rule(DEFAULTS, 50, [*fits, WordsFit("x", 9, 1.0, None)])
    assert told(rule) == ("drift", "failed")
    assert rule.text == (
        "the words of p15 have 2.00 times the error of their training on new pictures, and at most "
        "1.45 may be (gate.drift)"
    )
    assert drift_rule(DEFAULTS, 50, fits[:1]).state == "passed"
    assert drift_rule(DEFAULTS, 3, fits).text == "3 pictures are new"
    assert drift_rule(DEFAULTS, 50, []).text == "no error is on record"


def judged_two(stores: Stores, folder: Path) -> tuple[LocalStore, IndexSnapshot, IndexSnapshot]:
    store = LocalStore(shutil.copytree(stores.two, folder / "store"))
    return store, read_snapshot(store, 2), read_snapshot(store, 1)


def test_a_judgement_is_kept_under_what_was_judged(stores: Stores, tmp_path: Path) -> None:
    store, new, current = judged_two(stores, tmp_path)
    (path,) = (f"gates/{name}" for name in store.names("gates"))
    kept = store.read(path)
    made = read_record(store, path, Judgement)
    assert path == judgement_path(2, made.subject())
    assert (made.snapshot, made.against, made.passed) == (2, 1, True)
    assert [told(rule) for rule in made.rules] == [
        *(("removed", "passed"), ("added", "passed")),
        *(("refused", "passed"), ("drift", "not judged")),
    ]
    # The same comparison is not made twice; with other settings it is another one.
    with mock.patch.object(gate, "_judged", side_effect=AssertionError):
        assert judge(store, Gate(), new, current) == made
    other = judge(store, Gate(GateSettings(removed=0.5)), new, current)
    assert len(store.names("gates")) == 2
    assert judgements(store)[2] in (made, other)
    # A damaged one is left out, and made anew where it lay.
    (tmp_path / "store" / path).write_bytes(kept[:-9])
    assert judgements(store) == {2: other}
    assert judge(store, Gate(), new, current).rules == made.rules
    assert read_record(store, path, Judgement).passed


def test_a_judgement_says_what_its_rules_say(stores: Stores, tmp_path: Path) -> None:
    store, _, _ = judged_two(stores, tmp_path)
    (path,) = (f"gates/{name}" for name in store.names("gates"))
    made = read_record(store, path, Judgement)
    with pytest.raises(ValidationError, match="passed is False, and 0 rules failed"):
        Judgement.model_validate(made.model_dump() | {"passed": False})
    reseal(tmp_path / "store" / path, snapshot=1)
    with pytest.raises(CorruptFile, match="is the record of gates/000001-"):
        read_record(store, path, Judgement)


def test_golden_queries_are_asked_in_both_snapshots(stores: Stores, tmp_path: Path) -> None:
    store, new, current = judged_two(stores, tmp_path)
    path = tmp_path / "golden.tsv"
    path.write_text("00.png\t01.png\n02.png\n", encoding="utf-8")
    settings = GateSettings(golden=str(path), golden_recall=0)
    made = judge(store, open_gate(settings), new, current)
    assert [told(rule) for rule in made.rules[3:6]] == [
        *(("golden", "passed"), ("golden_recall", "passed"), ("overlap", "passed")),
    ]
    # All four others are the first ten, in whatever order.
    assert (made.rules[4].value, made.rules[5].value) == (1.0, 1.0)
    path.write_text("00.png\n05.png\n", encoding="utf-8")  # this one was refused
    again = judge(store, open_gate(settings), new, current)
    assert [rule.text for rule in again.failed] == [
        f"golden query 05.png is not in snapshot 2, and all of {path} must be (gate.golden): put "
        "the pictures back, or take the lines out"
    ]


def test_a_retry_is_not_judged_by_what_it_adds(stores: Stores, tmp_path: Path) -> None:
    store, new, current = judged_two(stores, tmp_path)
    made = judge(store, open_gate(DEFAULTS, shares=False), new, current)
    assert [told(rule) for rule in made.rules[:2]] == [
        ("removed", "not judged"),
        ("added", "not judged"),
    ]


def test_words_that_were_kept_are_measured_on_new_shards(indexed: Indexed) -> None:
    store, new = LocalStore(indexed.store), indexed.snapshot
    current = new.model_copy(update={"number": 2, "segments": new.segments[:1]})
    (fit,) = gate._fits_of_new(store, new, current)
    (whole,) = shards_fits(store, new, shards_of(store, new), new.vocabularies).values()
    assert (fit.layer, whole.layer) == ("p15", "p15")
    assert 0 < fit.rows < whole.rows
    assert fit.ratio == pytest.approx(1.0, abs=0.5)
    assert gate._fits_of_new(store, new, new) == []
    # Words that are not those of the current snapshot are no drift.
    assert gate._fits_of_new(store, new, current.model_copy(update={"vocabularies": {}})) == []
