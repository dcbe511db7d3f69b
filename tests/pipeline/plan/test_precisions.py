"""What a plan says of half precision: nothing, or one line from what was measured."""

from pathlib import Path

import pytest
import torch

from lamella.pipeline.bench import passes
from lamella.pipeline.bench.passes import Moved, PassTrial
from lamella.pipeline.jobs.indexing import prepare
from lamella.pipeline.plan.make import make_plan
from lamella.pipeline.plan.precisions import advice_on
from lamella.schemas.extraction import Precision
from lamella.schemas.plan import Plan, TriedPrecision
from tests.tiny import tiny_job, tiny_pictures


def tried(precision: Precision, ratio: float, head: float = 1, fault: str = "") -> TriedPrecision:
    return TriedPrecision(
        precision=precision,
        pictures=32,
        pictures_per_second=20 * ratio,
        ratio=ratio,
        mean_cosine={"head": head, "p15": 0.9975},
        least_cosine={"head": 0.9, "p15": 0.8},
        fault=fault,
    )


FULL = tried("float32", 1)


def test_nothing_is_said_below_a_third_more() -> None:
    assert advice_on([]) == ""
    assert advice_on([FULL]) == ""
    assert advice_on([FULL, tried("bfloat16", 1.29)]) == ""
    assert advice_on([FULL, tried("bfloat16", 1.31)]) != ""


def test_the_line_says_what_is_won_and_what_changes() -> None:
    assert advice_on([FULL, tried("bfloat16", 2.38, 0.99881)]) == (
        'network.precision = "bfloat16" makes passes 2.4 times as fast on this CPU '
        "(47.6 pictures/s, 32 tried); it is another extraction: digests and features change "
        "(mean cosine to float32: head 0.99881, p15 0.99750)"
    )


def test_of_two_that_are_as_fast_the_nearer_one_is_recommended() -> None:
    def said(*others: TriedPrecision) -> str:
        return advice_on([FULL, *others]).partition(" makes")[0]

    near = {"head": 0.99999, "p15": 0.99999}
    half = tried("float16", 2.2).model_copy(update={"mean_cosine": near})
    assert said(tried("bfloat16", 2.4), half) == 'network.precision = "float16"'
    slow = half.model_copy(update={"ratio": 2.1})  # less than 90 % of 2.4
    assert said(tried("bfloat16", 2.4), slow) == 'network.precision = "bfloat16"'


def test_a_cpu_that_lies_is_named_where_nothing_is_recommended() -> None:
    lie = tried("bfloat16", 0, fault="this CPU says that it has amx_bf16, and ...")
    assert advice_on([FULL, lie]) == f"bfloat16 was tried beside: {lie.fault}"
    assert advice_on([FULL, lie, tried("float16", 2)]).startswith('network.precision = "float16"')


def planned(folder: Path, **settings: object) -> Plan:
    pictures = tiny_pictures(folder / "pictures", count=5, broken=1)
    job = tiny_job(engine__kind="serial", **settings)
    return make_plan(prepare(str(pictures), job), sample=5)


def test_only_what_the_cpu_has_is_measured_on_the_pictures_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    none = planned(tmp_path / "none")
    assert (none.precisions, none.advice) == ((), "")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    beside = planned(tmp_path / "bfloat16")
    one, other = beside.precisions
    assert (one.precision, one.ratio, other.precision) == ("float32", 1, "bfloat16")
    assert one.pictures == other.pictures >= 4
    for name in ("head", "p15"):
        assert one.mean_cosine[name] == pytest.approx(1)
        assert 0.9 < other.least_cosine[name] <= other.mean_cosine[name] < 1
    assert Plan.from_json(beside.to_json()) == beside


def test_a_plan_in_half_precision_tries_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert planned(tmp_path, network__precision="bfloat16").precisions == ()


def test_what_is_much_faster_is_in_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*given: object, **more: object) -> tuple[PassTrial, ...]:
        layers = {"head": Moved(4, 0, 0.9988, 0.99)}
        first = PassTrial("float32", 1, "", 4, 20.0, 1.0, {"head": Moved(4, 0, 1.0, 1.0)})
        return first, PassTrial("bfloat16", 1, "amx_bf16", 4, 50.0, 2.5, layers)

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(passes, "compare_passes", measured)
    plan = planned(tmp_path)
    assert 'network.precision = "bfloat16" makes passes 2.5 times as fast' in plan.advice
    assert [each.ratio for each in plan.precisions] == [1.0, 2.5]
