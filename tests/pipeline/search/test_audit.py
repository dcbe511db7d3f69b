import numpy as np
import pytest

from lamella.pipeline.search.audit import audited_queries, measure_recall


def test_recall_by_hand() -> None:
    # 2 of 3 in the first; 1 of the 2 that there are in the second, whatever their order: 3 of 5.
    recall = measure_recall(np.array([[4, 2, 9], [5, 8, -1]]), np.array([[2, 4, 7], [8, 6, -1]]))
    assert (recall.queries, recall.wanted, recall.found) == (2, 5, 3)


@pytest.mark.parametrize(("queries", "audited"), [(1, 1), (5, 1), (40, 2), (64, 4), (1024, 64)])
def test_a_sixteenth_is_audited_and_one_at_least(queries: int, audited: int) -> None:
    places = audited_queries(np.arange(queries, dtype=np.int64))
    assert len(places) == audited
    assert np.all(np.diff(places) > 0)


def test_ids_choose_who_is_audited() -> None:
    ids = np.arange(100, 164, dtype=np.int64)
    shuffled = np.random.default_rng(0).permutation(ids)
    assert set(ids[audited_queries(ids)]) == set(shuffled[audited_queries(shuffled)])


def test_nobody_is_audited_where_nobody_asks() -> None:
    assert len(audited_queries(np.empty(0, np.int64))) == 0
