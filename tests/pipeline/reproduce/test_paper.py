"""The figures of the paper: how many there are, and some of them as printed."""

from collections import Counter

import pytest

from lamella.pipeline.reproduce.paper import (
    DATA_SETS,
    MISPRINTED,
    TABLE_8,
    Kind,
    pairs,
    published,
    score_of,
)
from lamella.schemas.reproduced import DataSetName


def test_there_are_54_pairs_and_the_map_gains_in_all_of_them() -> None:
    assert Counter(pair.table for pair in pairs()) == {"T2": 18, "T3": 9, "T6": 18, "T7": 9}
    assert len({(pair.network, pair.layers, pair.data_set) for pair in pairs()}) == 54
    assert all(pair.mapped > pair.direct for pair in pairs())


def test_every_score_of_tables_1_to_7_is_there_once() -> None:
    counts = Counter(each.table for each in published())
    singles = 5 * 3
    assert counts == {"T1": singles, "T5": singles, "T4": 9} | {
        table: 2 * of_pairs for table, of_pairs in (("T2", 18), ("T3", 9), ("T6", 18), ("T7", 9))
    }
    keys = [(each.network, each.layers, each.kind, each.data_set) for each in published()]
    assert len(set(keys)) == len(keys) == 147


@pytest.mark.parametrize(
    ("network", "layers", "kind", "data_set", "score"),
    [
        ("alexnet", ("conv4",), "alone", "oxford", 0.560),
        ("alexnet", ("fc2",), "alone", "ukb", 3.45),
        ("alexnet", ("fc2", "conv4"), "direct", "oxford", 0.591),
        ("alexnet", ("fc2", "conv4"), "mapped", "oxford", 0.611),
        ("alexnet", ("fc1", "conv5"), "mapped", "holidays", 0.877),
        ("alexnet", ("fc1", "conv3"), "direct", "ukb", 3.42),
        ("alexnet", ("fc2", "conv5", "conv3"), "mapped", "holidays", 0.884),
        ("alexnet", ("conv4", "conv3"), "mapped", "ukb", 3.131),
        ("vgg16", ("c5_1",), "alone", "oxford", 0.570),
        ("vgg16", ("fc1",), "alone", "ukb", 3.54),
        ("vgg16", ("fc2", "c3_1"), "mapped", "oxford", 0.467),
        ("vgg16", ("fc2", "c5_1"), "mapped", "ukb", 3.6),
        ("vgg16", ("fc1", "c4_1"), "direct", "holidays", 0.892),
        ("vgg16", ("fc1", "c4_1", "c3_1"), "mapped", "oxford", 0.565),
        ("vgg16", ("fc1", "c5_1", "c4_1"), "mapped", "ukb", 3.68),
    ],
)
def test_scores_are_as_printed(
    network: str, layers: tuple[str, ...], kind: Kind, data_set: DataSetName, score: float
) -> None:
    found = score_of(network, layers, kind, data_set)
    assert found is not None
    assert found.score == score


def test_what_the_paper_does_not_have_is_not_made_up() -> None:
    assert score_of("vgg16", ("c5_1", "c4_1"), "mapped", "oxford") is None
    assert score_of("alexnet", ("conv5", "conv4"), "direct", "oxford") is None
    assert score_of("efficientnet_lite0", ("head",), "alone", "ukb") is None


def test_table_8_has_the_best_of_the_tables_before_it() -> None:
    ours = {line.method: line for line in TABLE_8[:4]}
    for network, title in (("alexnet", "AlexNet"), ("vgg16", "VGG-16")):
        for layers, count in ((2, "two"), (3, "three")):
            line = ours[f"{title}, {count} layers"]
            for data_set in DATA_SETS:
                scores = [
                    pair.mapped
                    for pair in pairs()
                    if (pair.network, len(pair.layers), pair.data_set)
                    == (network, layers, data_set)
                ]
                assert getattr(line, data_set) in scores


def test_the_misprint_is_a_score_of_the_tables() -> None:
    table, layer, data_set = MISPRINTED
    (found,) = (
        each
        for each in published()
        if (each.table, each.layers, each.data_set) == (table, (layer,), data_set)
    )
    assert found.score == 2.23
