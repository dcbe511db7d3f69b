"""Exact words on a graphics card beside the bare matrix product that they cost."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lamella.pipeline.vocabulary import on_gpu
from lamella.pipeline.vocabulary.on_gpu import GpuAssigner
from tests.benchmarks.record import Measurement, write_record

WORDS, DIMENSIONS, ROWS, SOURCES, AUDITED = 100_000, 512, 1_000_000, 20_000, 2_000
SIZES = {"words": WORDS, "dimensions": DIMENSIONS, "rows": ROWS}


def draw(count: int, sources: torch.Tensor, seed: int) -> NDArray[np.float32]:
    """Return unit rows around the sources, none negative, as a network's are, made on the card."""
    generator = torch.Generator("cuda").manual_seed(seed)
    parts = []
    for at in range(0, count, 100_000):
        rows = min(100_000, count - at)
        picks = torch.randint(len(sources), (rows,), generator=generator, device="cuda")
        noise = torch.randn((rows, DIMENSIONS), generator=generator, device="cuda")
        vectors = (sources[picks] + 0.5 * noise).clamp_(min=0)
        parts.append(torch.nn.functional.normalize(vectors).cpu().numpy())
    return np.concatenate(parts)


def bare_rows_per_second(tile: int, words: torch.Tensor, tf32: bool) -> float:
    """Return at which rate rows are multiplied with all words and nothing else; best of 7."""
    rows = torch.randn((tile, DIMENSIONS), device="cuda")
    room = torch.empty((tile, len(words)), device="cuda")
    best = np.inf
    for _ in range(7):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with on_gpu._precision("cuda", tf32):
            torch.matmul(rows, words.T, out=room)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return tile / best


def nearest_in_float64(
    rows: NDArray[np.float32], words: NDArray[np.float32]
) -> NDArray[np.integer[Any]]:
    """Return the nearest word of each row by float64 products on the card."""
    right = torch.from_numpy(words).cuda().double()
    half_norms = (right**2).sum(dim=1) / 2
    found = [
        (half_norms - torch.from_numpy(rows[at : at + 250]).cuda().double() @ right.T).argmin(dim=1)
        for at in range(0, len(rows), 250)
    ]
    answer: NDArray[np.integer[Any]] = torch.cat(found).cpu().numpy()
    return answer


@pytest.mark.bench
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA here")
def test_gpu_assignment_beside_the_bare_product(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    sources = torch.randn((SOURCES, DIMENSIONS), generator=generator, device="cuda").clamp_(min=0)
    words, rows = draw(WORDS, sources, 1), draw(ROWS, sources, 2)
    torch.cuda.empty_cache()
    card = torch.cuda.get_device_name()
    pairs: list[int] = []
    whole: list[int] = []
    decide_among = vars(on_gpu)["decide_among"]

    def counted(rows: Any, centroids: Any, table: Any, *answer: Any) -> None:
        pairs.append(int((table >= 0).sum()))
        whole.append(int((table[:, 0] < 0).sum()))
        decide_among(rows, centroids, table, *answer)

    measurements = []
    for tf32 in (True, False):
        name = "TF32" if tf32 else "float32"
        assigner = GpuAssigner(words, tf32=tf32)
        with monkeypatch.context() as patch:
            patch.setattr(on_gpu, "decide_among", counted)
            pairs.clear()
            whole.clear()
            assigner.assign(rows[:50_000])  # compiles, and fills the pools of memory
            proposals = sum(pairs) / 50_000
        seconds = np.inf
        for _ in range(2):
            start = time.perf_counter()
            assignment = assigner.assign(rows)
            seconds = min(seconds, time.perf_counter() - start)
        bare = bare_rows_per_second(assigner._rows, assigner._operand, tf32)
        agreement = float(
            np.mean(nearest_in_float64(rows[:AUDITED], words) == assignment.words[:AUDITED])
        )
        print(
            f"\n{card} {name}: {ROWS / seconds:,.0f} rows/s of {bare:,.0f} "
            f"({2 * bare * WORDS * DIMENSIONS / 1e12:.0f} TFLOP/s), {proposals:.2f} proposals a "
            f"row, {sum(whole) / 500:.2f} % of rows met all words, agreement {agreement:.2%}"
        )
        measurements += [
            Measurement(
                f"assign {name}", SIZES, ROWS / seconds, bare, f"product alone, {card}", "rows/s"
            ),
            Measurement(
                f"proposals {name}", SIZES, 1 / proposals, 1, "one a row", "rows a proposal"
            ),
            Measurement(
                f"agreement {name}",
                {**SIZES, "rows": AUDITED},
                agreement,
                1,
                "float64 products on the card",
                "share of rows",
            ),
        ]
        del assigner
        torch.cuda.empty_cache()
    write_record("gpu_assign.json", measurements)
    assert all(entry.ours == 1 for entry in measurements if entry.name.startswith("agreement"))
