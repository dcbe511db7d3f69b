from typing import Any

import pytest

from lamella.pipeline.doctor import products
from lamella.pipeline.doctor.imports import Imported
from lamella.pipeline.products.cpu import Cpu

FACTS: dict[str, Any] = {
    "float32": {"wrong": "", "gflops": 80.0},
    "bfloat16": {"wrong": "", "gflops": 376.0},
    "int8": {"wrong": "", "gflops": 120.0},
}


@pytest.fixture(autouse=True)
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Cpu("A CPU", "AVX512", bfloat16="amx_bf16")
    monkeypatch.setattr(products, "this_cpu", lambda: cpu)


def test_speeds_are_told_beside_that_of_float32() -> None:
    found = products.finding(Imported(facts=FACTS))
    assert (found.what, found.state) == ("products", "ok")
    assert found.says == (
        "float32 80 GFLOP/s on a core; bfloat16 4.7 times that, by amx_bf16; int8 1.5 times that"
    )


def test_a_kind_that_breaks_its_bounds_is_told() -> None:
    lying = {**FACTS, "bfloat16": {"wrong": "a product is 3 and was computed as nan", "gflops": 0}}
    found = products.finding(Imported(facts=lying))
    assert found.state == "broken"
    assert "bfloat16: a product is 3 and was computed as nan" in found.says
    assert found.says.endswith("float32 is used instead, with the same answers")
    assert not found.needed


def test_without_torch_there_is_float32_alone() -> None:
    found = products.finding(Imported("No module named 'torch'"))
    assert (found.state, found.says) == ("missing", "float32 alone: No module named 'torch'")
