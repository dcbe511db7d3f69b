"""The sweep against the plain way: fuse everything, sort everything, score everything."""

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.folds import folds_of, groups_of
from lamella.pipeline.evaluate.metrics import order_by_score
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.evaluate.sweep import KEPT_RANKS, plan_sweep, score_batch, summarise
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, resolve, score_queries
from lamella.pipeline.search.fuse import fuse
from lamella.schemas.query import FusionSpec, LayerMap

NAMES = [f"ukbench{number:05d}.jpg" for number in range(24)]
TRUTH = ukb(NAMES)
PAPER = FusionSpec(layers=(LayerMap(layer="fc", t=0.2, p=0.45), LayerMap(layer="conv")))


def similarities(layers: int = 2) -> np.ndarray:
    """Return (layers, 24, 24): objects of four pictures are somewhat more like each other."""
    rng = np.random.default_rng(7)
    same = np.arange(24)[:, None] // 4 == np.arange(24) // 4
    return np.clip(rng.random((layers, 24, 24)) * 0.7 + 0.2 * same, 0.0, 1.0)


def test_rows_equal_scoring_each_fusion_by_itself() -> None:
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, PAPER)
    result = summarise(plan, [score_batch(plan, 0, table)])
    expected = [table[0], table[1], table[0] + table[1], fuse(table, PAPER)]
    for row, scores in zip(result.rows, expected, strict=True):
        assert row.score == score_queries(TRUTH, NAMES, scores).mean()
    assert [row.name for row in result.rows] == ["fc", "conv", "direct", "mapped"]


def test_every_point_of_the_grid_equals_its_own_fusion() -> None:
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, PAPER, t=(0.0, 0.5), p=(0.05, 0.8))
    result = summarise(plan, [score_batch(plan, 0, table)])
    assert len(result.sweep) == 9  # 3 x 3: the setting in use, (.2, .45), joins both axes
    for point in result.sweep:
        top = LayerMap(layer="fc", t=point.t, p=point.p)
        scores = fuse(table, FusionSpec(layers=(top, PAPER.layers[1])))
        assert point.score == score_queries(TRUTH, NAMES, scores).mean()
    used = next(point for point in result.sweep if (point.t, point.p) == (0.2, 0.45))
    assert used.score == result.rows[-1].score
    assert result.best is not None
    assert result.best.score == max(point.score for point in result.sweep)


def test_the_first_pictures_of_every_ranking_are_kept_with_their_similarities() -> None:
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, PAPER)
    result = summarise(
        plan, [score_batch(plan, 5, table[:, 5:]), score_batch(plan, 0, table[:, :5])]
    )
    fused = [table[0], table[1], table[0] + table[1], fuse(table, PAPER)]
    assert result.first.shape == (4, 24, KEPT_RANKS)
    for row, scores in enumerate(fused):
        for query in range(24):
            first = result.first[row, query]
            assert first.tolist() == order_by_score(scores[query])[:KEPT_RANKS].tolist()
            assert (table[:, query, first] == result.similarities[row, query].T).all()


def test_a_report_of_map_says_what_trec_eval_says_too() -> None:
    names = [f"{number // 4}/{number:02d}.jpg" for number in range(24)]
    table, plan = similarities(), plan_sweep(groups(names), names, PAPER, t=(), p=())
    result = summarise(plan, [score_batch(plan, 0, table)])
    for row, scores in zip(result.rows, [table[0], table[1]], strict=False):
        found = []
        for query in range(24):
            ranking = [each for each in order_by_score(scores[query]) if each != query]
            right = [each // 4 == query // 4 for each in ranking]
            at = [sum(right[: n + 1]) / (n + 1) for n, is_right in enumerate(right) if is_right]
            found.append(sum(at) / 3)
        assert row.rectangles == pytest.approx(np.mean(found), abs=1e-12)
        assert row.rectangles is not None
        assert row.rectangles > row.score
    by_ns = plan_sweep(TRUTH, NAMES, PAPER, t=(), p=())
    rows = summarise(by_ns, [score_batch(by_ns, 0, table)]).rows
    assert {row.rectangles for row in rows} == {None}
    assert "rectangles" not in rows[0].model_dump()


@pytest.mark.parametrize("size", [1, 5, 24])
def test_the_result_is_the_same_however_queries_are_batched(size: int) -> None:
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, PAPER, t=(0.4,), p=(0.6,))
    whole = summarise(plan, [score_batch(plan, 0, table)])
    parts = [score_batch(plan, s, table[:, s : s + size]) for s in range(0, 24, size)]
    split = summarise(plan, parts[::-1])
    assert split.rows == whole.rows
    assert split.gains == whole.gains
    assert split.bootstrap == whole.bootstrap
    assert split.sweep == whole.sweep
    assert split.cross_validated == whole.cross_validated
    assert split.background == whole.background


def test_every_score_and_every_gain_has_an_interval() -> None:
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, PAPER, t=(0.4,), p=(0.6,))
    result = summarise(plan, [score_batch(plan, 0, table)])
    assert result.bootstrap is not None
    # 6 objects are too few groups: the 24 queries are drawn
    assert (result.bootstrap.unit, result.bootstrap.units) == ("query", 24)
    scored = [(row.score, row.interval) for row in result.rows]
    assert result.cross_validated is not None
    scored.append((result.cross_validated.score, result.cross_validated.interval))
    for score, interval in scored:
        assert interval is not None
        assert interval.low < score < interval.high
    gains = [(gain.fusion, gain.over) for gain in result.gains]
    mapped, direct = [("mapped", n) for n in ("fc", "conv", "direct")], ("fc", "conv")
    assert gains == [*mapped, *(("direct", name) for name in direct)]
    scores = {row.name: row.score for row in result.rows}
    for gain in result.gains:
        assert gain.difference == scores[gain.fusion] - scores[gain.over]
        assert gain.interval.low <= gain.difference <= gain.interval.high


def test_weights_are_in_the_mapped_row_and_in_every_point_of_the_grid() -> None:
    fusion = FusionSpec(
        layers=(
            LayerMap(layer="fc", t=0.2, p=0.45, weight=2.0),
            LayerMap(layer="conv", weight=0.5),
        )
    )
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, fusion, t=(0.0,), p=(0.05,))
    result = summarise(plan, [score_batch(plan, 0, table)])
    assert [row.weights for row in result.rows] == [(1.0,), (1.0,), (1.0, 1.0), (2.0, 0.5)]
    used = next(point for point in result.sweep if (point.t, point.p) == (0.2, 0.45))
    assert used.score == result.rows[-1].score
    assert used.score == score_queries(TRUTH, NAMES, fuse(table, fusion)).mean()


def test_three_layers_sweep_only_thresholds_that_do_not_fall() -> None:
    layers = (LayerMap(layer="a", t=0.2, p=0.45), LayerMap(layer="b", t=0.4, p=0.45))
    plan = plan_sweep(TRUTH, NAMES, FusionSpec(layers=(*layers, LayerMap(layer="c"))))
    assert {t for t, _, _ in plan.grid} == {0.0, 0.1, 0.2, 0.3, 0.4}
    result = summarise(plan, [score_batch(plan, 0, similarities(3))])
    assert len(result.rows) == 5


def test_three_layers_sweep_both_maps_and_choose_among_them() -> None:
    layers = (LayerMap(layer="a", t=0.2, p=0.45), LayerMap(layer="b", t=0.4, p=0.45))
    fusion = FusionSpec(layers=(*layers, LayerMap(layer="c")))
    table, plan = similarities(3), plan_sweep(TRUTH, NAMES, fusion)
    result = summarise(
        plan, [score_batch(plan, 9, table[:, 9:]), score_batch(plan, 0, table[:, :9])]
    )
    # of 5 t and 3 p: 15 pairs of t that do not fall, 9 pairs of p
    assert len(plan.joint.points) == 135
    assert result.swept.shape == (len(plan.grid) + 135, 24)
    for spec, scores in zip(plan.joint.points, result.swept[len(plan.grid) :], strict=True):
        assert spec.layers[0].t <= spec.layers[1].t
        assert (scores == score_queries(TRUTH, NAMES, fuse(table, spec))).all()
    assert result.joint is not None
    assert result.joint.points == 135
    assert result.joint.best.score == result.swept[len(plan.grid) :].mean(axis=1).max()
    assert len(result.joint.best.lower) == 1
    assert result.cross_validated is not None
    assert len(result.cross_validated.chosen) == 6  # objects
    assert all(len(point.lower) == 1 for point in result.cross_validated.chosen)


def test_one_layer_has_nothing_to_sweep() -> None:
    plan = plan_sweep(TRUTH, NAMES, FusionSpec(layers=(LayerMap(layer="a"),)))
    result = summarise(plan, [score_batch(plan, 0, similarities(1))])
    assert (result.sweep, result.best, result.cross_validated) == ((), None, None)
    assert result.gains == ()
    assert result.rows[0].interval == result.rows[-1].interval is not None


def test_background_is_the_median_over_unrelated_pictures() -> None:
    table, plan = similarities(), plan_sweep(TRUTH, NAMES, PAPER, t=(), p=())
    result = summarise(plan, [score_batch(plan, 0, table)])
    unrelated = np.arange(24)[:, None] // 4 != np.arange(24) // 4
    for layer, entry in enumerate(result.background):
        assert entry.median == pytest.approx(np.median(table[layer][unrelated]), abs=2e-3)


def test_ties_are_bounded() -> None:
    table, plan = np.full((2, 24, 24), 0.5), plan_sweep(TRUTH, NAMES, PAPER, t=(), p=())
    row = summarise(plan, [score_batch(plan, 0, table)]).rows[0]
    # all equal: by id only object 0 is found, 4 of 24 queries score 4; others between 0 and 4
    assert (row.lowest, row.highest) == (0.0, 4.0)
    assert row.score == pytest.approx(4 * 4 / 24)


def test_groups_are_chains_of_queries_that_share_a_picture() -> None:
    # a and b both ask for x, b is an answer of d; c shares nothing
    pairs = {"a": "x", "c": "y", "b": "x", "d": "b"}
    queries = tuple(GroundTruthQuery(q, frozenset({right})) for q, right in pairs.items())
    truth = resolve(GroundTruth("chains", "mAP", queries), ["a", "b", "c", "d", "x", "y"])
    assert groups_of(truth).tolist() == [0, 1, 0, 0]
    assert groups_of(resolve(TRUTH, NAMES)).tolist() == [query // 4 for query in range(24)]


def test_folds_keep_queries_together_that_share_a_picture() -> None:
    folds = folds_of(groups_of(resolve(TRUTH, NAMES)))
    assert folds is not None
    assert folds.reshape(6, 4).tolist() == [[object_] * 4 for object_ in range(6)]


def test_there_are_at_most_ten_folds_and_they_are_of_about_one_size() -> None:
    groups = np.repeat(np.arange(25), [1 + group % 3 for group in range(25)])
    folds = folds_of(groups)
    assert folds is not None
    assert sorted(set(folds.tolist())) == list(range(10))
    for group in range(25):
        assert len(set(folds[groups == group].tolist())) == 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 3  # the largest group


def test_queries_of_one_group_make_no_folds() -> None:
    truth = GroundTruth("one", "mAP", (GroundTruthQuery("a", frozenset({"b"})),))
    assert folds_of(groups_of(resolve(truth, ["a", "b"]))) is None


def test_cross_validation_scores_what_the_other_groups_chose() -> None:
    # a, b right for each other, c, d too; t = 0 suits the first pair, t = .9 the second
    names = ["a", "b", "c", "d"]
    pairs = (("a", "b"), ("c", "d"))
    truth = GroundTruth(
        "pairs",
        "mAP",
        tuple(GroundTruthQuery(q, frozenset({r}), remove_self=True) for q, r in pairs),
    )
    plan = plan_sweep(truth, names, FusionSpec(layers=PAPER.layers), t=(0.0, 0.9), p=(0.05,))
    # a: high layer .30 for b, .60 for c; low layer .30 against .10. Direct .60 < .70: wrong first;
    # p = .05, t = 0: .3 ** .05 + .30 = 1.24 > .6 ** .05 + .10 = 1.07: right first.
    # c: high layer .60 for d, .30 for a; low .10 against .30: the other way round.
    high = np.array([[1.0, 0.3, 0.6, 0.0], [0.3, 0.0, 1.0, 0.6]])
    low = np.array([[1.0, 0.3, 0.1, 0.0], [0.3, 0.0, 1.0, 0.1]])
    result = summarise(plan, [score_batch(plan, 0, np.stack([high, low]))])
    assert result.best is not None
    assert result.cross_validated is not None
    assert result.best.score == pytest.approx(0.625)  # one right (1), one in second place (.25)
    assert result.cross_validated.score == pytest.approx(0.25)  # each group misleads the other
    assert result.cross_validated.score < result.best.score


@pytest.mark.parametrize("shape", [(1, 24, 24), (2, 24, 23), (2, 25, 24), (24, 24), (2, 0, 24)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    plan = plan_sweep(TRUTH, NAMES, PAPER)
    with pytest.raises(MismatchedQueries, match="search with the layers"):
        score_batch(plan, 0, np.zeros(shape))


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_a_similarity_outside_its_range_is_refused(value: float) -> None:
    plan = plan_sweep(TRUTH, NAMES, PAPER)
    with pytest.raises(InputError, match=r"lie in \[0, 1\]"):
        score_batch(plan, 0, np.full((2, 1, 24), value))


def test_a_batch_given_twice_or_not_at_all_is_refused() -> None:
    plan = plan_sweep(TRUTH, NAMES, PAPER, t=(), p=())
    part = score_batch(plan, 0, similarities()[:, :12])
    for parts in ([part], [part, part]):
        with pytest.raises(MismatchedQueries, match="12 of them distinct"):
            summarise(plan, parts)
