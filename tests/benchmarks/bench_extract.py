"""Extraction beside its own ceiling, loops over a DataLoader, and a loader of squares.

All use the same network, weights and cores. A loop opens pictures with Pillow, resizes by the same
recipe, keeps the same layers and writes the same Parquet: plainly in one process, with processes
that load and torch as it comes, and tuned, the best of many ways. The loader of squares answers
another question, one global vector a picture, as clip-retrieval's does: pictures squashed to
224 x 224 in a DataLoader's processes, 64 a pass, one layer kept; ours is asked the same there, a
picture a pass. Run by `make bench`.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from lamella.pipeline.bench.extract import try_extraction
from lamella.pipeline.bench.extract_steps import Pictures, choose_pictures, opened_sinks
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.background_writer import Beside
from lamella.pipeline.extract.work import PictureSource, forward_pictures, threads_for
from lamella.schemas.extraction import ExtractionSpec
from tests.benchmarks.descriptors import SHARED
from tests.benchmarks.loaders import PLAIN, USUAL, WAYS, Loop, Way
from tests.benchmarks.photographs import CORES, NETWORKS, photographs
from tests.benchmarks.record import Measurement, write_json, write_record

REPEATS = 3
SQUARES = 64


@pytest.mark.bench
@pytest.mark.parametrize("width", [None, 1600], ids=["as-found", "1600-wide"])
@pytest.mark.parametrize("network", NETWORKS)
def test_extraction(network: str, width: int | None, tmp_path: Path) -> None:
    count = NETWORKS[network].pictures
    folder = photographs(tmp_path / "pictures", count, width)
    spec, weights = NETWORKS[network].spec(tmp_path)
    squashed = spec.layers[0].model_copy(update={"view": "warp"})
    square = Backbone(spec.model_copy(update={"layers": (squashed,)}), weights)
    backbone = Backbone(spec, weights)
    paths = sorted(folder.iterdir())
    chosen = choose_pictures(str(folder), count, DecodeLimits())
    source = PictureSource(chosen.root, chosen.limits)

    def ours(network: Backbone) -> int:
        done, beside = 0, Beside()
        with opened_sinks(network.spec, tmp_path, beside.do) as sinks, beside:
            threads = threads_for(CORES, network)
            for batch in forward_pictures(
                network, source, chosen.rows, np.arange(len(chosen.rows)), threads=threads
            ):
                for sink in sinks:
                    sink.add(batch)
                done += len(batch.image_ids)
        return done

    def rate(work: Callable[[], int]) -> float:
        began = time.perf_counter()
        done = work()
        return done / (time.perf_counter() - began)

    trial = try_extraction(
        tmp_path, chosen, spec, weights, threads=CORES, device="cpu", rounds=REPEATS
    )
    best = _best_way(paths, backbone, tmp_path, rate, max(4, count // 4))
    loops = {name: Loop(paths, backbone, way) for name, way in _loops(best).items()}
    for loop in loops.values():
        loop.run(tmp_path, 1)
    squares = Loop(paths, square, Way(min(SQUARES, count), CORES, CORES))
    squares.run(tmp_path, 1)
    works: dict[str, Callable[[], int]] = {
        "ours": lambda: ours(backbone),
        **{name: partial(loop.run, tmp_path, count) for name, loop in loops.items()},
        "our squares": lambda: ours(square),
        "squares": lambda: squares.run(tmp_path, count),
    }
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for each, work in works.items():
            rates[each].append(rate(work))
    sizes = {"pictures": count, "batch": spec.batch_size, "cores": CORES}
    found = {name: median(each) for name, each in rates.items()}
    name = f"{network}, {'short edge 256' if width is None else f'{width} wide'}"
    write_record(
        f"extract-{network}-{width or 256}.json",
        [
            Measurement(
                f"{name}: beside the ceiling",
                sizes,
                trial.pipeline,
                trial.ceiling,
                "steps alone, together",
                "pictures/s",
            ),
            *(
                Measurement(name, sizes, found["ours"], found[loop], f"{loop}: {way}", "pictures/s")
                for loop, way in _loops(best).items()
            ),
            Measurement(
                f"{name}: one vector a picture, squashed",
                sizes,
                found["our squares"],
                found["squares"],
                f"DataLoader of 224 x 224, {SQUARES} a pass",
                "pictures/s",
            ),
        ],
    )
    write_json(f"extract-{network}-{width or 256}-steps.json", asdict(trial))


@pytest.mark.bench
@pytest.mark.parametrize("width", [None, 1600], ids=["as-found", "1600-wide"])
@pytest.mark.parametrize("network", ["efficientnet_lite0", "alexnet"])
def test_jpegs_outside_the_sandbox(network: str, width: int | None, tmp_path: Path) -> None:
    count = NETWORKS[network].pictures
    folder = photographs(tmp_path / "pictures", count, width)
    spec, weights = NETWORKS[network].spec(tmp_path)
    chosen = choose_pictures(str(folder), count, DecodeLimits())
    rates: dict[str, list[float]] = {"torch-1": [], "rgb-2": []}
    specs = {
        recipe: spec.model_copy(
            update={"preprocess": spec.preprocess.model_copy(update={"rgb_recipe": recipe})}
        )
        for recipe in rates
    }
    for _ in range(REPEATS):
        for recipe, each in specs.items():
            trial = try_extraction(
                tmp_path, chosen, each, weights, threads=CORES, device="cpu", rounds=1
            )
            rates[recipe].append(trial.pipeline)
    ours, peer = (median(each) for each in rates.values())
    name = f"{network}, torch-1, {'short edge 256' if width is None else f'{width} wide'}"
    sizes = {"pictures": count, "batch": spec.batch_size, "cores": CORES}
    row = Measurement(name, sizes, ours, peer, "rgb-2", "pictures/s")
    write_record(f"extract-recipes-{network}-{width or 256}.json", [row])


def _loops(best: Way) -> dict[str, Way]:
    return {"plain loop": PLAIN, "usual loop": USUAL, "best loop": best}


def _best_way(
    paths: list[Path],
    backbone: Backbone,
    folder: Path,
    rate: Callable[[Callable[[], int]], float],
    pictures: int,
) -> Way:
    """Return the fastest way over some pictures, its processes started before."""

    def rate_of(way: Way) -> float:
        loop = Loop(paths, backbone, way)
        loop.run(folder, way.batch)
        return rate(lambda: loop.run(folder, pictures))

    return max(WAYS, key=rate_of)


Features = dict[str, dict[int, torch.Tensor]]


def features(chosen: Pictures, spec: ExtractionSpec, weights: Path) -> Features:
    """Return by layer and image its vectors, float64 (m, D)."""
    backbone = Backbone(spec, weights, "cpu")
    source = PictureSource(chosen.root, chosen.limits)
    layers: Features = {layer.name: {} for layer in spec.layers}
    for batch in forward_pictures(
        backbone, source, chosen.rows, np.arange(len(chosen.rows)), threads=CORES
    ):
        for name, vectors in batch.vectors.items():
            for image_id, vector in zip(batch.image_ids.tolist(), vectors, strict=True):
                layers[name][image_id] = torch.from_numpy(vector).double()[None]
        for name, found in batch.descriptors.items():
            for image_id in batch.image_ids.tolist():
                rows = found.vectors[found.image_ids == image_id]
                layers[name][image_id] = torch.from_numpy(rows).double()
    return layers


def moved(one: Features, other: Features, **what: int | str) -> list[dict[str, Any]]:
    """Return by layer how far features moved; images with another number of them are counted."""
    found = []
    for name, images in one.items():
        pairs = [(images[image_id], other[name][image_id]) for image_id in images]
        alike = [(a, b) for a, b in pairs if len(a) == len(b)]
        cosines = torch.cat([torch.cosine_similarity(a, b) for a, b in alike])
        found.append(
            {
                "layer": name,
                **what,
                "vectors": len(cosines),
                "mean_cosine": float(cosines.mean()),
                "least_cosine": float(cosines.min()),
                "same_bits": sum(bool(torch.equal(a, b)) for a, b in alike) / len(pairs),
                "other_numbers": len(pairs) - len(alike),
            }
        )
        print(found[-1])
    return found


@pytest.mark.bench
def test_features_of_other_batch_sizes(tmp_path: Path) -> None:
    """How far features move with the batch size: cosine to those of batches of one."""
    network = NETWORKS["efficientnet_lite0"]
    folder = photographs(tmp_path / "pictures", network.pictures)
    spec, weights = network.spec(tmp_path)
    chosen = choose_pictures(str(folder), network.pictures, DecodeLimits())
    one = features(chosen, spec, weights)
    found = []
    for size in (4, 16):
        changed = spec.model_copy(update={"batch_size": size})
        found += moved(one, features(chosen, changed, weights), batch_size=size)
    write_json("extract-batch-sizes.json", found)
    assert all(each["least_cosine"] > 0.999 for each in found)


def found_of_four(vectors: dict[int, torch.Tensor]) -> float:
    """Return how many of the four pictures of a thing are among the four nearest, on average."""
    units = torch.nn.functional.normalize(torch.cat([vectors[each] for each in sorted(vectors)]))
    nearest = (units @ units.T).topk(4, dim=1).indices // 4
    return float((nearest == (torch.arange(len(units)) // 4)[:, None]).sum(dim=1).double().mean())


@pytest.mark.bench
def test_features_of_other_precisions(tmp_path: Path) -> None:
    """How far features move in half precision, as a CPU computes it, and what that does to UKB."""
    folder = SHARED / "data" / "ukbench"
    if not folder.is_dir():
        pytest.skip("photographs in groups of four need ../shared/data/ukbench")
    spec, weights = NETWORKS["efficientnet_lite0"].spec(tmp_path)
    chosen = choose_pictures(str(folder), len(list(folder.rglob("*.jpg"))), DecodeLimits())
    one = features(chosen, spec, weights)
    found = [{"precision": "float32", "of_four": found_of_four(one["head"])}]
    for precision in ("bfloat16", "float16"):
        other = features(chosen, spec.model_copy(update={"precision": precision}), weights)
        found += moved(one, other, precision=precision)
        found.append({"precision": precision, "of_four": found_of_four(other["head"])})
    for each in found:
        if "of_four" in each:
            print(each)
    write_json("extract-precisions.json", found)
