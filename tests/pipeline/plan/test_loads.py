"""From seconds of one thread to hours, against numbers worked by hand."""

import pytest

from lamella.pipeline.plan.figures import mean_of, per, product, scaled, total
from lamella.pipeline.plan.loads import Load, hours_on
from lamella.schemas.plan import Figure


def figure(mean: float, error: float = 0.0) -> Figure:
    return Figure(mean=mean, error=error)


def load(**changes: object) -> Load:
    """1,000 pictures in 10 tasks: 20 ms to decode and 30 ms in the network, each."""
    steps = {"decode": figure(0.02), "forward": figure(0.03)}
    values: dict[str, object] = {"steps": steps, "pictures": 1_000, "tasks": 10} | changes
    return Load("extract", **values)  # type: ignore[arg-type]


def test_a_mean_has_its_standard_error() -> None:
    # 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, s = sqrt(14 / 3), over sqrt(4)
    found = mean_of([1.0, 2.0, 3.0, 6.0])
    assert found.mean == 3.0
    assert found.error == pytest.approx((14 / 3) ** 0.5 / 2)
    assert mean_of([5.0]) == figure(5.0)
    assert mean_of([]) == figure(0.0)


def test_errors_follow_sums_products_and_rates() -> None:
    assert total([figure(1, 0.3), figure(2, 0.4)]).error == pytest.approx(0.5)
    assert scaled(figure(2, 0.5), 4, plus=1) == figure(9, 2)
    # 2 x 5: 0.1 x 5 = 0.5 and 2 x 0.6 = 1.2; sqrt(0.25 + 1.44) = 1.3
    assert product(figure(2, 0.1), figure(5, 0.6)).error == pytest.approx(1.3)
    # 100 pictures in 4 s are 25 a second; 10 % of error stays 10 %
    assert per(figure(4, 0.4), 100) == figure(25, 2.5)


def test_steps_share_the_threads_of_a_cpu() -> None:
    # 1,000 x 0.05 s = 50 s of one thread, in 10 tasks of 5 s
    assert load().seconds(1, 1).mean == pytest.approx(50)
    assert load().seconds(2, 1).mean == pytest.approx(25)
    assert load(threaded=True).seconds(1, 2).mean == pytest.approx(25)
    assert load().seconds(1, 2).mean == pytest.approx(50)  # a task has one thread


def test_no_more_workers_than_tasks_are_of_use() -> None:
    # On 4 workers, 10 tasks of 5 s take 3 turns; on 64 one turn, as on 10
    assert load().seconds(4, 1).mean == pytest.approx(15)
    assert load().seconds(64, 1).mean == load().seconds(10, 1).mean == pytest.approx(5)


def test_on_a_gpu_the_slower_of_gpu_and_threads_decides() -> None:
    gpu = load(gpu_steps=("forward",), threaded=True)
    # 0.02 s of one thread beside 0.03 s of the GPU: the GPU; of 1 GPU 1,000 x 0.03 = 30 s
    assert gpu.seconds(1, 1).mean == pytest.approx(30)
    slow = load(steps={"decode": figure(0.2), "forward": figure(0.03)}, gpu_steps=("forward",))
    assert slow.seconds(1, 1).mean == pytest.approx(200)
    # and what the GPU does beside its passes, where that is slower still
    both = {"read": figure(0.2), "decode": figure(0.4), "forward": figure(0.03)}
    slower = load(steps=both, gpu_steps=("decode", "forward"))
    assert slower.seconds(1, 1).mean == pytest.approx(400)
    # 10 tasks on 8 GPUs: two turns of 3 s
    assert gpu.seconds(8, 1).mean == pytest.approx(6)


def test_what_is_fixed_and_the_opening_are_paid_whatever_the_pictures() -> None:
    # 50 s of pictures and 10 s beside, in 10 tasks on 5 workers: 12 s, and 2 s until they stand
    assert load(fixed=10.0, opening=2.0).seconds(5, 1).mean == pytest.approx(14)


def test_hours_are_those_of_all_stages_and_gpus_serve_the_stages_that_use_them() -> None:
    loads = [load(gpu_steps=("forward",), threaded=True), load()]
    # 4 CPU workers beside 1 GPU: 30 s, and 3 turns of 5 s
    assert hours_on(loads, workers=4, threads=1, gpus=1).mean == pytest.approx(45 / 3600)
    # with 2 GPUs and 8 workers: 15 s, and 2 turns
    assert hours_on(loads, workers=8, threads=1, gpus=2).mean == pytest.approx(25 / 3600)


def test_the_error_of_the_sample_is_in_the_hours() -> None:
    uncertain = load(steps={"decode": figure(0.05, 0.005)})
    # 10 % of 50 s on one worker
    assert hours_on([uncertain, uncertain], 1, 1).error * 3600 == pytest.approx(10)
