"""Qrels: read back as written, equal to the ground truth they stand for, and hostile files."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.protocols.holidays import holidays
from lamella.pipeline.evaluate.qrels import (
    Qrels,
    from_truth,
    read_qrels,
    to_truth,
    unknown_pictures,
    write_qrels,
)
from lamella.pipeline.evaluate.trec import as_name, as_word
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery


def read(tmp_path: Path, text: str | bytes) -> Qrels:
    """Return the judgements of a file with this content."""
    path = tmp_path / "judged.qrels"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_qrels(path)


def test_a_file_worked_by_hand(tmp_path: Path) -> None:
    qrels = read(tmp_path, "q1 0 a 1\n\nq1\t0\tb  3\r\nq1 0 c 0\nq1 Q0 d -1\nmy%20cat 0 a +1\n")
    assert qrels.judgements == {"q1": {"a": 1, "b": 3, "c": 0, "d": -1}, "my cat": {"a": 1}}
    truth = to_truth(qrels, ["a", "c", "d", "q1", "x"])
    assert truth.protocol == "qrels judged.qrels"
    first, second = truth.queries
    assert first == GroundTruthQuery(
        "q1",
        positives=frozenset("a"),
        junk=frozenset("d"),
        missing=frozenset("b"),
        grades={"b": 3, "c": 0},
    )
    assert second == GroundTruthQuery("my cat", frozenset("a"))
    assert unknown_pictures(qrels, ["a", "c", "d", "q1", "x"]) == ("b",)


def test_junk_and_the_query_itself_are_below_zero() -> None:
    alone = GroundTruthQuery("q", frozenset("ab"), frozenset("j"), remove_self=True)
    truth = GroundTruth("qrels test", "mAP", (alone,))
    qrels = from_truth(truth)
    assert qrels.judgements == {"q": {"a": 1, "b": 1, "j": -1, "q": -1}}
    assert to_truth(qrels, "abjq").queries == truth.queries


@pytest.mark.parametrize(
    "truth",
    [
        groups([f"{group}/{number}.jpg" for group in "ab" for number in range(3)]),
        holidays(["100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg", "100102.jpg"]),
    ],
)
def test_a_protocol_survives_its_qrels(truth: GroundTruth, tmp_path: Path) -> None:
    names = {query.name for query in truth.queries}.union(*(q.positives for q in truth.queries))
    write_qrels(from_truth(truth), tmp_path / "qrels")
    assert to_truth(read_qrels(tmp_path / "qrels"), names).queries == truth.queries


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(-2, 4), min_size=1), min_size=1))
def test_any_names_are_read_back(judgements: dict[str, dict[str, int]]) -> None:
    for name in judgements:
        assert len(as_word(name).split()) == 1
        assert as_name(as_word(name)) == name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.qrels")
        write_qrels(Qrels("test", judgements), path)
        found = read_qrels(path).judgements
    assert found == judgements
    assert list(found) == list(judgements)


def test_what_is_no_encoding_of_text_stays() -> None:
    assert as_name("100%") == "100%"
    assert as_name("a%ff") == "a%ff"


def test_queries_without_a_right_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    qrels = read(tmp_path, "q 0 a 1\nr 0 a 0\ns 0 a -1\ns 0 b 0\n")
    truth = to_truth(qrels, "ab")
    assert [query.name for query in truth.queries] == ["q"]
    assert truth.left_out == (("r", "no right answer"), ("s", "no right answer"))


def test_a_query_that_is_not_indexed_is_left_out_only_where_it_has_to_be(tmp_path: Path) -> None:
    qrels = read(tmp_path, "a 0 b 1\nelsewhere 0 a 1\n")
    assert len(to_truth(qrels, "ab").queries) == 2
    truth = to_truth(qrels, "ab", indexed_queries=True)
    assert [query.name for query in truth.queries] == ["a"]
    assert truth.left_out == (("elsewhere", "its picture is not in the corpus"),)


def test_without_names_all_pictures_are_taken_to_be_there(tmp_path: Path) -> None:
    (query,) = to_truth(read(tmp_path, "q 0 a 1\nq 0 j -1\n"), None).queries
    assert query == GroundTruthQuery("q", frozenset("a"), frozenset("j"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least 1 line `qid 0 docid rel`"),
        ("\n \n", "at least 1 line"),
        ("q 0 a 1\nq 0 a\n", "line 2 of .* is 'q 0 a"),
        ("q 0 a b 1\n", "line 1 of"),
        ("q 0 a 1.5\n", "rel a whole number,`; line 1 of"),
        ("q 0 a 1\n\nq 0 b one\n", "line 3 of"),
        ("q 0 a 12345678901\n", "rel a whole number"),
        ("q 0 a ١\n", "rel a whole number"),
        ("q 0 a 1\nr 0 a 0\nq 0 a 0\n", "line 3 of .* says 0 of 'a' for 'q', a line before 1"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "text in UTF-8"),
        (b"\x00\x01\x02", r"line 1 of .* is '\\x00\\x01\\x02'"),
    ],
)
def test_what_is_no_qrels_is_refused(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


@settings(max_examples=150)
@given(st.binary(max_size=60) | st.text("q 01-\n\t", max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InputError):
        path = Path(folder, "any")
        path.write_bytes(content)
        assert all(read_qrels(path).judgements.values())


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_qrels(tmp_path / "nothing")
    with pytest.raises(InputError, match="directory"):
        read_qrels(tmp_path)


def test_qrels_of_another_corpus_say_what_names_are_like(tmp_path: Path) -> None:
    qrels = read(tmp_path, "q 0 doc7 1\nq 0 doc8 1\n")
    with pytest.raises(InputError, match=r"'cats/1.jpg': judged.qrels names 'doc7' first") as found:
        to_truth(qrels, ["dogs/1.jpg", "cats/1.jpg"])
    assert "of the 2 that judged.qrels judges none is among the 2 here" in str(found.value)


def test_qrels_without_any_query_to_score_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of the 2 queries of judged.qrels none has both, 'q'"):
        to_truth(read(tmp_path, "q 0 a 0\nr 0 a -1\n"), "a")
