"""What people are told of passes in other precisions and batch sizes."""

import io

import pytest
import typer
from rich.console import Console

from lamella.cluster.commands.show_passes import (
    show_batch_sizes,
    show_precisions,
    specs_of_batch_sizes,
    specs_of_precisions,
)
from lamella.pipeline.bench.passes import Moved, PassTrial
from tests.pipeline.extract.specs import spec_of


def told(show: object, *given: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(console, *given)  # type: ignore[operator]
    return console.file.getvalue()  # type: ignore[attr-defined]


FULL = PassTrial("float32", 1, "", 8, 20.0, 1.0, {"head": Moved(8, 0, 1.0, 1.0)})
HALF = PassTrial("bfloat16", 1, "", 8, 5.0, 0.25, {"head": Moved(8, 0, 0.99881, 0.9935)})


def test_what_loses_is_said_to_lose() -> None:
    said = told(show_precisions, [FULL, HALF])
    assert "0.99881, 0.9935" in said
    assert "bfloat16 loses here: it takes 4.0 times as long" in said
    assert "another one changes digests and features" in said


def test_what_wins_by_hardware_is_not() -> None:
    fast = PassTrial("bfloat16", 1, "amx_bf16", 8, 50.0, 2.5, HALF.layers)
    said = told(show_precisions, [FULL, fast])
    assert "amx_bf16" in said
    assert "2.50" in said
    assert "loses" not in said


def test_a_fault_is_told_below_the_table() -> None:
    fault = PassTrial("float16", 1, "amx_fp16", fault="this CPU says that it has amx_fp16, and ...")
    said = told(show_precisions, [FULL, fault])
    assert said.count(fault.fault) == 1
    assert "float16 loses" not in said


def test_the_best_batch_size_is_named_with_its_price() -> None:
    four = PassTrial("float32", 4, "", 8, 30.0, 1.5, FULL.layers)
    said = told(show_batch_sizes, [FULL, four], 4)
    assert "times one picture" in said
    assert "best here: batch_size = 4, in float32 and full batches of one shape" in said
    assert "another size is another extraction" in said


def test_specs_are_those_asked_for_in_their_order() -> None:
    spec, _ = spec_of("efficientnet_lite0", "head", precision="float16")
    found = specs_of_precisions(spec, " bfloat16,float16, float32,bfloat16")
    assert [each.precision for each in found] == ["float16", "bfloat16", "float32"]
    assert [each.batch_size for each in specs_of_batch_sizes(spec, "8,1, 4")] == [1, 4, 8]
    assert (specs_of_precisions(spec, None), specs_of_batch_sizes(spec, None)) == ([spec], [])
    with pytest.raises(typer.BadParameter, match=r"no precision .bf16.: .*did you mean bfloat16"):
        specs_of_precisions(spec, "bf16")
    for wrong in ("1,none", "0", "2000", "-1"):
        with pytest.raises(typer.BadParameter, match=r"whole numbers from 1 to 1,024"):
            specs_of_batch_sizes(spec, wrong)
