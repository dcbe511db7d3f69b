"""What would move a result up: the inverse of the map, and the sentences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.evaluate.pair import (
    Explanation,
    Neighbour,
    PairLayer,
    RankBy,
    Side,
    moves,
    needed_similarity,
)
from lamella.pipeline.search.fuse import map_similarity
from lamella.schemas.query import FusionSpec, LayerMap

FUSION = FusionSpec(layers=(LayerMap(layer="fc", t=0.2, p=0.5), LayerMap(layer="conv")))


def explanation(high: float, low: float, *above: Neighbour, rank: int = 3) -> Explanation:
    mapped = float(map_similarity(np.array([high]), 0.2, 0.5)[0])
    layers = (
        PairLayer("fc", "global", 0.2, 0.5, 1.0, high, mapped, mapped, 5),
        PairLayer("conv", "local", 1.0, 1.0, 1.0, low, low, low, 2, 3, 10, 12),
    )
    return Explanation(
        snapshot="0f" * 32,
        images=100,
        fusion=FUSION,
        weighting="tf",
        query=Side("a.jpg", 7, "same"),
        result=Side("b.jpg", 8, "same"),
        layers=layers,
        ranks=(RankBy("mapped", "", rank, mapped + low),),
        above=above,
        below=(),
        matches=(),
    )


def test_the_similarity_that_is_needed_by_hand() -> None:
    # t + (1 - t) ((f - t) / (1 - t)) ** (1 / p) = 0.2 + 0.8 * 0.5 ** 2 = 0.4
    assert needed_similarity(0.6, 0.2, 0.5) == pytest.approx(0.4)
    assert needed_similarity(0.1, 0.2, 0.5) == 0.1  # below t the map does nothing
    assert needed_similarity(0.6, 1.0, 1.0) == 0.6
    assert needed_similarity(0.6, 0.2, 0.0) == 0.2  # anything above t becomes 1
    assert needed_similarity(1.0, 0.2, 0.5) is None
    assert needed_similarity(-0.3, 0.2, 0.5) == 0.0


@given(st.floats(0.0, 0.999), st.floats(0.0, 1.0), st.floats(0.05, 1.0))
def test_it_is_the_inverse_of_the_map(similarity: float, t: float, p: float) -> None:
    mapped = float(map_similarity(np.array([similarity]), t, p)[0])
    needed = needed_similarity(min(mapped, 0.9999), t, p)
    assert needed is not None
    again = float(map_similarity(np.array([needed]), t, p)[0])
    assert again == pytest.approx(min(mapped, 0.9999), abs=1e-6)


def test_what_is_said_of_a_threshold() -> None:
    # f(0.4) = 0.2 + 0.8 * sqrt(0.25) = 0.6: lifted by 0.2
    assert moves(explanation(0.4, 0.3))[0] == (
        "S of fc is above t = 0.2: the map lifts it by 0.2000."
    )
    assert "not above t = 0.2 (0.0500 short)" in moves(explanation(0.15, 0.3))[0]
    assert moves(explanation(0.4, 0.3))[-1] == "No picture is above it."


def test_what_would_pass_the_picture_above() -> None:
    ahead = Neighbour(2, 9, "c.jpg", 1.0, (0.4, 0.4), (0.6, 0.4))
    said = moves(explanation(0.4, 0.3, ahead))
    # F is 0.9, so 0.1 is wanted: f of fc above 0.7, S = 0.2 + 0.8 * (0.5 / 0.8) ** 2 = 0.5125
    assert said[1] == "Rank 2 is 0.1000 ahead: +0.0000 by fc, +0.1000 by conv."
    assert "S of fc above 0.5125 (it is 0.4000), or S of conv above 0.4000" in said[2]


def test_a_gap_that_one_layer_cannot_close() -> None:
    ahead = Neighbour(2, 9, "c.jpg", 1.55, (0.9, 0.6), (0.95, 0.6))
    said = moves(explanation(0.4, 0.3, ahead))
    assert said[-1] == "No S of fc alone would do."
    far = Neighbour(2, 9, "c.jpg", 1.95, (1.0, 0.95), (1.0, 0.95))
    assert moves(explanation(0.4, 0.3, far))[-1] == "No S of fc or conv alone would do."


def test_a_tie_and_the_query_itself() -> None:
    own = explanation(0.4, 0.3)
    tie = Neighbour(2, 4, "c.jpg", own.score, (0.4, 0.3), (0.6, 0.3))
    assert "the same score" in moves(explanation(0.4, 0.3, tie))[-1]
    itself = Neighbour(1, 7, "a.jpg", 2.0, (1.0, 1.0), (1.0, 1.0))
    assert moves(explanation(0.4, 0.3, itself, rank=2))[-1] == (
        "Only the query itself is above it."
    )
