from pathlib import Path

import pytest
import torch

from lamella.pipeline.extract.determinism import kind_of_machine
from lamella.pipeline.products.cpu import Cpu, cpu_model, this_cpu

GRANITE = (
    "fpu avx2 avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8 "
    "amx_fp16"
)
NOT_HERE = (
    "_is_avx512_supported",
    "_is_vnni_supported",
    "_is_avx512_bf16_supported",
    "_is_amx_fp16_supported",
)


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


def root_with(folder: Path, flags: str) -> Path:
    (folder / "proc").mkdir()
    (folder / "proc/cpuinfo").write_text(f"model name\t: A CPU\nflags\t\t: {flags}\n\n" * 2)
    return folder


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("fpu sse4_1", "", ("", "", "", "")),
        ("fpu avx2", "", ("AVX2", "", "", "")),
        ("avx2 avx_vnni", "", ("AVX2", "", "", "avx_vnni")),
        ("avx2 avx512f avx512_vnni", "", ("AVX512", "", "", "avx512_vnni")),
        (GRANITE, "", ("AVX512", "amx_bf16", "amx_fp16", "amx_int8")),
        (GRANITE, "ALL", ("AVX512", "amx_bf16", "amx_fp16", "amx_int8")),
        (GRANITE, "of a later oneDNN", ("AVX512", "amx_bf16", "amx_fp16", "amx_int8")),
        (GRANITE, "avx512_core_amx", ("AVX512", "amx_bf16", "avx512_fp16", "amx_int8")),
        (GRANITE, "AVX512_CORE_FP16", ("AVX512", "avx512_bf16", "avx512_fp16", "avx512_vnni")),
        (GRANITE, "AVX512_CORE_BF16", ("AVX512", "avx512_bf16", "", "avx512_vnni")),
        (GRANITE, "AVX512_CORE_VNNI", ("AVX512", "", "", "avx512_vnni")),
        (GRANITE, "AVX512_CORE", ("AVX512", "", "", "avx_vnni")),
        (GRANITE, "AVX2", ("AVX2", "", "", "")),
        (GRANITE, "SSE41", ("", "", "", "")),
        ("sve_bf16 fp16_arith", "AVX2", ("", "sve_bf16", "fp16_arith", "")),
    ],
)
def test_what_a_cpu_has_is_what_it_says_less_what_onednn_may_not_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: str,
    limit: str,
    expected: tuple[str, str, str, str],
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    has = Cpu("A CPU", *expected)
    assert this_cpu(root_with(tmp_path, flags)) == has
    said = {"avx512_f" if flag == "avx512f" else flag: True for flag in flags.split()}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: said, raising=False)
    assert this_cpu() == Cpu(cpu_model(), *expected)
    assert [has.multiplies(each) for each in ("bfloat16", "float16", "int8", "float32")] == [
        *expected[1:],
        "",
    ]


def test_a_machine_that_says_nothing_has_nothing(tmp_path: Path) -> None:
    assert this_cpu(tmp_path).vectors == ""
    assert cpu_model(tmp_path)


def test_torch_and_linux_say_the_same_of_this_cpu(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(Path("/proc/cpuinfo").read_text())
    assert this_cpu() == this_cpu(tmp_path)


def test_older_torch_is_asked_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name in ("_is_avx2_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: True, raising=False)
    for name in NOT_HERE:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    found = this_cpu()
    assert (found.vectors, found.bfloat16, found.int8) == ("AVX2", "amx_bf16", "amx_int8")


def test_features_name_the_same_model() -> None:
    assert kind_of_machine(torch.device("cpu")).startswith(f"{cpu_model()}, ")
