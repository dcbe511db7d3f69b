"""Reaches are found by measurement: the same each time, rising, and true of the sample."""

import numpy as np
import pytest

from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.pipeline.search.tune import TARGETS, ReachSearch, lower_recall, tune
from lamella.schemas.extraction import LayerKind
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import Proposers, Reach
from tests.pipeline.search.fast_servers import Cells, Servers, drafted, known, reach
from tests.pipeline.search.test_exact import SPECS, random_corpus
from tests.pipeline.search.test_fast import OF_WORDS, cut_into, high_of

IMAGES, CELLS = 300, 16
KINDS: dict[str, LayerKind] = {"high": "global", "low": "local", "middle": "local"}


def tuned(parts: int, servers: int, k: int = 10, images: int = IMAGES) -> Proposers:
    segment, _ = random_corpus(31, images)
    centres = np.random.default_rng(2).standard_normal((CELLS, 5)).astype(np.float32)
    cut, _ = cut_into(segment, parts)
    cells = [{"high": Cells(high_of(each), centres)} for each in cut]
    asked = Servers(cut, OF_WORDS, servers, cells)
    draft = drafted(images, SPECS[0], KINDS, known(cells=CELLS))
    return tune(Coordinator(asked, images, draft.proposers), draft, k)


def test_reaches_rise_with_their_cost_and_do_not_depend_on_cut_or_servers() -> None:
    found = tuned(1, 1)
    assert found == tuned(3, 2)
    recalls = [each.recall for each in found.reaches]
    assert recalls == sorted(set(recalls))
    assert recalls[-1] >= 0.99
    assert (found.k, found.queries, found.cells) == (10, 64, CELLS)
    assert len(recalls) > 1
    for target in TARGETS:
        assert any(recall >= target for recall in recalls)


def test_where_a_layer_proposes_every_image_all_is_found() -> None:
    found = tuned(1, 1, k=5, images=12)
    assert found.reaches[-1].recall == 1.0
    assert found.queries == 12


@pytest.mark.parametrize("images", [0, 1])
def test_an_index_in_which_nothing_can_be_found_has_one_reach(images: int) -> None:
    found = tuned(1, 1, k=5, images=images)
    assert [each.recall for each in found.reaches] == [1.0]
    assert found.queries == 0


def test_an_index_without_proposers_is_not_tuned() -> None:
    draft = drafted(1, SPECS[0], KINDS, None)
    segment, _ = random_corpus(1, 2)
    with pytest.raises(ValueError, match="no proposers"):
        tune(Coordinator(Servers([segment], OF_WORDS), 2), draft, 5)


def test_the_lower_recall_is_worked_by_hand() -> None:
    # Shares 1, 1/2 and none wanted: mean .75, standard deviation sqrt(.125) = .3535..., error .25.
    wanted = np.array([[1, 2], [3, 4], [-1, -1]])
    found = np.array([[2, 1], [3, 9], [5, 6]])
    assert lower_recall(wanted, found) == 0.5
    assert lower_recall(wanted[:1], found[:1]) == 1.0
    assert lower_recall(wanted[2:], found[2:]) == 1.0
    assert lower_recall(wanted, found - 100) == 0.0


NUMBERS = ("cells", "proposed", "postings", "decided")


class Scripted(Coordinator):
    """Finds an image each for the numbers of a reach that are as great as is needed."""

    def __init__(self, needs: Reach) -> None:
        self.images, self.needs, self.asked = 1 << 20, needs, 0

    def answer_by(  # type: ignore[override]
        self, reach: Reach, queries: QueryBatch, spec: FusionSpec, k: int, where: None = None
    ) -> Answer:
        self.asked += 1
        enough = [getattr(reach, name) >= getattr(self.needs, name) for name in NUMBERS]
        ids = np.where(enough, [[1, 2, 3, 4]], -1)
        ids = np.concatenate([ids, [[9]]], axis=1)
        return Answer(ids, np.ones((1, 5)), np.ones((1, 5, 2)), np.zeros(1, np.bool_))


def test_each_number_is_shrunk_alone_to_a_third_above_what_is_needed() -> None:
    needs = reach(3, 900, 5_000, decided=300)
    coordinator = Scripted(needs)
    queries = QueryBatch({"high": np.ones((1, 5), np.float32)})
    search = ReachSearch(
        coordinator, SPECS[0], queries, np.array([9]), np.array([[1, 2, 3, 4]]),
        reach(64, 1 << 20, 1 << 30, decided=1 << 20), known(cells=64),
    )  # fmt: skip
    search.climb()
    for target in TARGETS:
        search.settle(target)
    best = search.chosen()[-1]
    assert best.recall == 1.0
    for name in NUMBERS:
        least = getattr(needs, name)
        assert least <= getattr(best, name) <= least / 0.7 + 1
