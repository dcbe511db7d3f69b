"""Extraction beside the plain loop that one would write: decode, resize, forward, one by one.

Both use the same network, weights, recipe and cores; the loop lets torch split each operation over
the cores, as it does unless told otherwise. Run by `make bench`.
"""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.corpus.build import probe_entries
from pipeline.corpus.decode import DecodeLimits
from pipeline.corpus.sources import list_source
from pipeline.extract.backbone import Backbone
from pipeline.extract.descriptors import global_vectors, local_descriptors
from pipeline.extract.preprocess import see
from pipeline.extract.work import PictureSource, forward_pictures
from pipeline.jobs.resolve import resolve_extraction
from pipeline.planted.generate import generate
from schemas.job import JobConfig
from tests.benchmarks.record import Measurement, write_record

PICTURES = 400
REPEATS = 3
CORES = 2


@pytest.mark.bench
def test_extraction_beside_the_plain_loop(tmp_path: Path) -> None:
    generate(tmp_path / "pictures", objects=PICTURES // 4)
    listing = list_source(str(tmp_path / "pictures"))
    table, _ = probe_entries(listing.root, listing.kind, listing.entries, DecodeLimits())
    rows = table.to_pylist()
    spec, weights = resolve_extraction(JobConfig())
    backbone = Backbone(spec, weights)
    single = Backbone(spec.model_copy(update={"batch_size": 1}), weights)
    paths = [Path(listing.root) / row["name"] for row in rows]

    def ours() -> int:
        source = PictureSource(listing.root, DecodeLimits())
        batches = forward_pictures(backbone, source, rows, 0, threads=CORES)
        return sum(len(batch.image_ids) for batch in batches)

    def plain() -> int:
        torch.set_num_threads(CORES)
        for number, path in enumerate(paths):
            pixels = np.asarray(Image.open(path).convert("RGB"))
            outputs = single.forward(see(pixels, "whole", spec.preprocess)[None].copy(), "whole")
            for layer in spec.layers:
                if layer.kind == "global":
                    global_vectors(outputs[layer.node], layer)
                else:
                    local_descriptors(outputs[layer.node], np.array([number]))
        return len(paths)

    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(REPEATS):
        for name, work in (("ours", ours), ("plain", plain)):
            began = time.perf_counter()
            done = work()
            rates[name].append(done / (time.perf_counter() - began))
    mine, peer = float(np.median(rates["ours"])), float(np.median(rates["plain"]))
    write_record(
        "extract.json",
        [
            Measurement(
                name="decode, resize, forward, descriptors",
                sizes={"pictures": PICTURES, "batch": spec.batch_size, "cores": CORES},
                ours=mine,
                peer=peer,
                peer_name="plain torch loop",
                unit="pictures/s",
            )
        ],
    )
