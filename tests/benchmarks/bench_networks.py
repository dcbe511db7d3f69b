"""What networks cost: until one is built, layers, pictures a second, bytes a picture.

Each in a process of its own, with seeded random weights where its own are not at hand: they change
no time. Pictures are drawn JPEGs of 640 x 480, seen as each network's library says. Writes
build/bench/networks.json.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.work import PictureSource, forward_pictures
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.networks import listed
from lamella.pipeline.networks.providers import foreign
from lamella.pipeline.networks.weights import LITE0
from tests.benchmarks.record import write_json
from tests.pictures import draw_jpegs
from tests.pipeline.extract.specs import random_weights, rows_of

NETWORKS = (
    LITE0,
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet50",
    "timm:resnet50",
    "timm:convnext_tiny",
    "timm:efficientnet_b0",
    "timm:vit_small_patch16_224",
    "timm:vit_small_patch14_reg4_dinov2",
    "timm:vit_small_patch16_dinov3",
    "timm:vit_base_patch16_siglip_224",
    "open_clip:ViT-B-32",
)
THREADS = 2
SECONDS = 8.0
"""No more pictures are begun after this time."""


def measure(network: str, folder: str) -> dict[str, Any]:
    """Return what a network costs; run in a process that has imported no library of networks."""
    place = Path(folder)
    began = time.perf_counter()
    other = foreign(network)
    model = listed.build(network) if other is None else other.build()
    building = time.perf_counter() - began
    settings: dict[str, Any] = {"name": network}
    weights = place / f"{network.replace(':', '-')}.safetensors"
    if other is not None:
        save_file({name: each.contiguous() for name, each in model.state_dict().items()}, weights)
        settings["weights"] = str(weights)
    elif not network.startswith("efficientnet_lite"):
        settings["weights"] = str(random_weights(network, weights))
    parameters = sum(each.numel() for each in model.parameters())
    del model
    began = time.perf_counter()
    spec, path = resolve_extraction(load_job(None, {"network": settings}))
    resolving = time.perf_counter() - began
    backbone = Backbone(spec, path)
    root, rows = rows_of(place / "pictures")
    source = PictureSource(root, DecodeLimits())
    ids = np.arange(len(rows))
    for _ in forward_pictures(backbone, source, rows[:THREADS], ids[:THREADS], threads=THREADS):
        pass
    seen, size = 0, 0
    began = time.perf_counter()
    while seen == 0 or time.perf_counter() - began < SECONDS:
        for batch in forward_pictures(backbone, source, rows, ids, threads=THREADS):
            seen += len(batch.image_ids)
            size += sum(each.nbytes for each in batch.vectors.values())
            size += sum(each.vectors.nbytes for each in batch.descriptors.values())
    return {
        "network": network,
        "parameters": parameters,
        "import and build s": round(building, 2),
        "resolve s": round(resolving, 2),
        "layers": ", ".join(f"{layer.name} ({layer.view})" for layer in spec.layers),
        "short edge": spec.preprocess.short_edge,
        "pictures/s": round(seen / (time.perf_counter() - began), 2),
        "bytes/picture": size // seen,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }


@pytest.mark.bench
def test_networks_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    draw_jpegs(tmp_path / "pictures", 8, (480, 640))
    found = []
    for network in NETWORKS:
        code = (
            "import json; from tests.benchmarks.bench_networks import measure; "
            f"print(json.dumps(measure({network!r}, {str(tmp_path)!r})))"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    table = Table(*found[0])
    for each in found:
        table.add_row(*map(str, each.values()))
    Console(width=180).print(table)
    write_json("networks.json", found)
    assert all(each["pictures/s"] > 0 and each["bytes/picture"] > 0 for each in found)
