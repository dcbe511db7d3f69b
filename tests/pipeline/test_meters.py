from collections.abc import Iterator

import pytest

from lamella.pipeline import meters
from lamella.pipeline.meters import PICTURES, QUERY_SECONDS, REFUSED, WORKERS, WORKERS_LOST


@pytest.fixture(autouse=True)
def _of_no_one_else() -> Iterator[None]:
    meters.reset()
    yield
    meters.reset()


def test_counters_add_up_by_their_labels() -> None:
    PICTURES.add(3, stage="extract", state="indexed")
    PICTURES.add(2, stage="extract", state="indexed")
    PICTURES.add(1, stage="extract", state="refused")
    assert meters.values(PICTURES) == {("extract", "indexed"): 5, ("extract", "refused"): 1}


def test_a_gauge_has_its_last_value() -> None:
    WORKERS.set(8, kind="cpu")
    WORKERS.set(7, kind="cpu")
    assert meters.values(WORKERS) == {("cpu",): 7}


def test_a_histogram_counts_each_value_at_its_bound() -> None:
    """.001 is at most the first bound, .002 at most the second, .003; 60 is above all of them."""
    QUERY_SECONDS.observe(0.001)
    QUERY_SECONDS.observe(0.002, 64)
    QUERY_SECONDS.observe(60.0)
    (found,) = meters.histograms(QUERY_SECONDS).values()
    assert found.counts == [1, 64, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.total == pytest.approx(0.001 + 64 * 0.002 + 60)


def test_the_driver_has_what_its_workers_added_once() -> None:
    REFUSED.add(reason="too-slow")
    WORKERS.set(1, kind="cpu")
    added = meters.take()
    assert meters.take() == {}
    REFUSED.add(2, reason="too-slow")  # of the driver itself
    meters.merge(added)
    assert meters.values(REFUSED) == {("too-slow",): 3}
    assert added == {("lamella_refused_total", ("too-slow",)): 1}  # and no gauge of the worker


def test_a_label_that_a_metric_does_not_have_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"lamella_refused_total has the labels \('reason',\)"):
        REFUSED.add(cause="too-slow")
    with pytest.raises(ValueError, match="no"):
        WORKERS_LOST.add(node="a")


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name, metric in meters.METRICS.items():
        assert name.startswith("lamella_")
        assert name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
