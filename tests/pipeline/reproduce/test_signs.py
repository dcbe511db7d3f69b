"""Signs and orders, counted by hand, and what is said of them."""

from lamella.pipeline.reproduce.planning import NotRun
from lamella.pipeline.reproduce.signs import (
    Records,
    orders,
    other_signs,
    signs,
    tally,
    tally_orders,
)
from lamella.pipeline.reproduce.summary import headline, sentences, summary
from tests.pipeline.reproduce.made import fused, record

# Two pairs of table 6 and one of table 7, on Oxford; c5_1 + c4_1 is no pair of the paper.
VGG = record(
    "vgg16",
    "oxford",
    {"fc1": 0.45, "c5_1": 0.5, "c4_1": 0.55, "c3_1": 0.25},
    fused(("fc1", "c4_1"), 0.5, 0.625, sure=True),
    fused(("fc1", "c3_1"), 0.5, 0.4375),
    fused(("fc1", "c5_1", "c4_1"), 0.5, 0.5),
    fused(("c5_1", "c4_1"), 0.5, 0.375, sure=True),
)
LITE = record(
    "efficientnet_lite0", "ukb", {"head": 3.5, "b11": 3.0}, fused(("head", "b11"), 3, 3.5)
)
RECORDS: Records = {("vgg16", "oxford"): VGG, ("efficientnet_lite0", "ukb"): LITE}


def test_the_signs_of_the_paper_are_agreed_with_or_not_or_not_run() -> None:
    found = signs(RECORDS)
    assert len(found) == 54
    run = {sign.layers: sign.verdict for sign in found if sign.verdict != "not run"}
    assert run == {
        ("fc1", "c4_1"): "agree",
        ("fc1", "c3_1"): "disagree",
        ("fc1", "c5_1", "c4_1"): "disagree",  # no gain at all
    }
    assert [sign.layers for sign in found if sign.equal] == [("fc1", "c5_1", "c4_1")]
    counts = tally(found)
    assert (counts.agree, counts.disagree, counts.not_run, counts.all) == (1, 2, 51, 54)
    assert (counts.shown_agree, counts.shown_disagree) == (1, 0)


def test_signs_of_other_layers_are_counted_apart() -> None:
    found = other_signs(RECORDS)
    assert [(sign.network, sign.layers, sign.verdict) for sign in found] == [
        ("vgg16", ("c5_1", "c4_1"), "disagree"),
        ("efficientnet_lite0", ("head", "b11"), "agree"),
    ]
    assert tally(found).shown_disagree == 1


def test_orders_of_layers_are_those_of_two_layers_each() -> None:
    found = [order for order in orders(RECORDS) if order.verdict != "not run"]
    # Printed: c5_1 .570, c4_1 .504, fc1 .439, c3_1 .381; here c4_1 is above c5_1, else alike.
    assert len(found) == 6
    wrong = [(order.better, order.worse) for order in found if order.verdict == "disagree"]
    assert wrong == [("c5_1", "c4_1")]


def test_all_orders_but_those_of_the_misprint_are_there() -> None:
    counts = tally_orders(orders({}))
    # 10 pairs of five layers, six times; conv5 on UKB takes part in none of its 4
    assert (counts.run, counts.all) == (0, 56)


def test_what_is_said_counts_what_was_run() -> None:
    assert headline(RECORDS).startswith("1 of the 3 pairs of the paper's 54 that could be run")
    said = " ".join(sentences(RECORDS))
    assert "5 of 6 orders" in said
    assert "not c5_1 above c4_1 on Oxford5k (VGG-16)" in said
    assert "EfficientNet-Lite0 gains by the map in 1, and loses or stays equal in 0" in said


def test_without_fully_connected_layers_nothing_is_claimed() -> None:
    conv = record("vgg16", "oxford", {"c5_1": 0.5, "c4_1": 0.4}, fused(("c5_1", "c4_1"), 0.5, 0.6))
    assert "None of the paper's 54 pairs" in headline({("vgg16", "oxford"): conv})
    assert "fully connected" in headline({("vgg16", "oxford"): conv})
    assert "no network" in headline({})


def test_every_pair_is_told_with_the_papers_figures_and_ours() -> None:
    found = summary(RECORDS, [])["pairs"]
    assert len(found) == 54
    agreed, missing = (
        next(each for each in found if each["verdict"] == verdict)
        for verdict in ("agree", "not run")
    )
    assert agreed == {
        "table": "T6",
        "network": "vgg16",
        "layers": ["fc1", "c4_1"],
        "data_set": "oxford",
        "paper": [0.561, 0.573],
        "here": [0.5, 0.625],
        "verdict": "agree",
    }
    assert (missing["table"], missing["here"]) == ("T2", None)


def test_plain_values_have_the_counts_and_the_matrices_and_no_pictures() -> None:
    two: Records = {
        ("vgg16", "oxford"): record(
            "vgg16", "oxford", {"a": 0.5}, fused(("a", "b"), 0.25, 0.5, at=1)
        ),
        ("vgg16", "holidays"): record(
            "vgg16", "holidays", {"a": 0.5}, fused(("a", "b"), 0.25, 0.5, at=2), pictures=True
        ),
    }
    values = summary(two, [NotRun("UKB", "the data set was not given", "lamella reproduce")])
    (matrix,) = values["transfer"]
    rows = {row["name"]: row["losses"] for row in matrix["rows"]}
    assert rows["oxford"] == {"oxford": 0.0, "holidays": 0.25}
    assert rows["holidays"] == {"oxford": 0.25, "holidays": 0.0}
    assert rows["published"] == {"oxford": 0.25, "holidays": 0.25}
    assert rows["scaled"] == {"oxford": 0.125, "holidays": 0.125}
    assert rows["direct"] == {"oxford": 0.5, "holidays": 0.5}
    assert values["not_run"][0]["what"] == "UKB"
    assert all("shown" not in score for score in values["scores"])
