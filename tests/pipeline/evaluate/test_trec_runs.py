"""TREC runs: read by score, whatever their white space; written so that no reader reorders them."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate import trec_runs
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.evaluate.trec import as_word
from lamella.pipeline.evaluate.trec_runs import read_run, write_run


def read(tmp_path: Path, text: str | bytes) -> Ranked:
    """Return the run of a file with this content."""
    path = tmp_path / "a.run"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_run(path)


def plain(run: Ranked) -> dict[str, list[tuple[str, float]]]:
    """Return each query's pictures and scores."""
    return {
        query: list(zip(names, scores.tolist(), strict=True))
        for query, names, scores in zip(run.queries, run.ranked, run.scores, strict=True)
    }


WORKED = {"q": [("a", 0.9), ("my cat", 0.5), ("b", 0.5)], "r": [("a", -1.0)]}
"""By score, falling; b and the cat are equal, so the first line of the two is first."""

LINES = [
    "q Q0 my%20cat 1 0.5 tag",
    "r Q0 a 1 -1 tag",
    "q Q0 b 2 0.5 tag",
    "q Q0 a 3 0.9 tag",
]


@pytest.mark.parametrize("space", [" ", "\t", "  ", " \t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n"])
def test_a_run_is_read_by_score_whatever_its_white_space(
    space: str, end: str, tmp_path: Path
) -> None:
    text = "".join(line.replace(" ", space) + end for line in LINES)
    assert plain(read(tmp_path, text)) == WORKED


def test_the_last_line_needs_no_end_and_a_mark_may_begin_the_file(tmp_path: Path) -> None:
    assert plain(read(tmp_path, "\ufeff" + "\n".join(LINES))) == WORKED


WORDS = st.text("ab%é\u2028 \t\"'\\", min_size=1, max_size=3)


@settings(max_examples=60)
@given(st.lists(st.tuples(WORDS, WORDS, st.integers(-3, 3)), min_size=1, max_size=12))
def test_the_quick_way_reads_what_lines_say(rows: list[tuple[str, str, int]]) -> None:
    once = {(qid, docid): score for qid, docid, score in rows}
    text = "".join(
        f"{as_word(qid)} Q0 {as_word(docid)} 1 {score} t\n" for (qid, docid), score in once.items()
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "some.run")
        path.write_text(text, encoding="utf-8")
        quick = plain(read_run(path))
        patch.setattr(trec_runs, "_quickly", lambda path: None)
        assert plain(read_run(path)) == quick
    assert {(query, name): s for query, pairs in quick.items() for name, s in pairs} == once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least 1 line `qid Q0 docid rank score tag`; .* has 0"),
        ("\n\n", "has 0"),
        ("q Q0 a 1 .5 t\nq Q0 a 1 .5\n", r"line 2 of .* is 'q Q0 a 1 \.5"),
        ("q Q0 a 1 .5 t\n\nq Q0 b 1 high t\n", "score a number,`; line 3 of"),
        ("q Q0 a 1 nan t\n", "score a number,`; line 1 of"),
        ("q Q0  1 .5 t\n", "line 1 of"),
        ("q Q0 a 1 .5 t\nq Q0 a 2 .4 t\n", "query 'q' 'a' stands twice"),
        ("q 0 a 1\n", "line 1 of"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "text in UTF-8"),
        (b"\x00" * 40, "line 1 of"),
    ],
)
def test_what_is_no_run_is_refused(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


@settings(max_examples=150)
@given(st.binary(max_size=60) | st.text("q 01.-\n\t", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InputError):
        path = Path(folder, "any")
        path.write_bytes(content)
        assert all(len(names) for names in read_run(path).ranked)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_run(tmp_path / "nothing")


def test_a_written_run_keeps_the_order_for_readers_in_single_precision(tmp_path: Path) -> None:
    names = tuple(f"picture {number}.jpg" for number in range(3_000, 0, -1))
    scored = Scored(
        "run x", ("q 1", "none"), np.zeros(2, np.int64), {"AP": np.ones(2)}, (names, ())
    )
    write_run(scored, tmp_path / "run", "my run")
    lines = (tmp_path / "run").read_text().splitlines()
    assert lines[0] == "q%201 Q0 picture%203000.jpg 1 3000 my%20run"
    assert lines[-1] == "q%201 Q0 picture%201.jpg 3000 1 my%20run"
    found = read_run(tmp_path / "run")
    assert (found.queries, found.ranked) == (("q 1",), (names,))
    assert (np.diff(found.scores[0].astype(np.float32)) < 0).all()
