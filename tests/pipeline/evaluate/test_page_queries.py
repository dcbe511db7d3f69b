"""What a page's script is given: worked by hand, then against the similarities themselves."""

import json

import numpy as np
import pytest

from lamella.pipeline.evaluate.matches import Match
from lamella.pipeline.evaluate.page_queries import (
    MOST_WORDS,
    SCALE,
    SHOWN_RANKS,
    PageQueries,
    as_script,
    page_data,
    telling_queries,
)
from lamella.pipeline.evaluate.sweep import plan_sweep, score_batch, summarise
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery
from lamella.pipeline.search.fuse import fuse
from lamella.schemas.query import FusionSpec, LayerMap
from tests.report_pages import LAYERS, drawn, queries_of

NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
IMAGE_IDS = np.array([0, 1, 4, 5, 7])  # 2, 3 and 6 were refused
TRUTH = GroundTruth(
    "pairs",
    "mAP",
    (
        GroundTruthQuery("a.jpg", frozenset({"b.jpg"}), frozenset({"e.jpg"}), remove_self=True),
        GroundTruthQuery("c.jpg", frozenset({"d.jpg"}), remove_self=True),
    ),
)
FUSION = FusionSpec(layers=(LayerMap(layer="fc", t=0.2, p=0.45), LayerMap(layer="conv")))
TABLE = np.array(
    [
        [[1.0, 0.8, 0.7, 0.6, 0.9], [0.7, 0.5, 1.0, 0.6, 0.3]],
        [[1.0, 0.2, 0.3, 0.1, 0.4], [0.3, 0.1, 1.0, 0.5, 0.2]],
    ]
)
PLAN = plan_sweep(TRUTH, NAMES, FUSION)
RESULT = summarise(PLAN, [score_batch(PLAN, 0, TABLE)])


def test_the_data_of_two_queries_by_hand() -> None:
    shared = Match("conv", 9, 0.123456, ((0.11111, 0.0, 1.0, 0.5),), ())
    matches = {(4, 5): (shared,), (0, 1): ()}
    boxes = {1: (0.25, 0.0, 0.33333, 1.0), 0: (0.0, 0.0, 0.5, 0.5)}
    queries = PageQueries(PLAN, RESULT, IMAGE_IDS, (1, 0), 1, matches, boxes)
    found = page_data(queries)
    # Query 1 is shown: its own picture first, then in the order of the first ranking, by fc:
    # c 1.0, a .7, d .6, b .5, e .3. Query 0, a.jpg, is among them.
    assert found["names"] == ["c.jpg", "a.jpg", "d.jpg", "b.jpg", "e.jpg"]
    assert queries.shown_ids == [4, 0, 5, 1, 7]
    assert (found["shown"], found["ranks"], found["kept"]) == (5, 5, 5)
    assert found["asked"] == [0, 1]
    numbers, parts, verdicts, ranks = found["pictures"][0]
    assert numbers == [1, 3, 0, 2, 4]  # places 0 to 4: a, b, c, d, e
    assert parts[:4] == [70_000, 30_000, 50_000, 10_000]  # S of a in fc and conv, then of b
    assert verdicts == "wwqrw"
    # fc: c 1.0, a .7, d .6, b .5, e .3; conv: c 1.0, d .5, a .3, e .2, b .1;
    # their sum: c 2.0, d 1.1, a 1.0, b .6, e .5
    assert ranks[:3] == ["24135", "35124", "34125"]
    # a: .2 + .8 (.5 / .8)^.45 + .3 = 1.147; d: .2 + .8 (.4 / .8)^.45 + .5 = 1.286
    assert ranks[3][0] == "3"
    assert ranks[3][3] == "2"
    assert found["right"] == ["11", "11", "11", "11"]
    assert found["scores"][0] == RESULT.scores[0, [1, 0]].round(5).tolist()
    assert [(each["name"], each["label"]) for each in found["rankings"]] == [
        ("fc", "fc alone"),
        ("conv", "conv alone"),
        ("direct", "direct sum"),
        ("mapped", "mapped fusion"),
    ]
    assert found["rankings"][1]["layers"] == [[1, 1.0, 1.0, 1.0]]
    assert found["rankings"][3]["layers"] == [[0, 0.2, 0.45, 1.0], [1, 1.0, 1.0, 1.0]]
    assert found["boxes"] == {"0": [0.25, 0.0, 0.3333, 1.0]}
    assert found["matches"] == {
        "0": {"2": [["conv", 9, 0.12346, [[0.1111, 0.0, 1.0, 0.5]], []]]},
    }


def test_junk_is_neither_right_nor_wrong() -> None:
    found = page_data(PageQueries(PLAN, RESULT, IMAGE_IDS, (0,), 1))
    assert found["pictures"][0][2] == "qrwwj"


def test_what_is_shown_is_what_was_scored() -> None:
    """Ranks, verdicts and similarities of every query, by sorting all pictures anew."""
    names = [f"{group}/{n}" for group in "abcdef" for n in range(4)]
    plan, result = drawn(names, layers=(LayerMap(layer="top", t=0.1, p=0.5, weight=2.0), *LAYERS))
    found = page_data(queries_of(plan, result))
    for column, query in enumerate(telling_queries(result)):
        numbers, parts, verdicts, ranks = found["pictures"][column]
        asked = plan.truth.query_ids[query]
        assert found["names"][found["asked"][column]] == names[asked]
        shown = [found["names"][number] for number in numbers]
        for name, verdict in zip(shown, verdicts, strict=True):
            if name == names[asked]:
                assert verdict == "q"
            else:
                assert verdict == ("r" if name[0] == names[asked][0] else "w")
        s = np.array(parts).reshape(-1, 3).T / SCALE
        for row, (_, taken, spec) in enumerate(plan.rankings):
            known = [(int(rank, 36), place) for place, rank in enumerate(ranks[row]) if rank != "0"]
            places = [place for _, place in sorted(known)]
            first = [names[place] for place in result.first[row, query]]
            assert [shown[place] for place in places][:SHOWN_RANKS] == first[:SHOWN_RANKS]
            scores = fuse(np.ascontiguousarray(s[taken]), spec)[places]
            assert (np.diff(scores) < 1e-3).all()  # falling, but for what rounding turns round
            right = sum(verdicts[place] == "r" for place in places[:SHOWN_RANKS])
            assert int(found["right"][row][column], 36) == right


def test_one_layer_is_one_ranking() -> None:
    plan, result = drawn(["a/1", "a/2", "b/1", "b/2"], layers=LAYERS[1:])
    found = page_data(queries_of(plan, result))
    assert [each["name"] for each in found["rankings"]] == ["conv"]
    assert len(found["scores"]) == len(found["right"]) == len(found["pictures"][0][3]) == 1


def test_queries_past_the_limit_have_scores_and_names_alone() -> None:
    plan, result = drawn([f"{group}/{n}" for group in "abcdefgh" for n in range(4)])
    queries = queries_of(plan, result, 2)
    found = page_data(queries)
    assert len(found["pictures"]) == 2
    assert len(found["asked"]) == len(found["scores"][0]) == 32
    assert len(set(found["names"])) == len(found["names"]) == 32
    assert found["shown"] == len(queries.shown_ids) < 32


def test_gains_and_losses_stand_in_turn_then_the_hardest() -> None:
    _, result = drawn([f"{group}/{n}" for group in "abcdefgh" for n in range(4)])
    order = telling_queries(result)
    assert sorted(order) == list(range(32))
    change = (result.scores[-1] - result.scores[-2])[order]
    changed = np.count_nonzero(change)
    assert changed > 8
    assert change[:changed].all()
    paired = 2 * min((change > 0).sum(), (change < 0).sum())
    assert (change[:paired:2] > 0).all()
    assert (change[1:paired:2] < 0).all()
    rest = result.scores[-1][order][changed:]
    assert (np.diff(rest) >= 0).all()


def test_the_words_that_add_most_are_shown() -> None:
    plan, result = drawn(["a/1", "a/2", "b/1", "b/2"])
    words = [Match("conv", word, word / 100) for word in range(MOST_WORDS + 5)]
    found = page_data(queries_of(plan, result, matches={(3, 13): words}))
    ((_, of_query),) = found["matches"].items()
    ((_, shown),) = of_query.items()
    assert [word for _, word, *_ in shown] == list(range(MOST_WORDS + 4, 4, -1))


@pytest.mark.parametrize("text", ["</script>", "<!--", "a & b", '"', "\\", "é\u2028 𝄞"])
def test_no_text_ends_the_script_that_it_stands_in(text: str) -> None:
    said = as_script({"names": [text]})
    assert not {"<", ">", "&"} & set(said)
    assert json.loads(said) == {"names": [text]}
