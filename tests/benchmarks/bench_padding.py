"""What share of the network's work goes into padding, on real photographs; sizes alone, no pixels.

python -m pytest -q -s tests/benchmarks/bench_padding.py
"""

from pathlib import Path

import pytest
from PIL import Image

from lamella.pipeline.extract.batches import plan_batches, wasted_share
from lamella.pipeline.networks.weights import LITE0
from lamella.schemas.extraction import PreprocessSpec
from tests.pipeline.extract.specs import spec_of

PHOTOGRAPHS = Path("../shared/data")


@pytest.mark.bench
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="real shapes need ../shared/data")
@pytest.mark.parametrize("folder", ["ukbench", "oxford5k", "."])
def test_padding_of_real_shapes(folder: str) -> None:
    sizes = []
    for path in sorted((PHOTOGRAPHS / folder).rglob("*.jpg")):
        try:
            with Image.open(path) as image:
                sizes.append((image.height, image.width))
        except OSError:
            continue
    print()
    for multiple in (1, 32):
        for shard, times in ((500, 1), (5_000, 10)):
            cut = [(sizes * times)[at : at + shard] for at in range(0, len(sizes) * times, shard)]
            shares = []
            for batch_size in (8, 16, 64, 256):
                preprocess = PreprocessSpec(long_edge_multiple=multiple)
                spec, _ = spec_of(LITE0, "head", preprocess=preprocess, batch_size=batch_size)
                batches = [batch for each in cut for batch in plan_batches(each, spec)]
                shares.append(wasted_share(batches, spec))
            print(
                f"{folder}: {len(sizes)} pictures {times} times, multiple {multiple}, shards of "
                f"{shard:,}, batches of 8, 16, 64, 256:",
                *(f"{share:.2f}" for share in shares),
            )
            assert all(0 <= share < 1 for share in shares)
