"""Comparisons worked by hand: scores, agreement, what new pictures explain, and what is said."""

import json

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.compare import Comparison, Counted, compare, compare_corpora
from lamella.pipeline.evaluate.compare_page import changed_queries, names_on, render_comparison
from lamella.pipeline.evaluate.compare_text import (
    agreement_lines,
    corpora_text,
    counted_text,
    measure_lines,
    method,
    story,
)
from lamella.pipeline.evaluate.compare_values import delta_table, values_of
from lamella.pipeline.evaluate.scored import Scored

EVIL = "<script>document.title='owned'</script>\x1b[31m[bold]\u202egpj.a"


def scored(
    label: str, ranked: dict[str, str], scores: dict[str, list[float]] | None = None
) -> Scored:
    """Return rankings of pictures with names of one letter."""
    return Scored(
        label,
        tuple(ranked),
        np.arange(len(ranked)),
        {name: np.array(row) for name, row in (scores or {}).items()},
        tuple(tuple(names) for names in ranked.values()),
    )


def corpus(names: str, **changed: int) -> dict[str, int]:
    return {name: ord(name) for name in names} | changed


def night() -> Comparison:
    """Query q has the new n in front and is else the same; r has c before b; in s d is gone."""
    a = scored("day", {"q": "qabc", "r": "rabc", "s": "sdab"})
    b = scored("night", {"q": "qnabc", "r": "racb", "s": "sabc"})
    return compare(a, b, compare_corpora(corpus("qrsabcd"), corpus("qrsabcn")))


def test_new_pictures_are_told_from_those_that_change_places() -> None:
    found = night()
    # without the queries themselves: abc nabc, abc acb, dab abc
    assert found.agreement.first_changed.tolist() == [True, False, True]
    assert found.agreement.overlaps[1].tolist() == [0, 1, 0]
    assert found.agreement.overlaps[3].tolist() == [2 / 3, 1, 2 / 3]
    assert found.among_both is not None
    # without n and d: abc abc, abc acb, ab abc
    assert found.among_both.first_changed.tolist() == [False, False, False]
    assert found.among_both.overlaps[3].tolist() == [1, 1, 1]
    # .9 of the weight of the second rank is lost: 1 - (1 - .9) .9 / 2
    assert found.among_both.biased == pytest.approx([1, 0.955, 1])
    assert [found.a.queries[place] for place in found.most_changed(5)] == ["r", "s", "q"]
    assert story(found) == [
        "2 of 3 queries have another first picture, 0 among the 6 pictures that both have."
    ]
    assert corpora_text(found) == "1 picture new, 1 picture gone; 6 in both"
    assert [(line.name, line.whole, line.both) for line in agreement_lines(found)] == [
        ("overlap@1", "0.333", "1.000"),
        ("overlap@3", "0.778", "1.000"),
        ("rank-biased overlap", f"{found.agreement.biased.mean():.3f}", "0.985"),
        ("another first picture", "2 of 3", "0 of 3"),
    ]


def test_a_picture_with_other_contents_is_in_neither_corpus_twice() -> None:
    found = compare_corpora(corpus("abc"), corpus("abd", b=7))
    assert (sorted(found.both), found.new, found.gone) == (["a"], ("d",), ("c",))
    assert found.changed == ("b",)


def test_the_same_rankings_say_so() -> None:
    ranked = {"q": "abc", "r": "ba"}
    found = compare(scored("one", ranked), scored("two", ranked))
    assert story(found) == ["All rankings of 2 queries are the same."]
    assert (found.most_changed(5), found.among_both, found.corpora) == ([], None, None)
    assert corpora_text(found) == ""
    page = render_comparison(found, Counted(2, 2, 2), [], {})
    assert "No query has changed" in page


def judged(differences: list[float], name: str = "AP") -> Comparison:
    count = len(differences)
    ranked = {f"q{place}": "ab" for place in range(count)}
    other = dict.fromkeys(ranked, "ba")
    a = scored("one", ranked, {name: [0.5] * count, "R@10": [0.25] * count})
    b = scored("two", other, {name: [0.5 + d for d in differences], "R@10": [0.25] * count})
    return compare(a, b)


def test_wins_ties_and_losses_by_hand() -> None:
    found = judged([0.1, 0.1, -0.2, 0.0, 1e-15, 0.1] + [0.1] * 6)
    row, flat = found.rows
    # 9 gains of .1 and a loss of .2 over 12 queries
    assert (row.wins, row.ties, row.losses) == (9, 2, 1)
    assert row.difference == pytest.approx(0.7 / 12)
    assert row.interval is not None
    assert row.interval.low < row.difference < row.interval.high
    # 10 queries differ. Of their 1,024 flips these are as far as .7: all of one sign (1.1), one of
    # .1 turned (.9), two of .1 (.7) and that of .2 (.7): 1 + 9 + 36 + 1, and the same below zero
    assert row.p == 2 * 47 / 1024
    assert row.corrected_p == 2 * row.p
    assert (row.verdict, flat.verdict) == ("no difference", "no difference")
    assert (flat.difference, flat.p, flat.wins, flat.ties) == (0.0, 1.0, 0, 12)
    assert found.deltas("AP")[4] == 0.0
    assert found.most_changed(1) == [2]  # the loss of .2


def test_a_gain_and_a_loss_are_called_so() -> None:
    gain, loss = judged([0.1, 0.2] * 8), judged([-0.1, -0.2] * 8)
    assert story(gain)[0] == ("A gain: two scores 0.650 AP, .150 above one [.125, .175], p < .001.")
    assert story(loss)[0].startswith("A loss: two scores 0.350 AP, .150 below one [-.175, -.125]")
    assert (gain.lost, loss.lost) == ((), ("AP",))
    line = measure_lines(gain)[0]
    assert (line.difference, line.p, line.wins) == ("+.150", "< .001", "16 / 0 / 0")
    assert "corrected over 2 comparisons by Holm" in method(gain)
    none = judged([0.1, -0.1] * 8)
    assert story(none)[0].startswith("No difference that 16 queries show: two scores 0.500 AP, one")


def test_few_queries_get_no_verdict() -> None:
    found = judged([-0.1] * 9)
    assert (found.bootstrap, found.rows[0].verdict, found.lost) == (None, None, ())
    assert story(found)[0].endswith("9 queries are too few to say which is better.")
    assert measure_lines(found)[0].verdict == "too few queries"
    assert method(found) == "Fewer than 10 queries get no intervals."


def test_queries_that_share_an_answer_in_either_corpus_are_one_unit() -> None:
    ranked = {f"q{place}": "ab" for place in range(40)}
    a = scored("one", ranked, {"AP": [0.5] * 40})
    b = scored("two", ranked, {"AP": list(np.linspace(0.4, 0.7, 40))})
    coarse = Scored(b.label, b.queries, np.arange(40) // 4, b.scores, b.ranked)
    alone, tied = compare(a, b).bootstrap, compare(a, coarse).bootstrap
    assert alone is not None
    assert tied is not None
    assert (alone.units, tied.units) == (40, 10)


def test_other_queries_or_measures_are_refused_and_so_are_none() -> None:
    one = scored("one", {"q": "ab"}, {"AP": [0.5]})
    with pytest.raises(MismatchedQueries, match="one has 1 queries and AP, two 1 and no measure"):
        compare(one, scored("two", {"q": "ab"}))
    with pytest.raises(MismatchedQueries, match="rankings of the same queries"):
        compare(one, scored("two", {"r": "ab"}, {"AP": [0.5]}))
    with pytest.raises(InputError, match="at least 1 query is compared; got 0"):
        compare(scored("one", {}), scored("two", {}))


def test_values_and_the_table_of_queries() -> None:
    found = night()
    said = json.loads(json.dumps(values_of(found, Counted(3, 4, 5))))
    assert said["queries"] == {
        "compared": 3,
        "a": 4,
        "b": 5,
        "left_out": {},
        "protocol": None,
        "in_both": False,
    }
    assert said["pictures"]["new"] == {"count": 1, "names": ["n"]}
    assert said["agreement"]["first_changed"] == 2
    assert said["agreement_in_both"]["overlap"] == {"1": 1.0, "3": 1.0}
    assert said["most_changed"] == ["r", "s", "q"]
    rows = delta_table(found).to_pylist()
    assert [row["query"] for row in rows] == ["q", "r", "s"]
    assert (rows[0]["a.first"], rows[0]["b.first"]) == ("a", "n")
    assert (rows[0]["overlap@1"], rows[0]["both.overlap@1"]) == (0.0, 1.0)
    table = delta_table(judged([0.25, -0.5]))
    assert table.column("delta.AP").to_pylist() == [0.25, -0.5]
    assert table.column("b.AP").to_pylist() == [0.75, 0.0]


def test_it_is_said_how_many_queries_only_one_side_has() -> None:
    found = night()
    assert counted_text(found, Counted(3, 3, 3)) == "3 queries compared"
    said = counted_text(found, Counted(3, 4, 9, {"no right answer": 2}, "qrels a.txt"))
    assert said == (
        "3 queries compared, qrels a.txt; day has 4, night 9; 2 left out: no right answer"
    )


def test_a_page_marks_what_is_new_gone_moved_and_right() -> None:
    queries = changed_queries(night(), {"r": frozenset("b")}, pictures=2)
    by_name = {query.name: query for query in queries}
    (_, before), (_, after) = by_name["s"].rankings
    assert [(each.name, each.kind, each.move) for each in before] == [
        ("d", "gone", "gone"),
        ("a", "same", "is 1"),
    ]
    assert [(each.name, each.kind, each.move) for each in after] == [
        ("a", "same", "was 2"),
        ("b", "in", "was 3"),
    ]
    assert by_name["q"].rankings[1][1][0].kind == "new"
    (_, before), (_, after) = by_name["r"].rankings
    assert [(each.name, each.kind, each.right) for each in before] == [
        ("a", "same", False),
        ("b", "out", True),
    ]
    assert (after[1].name, after[1].move) == ("c", "was 3")
    assert before[1].move == "is 3"
    assert set(names_on(queries)) == set("qrsabcdn")


def test_names_on_the_page_do_nothing_and_pictures_are_in_it_once() -> None:
    a = Scored(EVIL, (EVIL,), np.arange(1), {}, ((EVIL + "1", "b"),))
    b = Scored("two", (EVIL,), np.arange(1), {}, (("b", EVIL + "1"),))
    found = compare(a, b)
    jpeg = b"\xff\xd8\xff\xe0 a thumbnail"
    queries = changed_queries(found, {})
    page = render_comparison(found, Counted(1, 1, 1), queries, {"b": jpeg}, f"why: {EVIL}")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/jpeg") == 1
    assert page.count('class="picture t0"') == 2
    assert "script-src 'none'" in page.replace("&#39;", "'")
    with pytest.raises(ValueError, match="thumbnails are JPEG"):
        render_comparison(found, Counted(1, 1, 1), queries, {"b": b"<svg onload=alert(1)>"})
