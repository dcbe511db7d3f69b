"""What recipes save that decode fewer pixels of large JPEGs ("rgb-2"), or outside the sandbox
("torch-1"), and what they do to features.

The real photographs here have a short edge of 256, so larger ones are made of them in two ways:
`sharp`, photographs laid side by side, with as many bytes a pixel as they have; and `enlarged`,
which shows what photographs show, more smoothly than a camera would.

`DECODE_EDGE` gives the ranking another short edge.
"""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.corpus import child_process, sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.resize import Look, look_at
from lamella.pipeline.evaluate.protocols.oxford import oxford
from lamella.pipeline.evaluate.truth import score_queries
from lamella.pipeline.extract.jpegs import decode_jpegs, plain_jpeg
from lamella.pipeline.extract.preprocess import look_of, reduction_of
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.schemas.extraction import PreprocessSpec
from lamella.schemas.job import JobConfig
from tests.benchmarks.descriptors import SHARED
from tests.benchmarks.record import Measurement, write_record

LIMITS = DecodeLimits()
SPEC = PreprocessSpec(rgb_recipe="rgb-2")
SPEEDS = {(341, 256): 24, (1024, 768): 12, (2048, 1536): 8, (4000, 3000): 3}
REPEATS = 5
FEATURES = [("enlarged", 1536, 100), ("sharp", 1536, 40), ("sharp", 3072, 10)]
EDGE = int(os.environ.get("DECODE_EDGE", "1536"))
OTHERS = ("rgb-2", "torch-1", "bicubic")
Corners = tuple[float, ...]


def photographs() -> list[Path]:
    """Return the paths of photographs of three corpora; skips where there are none."""
    if not (SHARED / "data").exists():
        pytest.skip("the photographs are in ../shared/data")
    folders = ("oxford5k/images", "ukbench/full", "holidays/jpg")
    return [path for name in folders for path in sorted((SHARED / "data" / name).rglob("*.jpg"))]


def enlarged(path: Path, edge: int) -> Image.Image:
    """Return a photograph at another short edge."""
    with Image.open(path) as image:
        by = edge / min(image.size)
        size = (round(by * image.width), round(by * image.height))
        return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def sharp(paths: list[Path], width: int, height: int, seed: int) -> Image.Image:
    """Return photographs side by side at their own size, drawn by the seed."""
    random, made = np.random.default_rng(seed), Image.new("RGB", (width, height))
    for y in range(0, height, 256):
        for x in range(0, width, 341):
            with Image.open(paths[random.integers(len(paths))]) as image:
                made.paste(image, (x, y))
    return made


def jpeg(image: Image.Image) -> bytes:
    """Return a picture as most JPEGs are."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def ways(data: bytes, size: tuple[int, int], look: Look) -> dict[str, Callable[[], object]]:
    """Return the ways from bytes to what a network sees of a picture of (width, height)."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2.functional import resize

    wanted = [look.height, look.width]
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    reduction = reduction_of(*size[::-1], [look], SPEC)

    def pillow() -> NDArray[np.uint8]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(image.resize((look.width, look.height), Image.Resampling.BILINEAR))

    return {
        "rgb-2": lambda: look_at(decode(data, LIMITS, reduction), look),
        "rgb-1": lambda: look_at(decode(data, LIMITS), look),
        "torch-1": lambda: by_torch(data, look),
        "plain Pillow": pillow,
        "torchvision": lambda: resize(decode_jpeg(tensor, ImageReadMode.RGB), wanted),
    }


def by_torch(data: bytes, look: Look, box: Corners | None = None) -> NDArray[np.uint8]:
    """Return what recipe "torch-1" shows of a JPEG on a CPU."""
    import torch

    found = probe(data, LIMITS)
    left, top, right, bottom = (round(x) for x in box or (0, 0, found.width, found.height))
    corners = left, top, min(right, found.width), min(bottom, found.height)
    size = corners[3] - top, corners[2] - left
    jpeg = plain_jpeg(data, size, [look], corners)
    assert jpeg is not None
    ((pixels,),) = filter(None, decode_jpegs([jpeg], torch.device("cpu")))
    return pixels.numpy()


@pytest.mark.bench
def test_decode_and_resize_beside_the_peers() -> None:
    import torch

    paths, measured = photographs(), []
    torch.set_num_threads(1)
    for (width, height), count in SPEEDS.items():
        look, seconds = look_of(height, width, "whole", SPEC), dict[str, float]()
        for seed in range(count):
            each = ways(jpeg(sharp(paths, width, height, seed)), (width, height), look)
            best = dict.fromkeys(each, np.inf)
            for _ in range(REPEATS):
                for name, way in each.items():
                    began = time.process_time()  # of one thread; other work does not count
                    way()
                    best[name] = min(best[name], time.process_time() - began)
            seconds = {name: seconds.get(name, 0) + best[name] for name in each}
        rates = {name: count / total for name, total in seconds.items()}
        print(f"\n{width} x {height}", {name: round(rate, 1) for name, rate in rates.items()})
        sizes = {"width": width, "height": height, "pictures": count}
        for ours in ("rgb-2", "torch-1"):
            measured += [
                Measurement(f"decode, {ours}", sizes, rates[ours], rates[peer], peer, "pictures/s")
                for peer in ("rgb-1", "plain Pillow", "torchvision")
            ]
    write_record("decode.json", measured)


@pytest.mark.bench
def test_a_child_that_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    paths, measured = photographs(), []
    for width, height in SPEEDS:
        data, rates = jpeg(sharp(paths, width, height, 0)), {}
        look = look_of(height, width, "whole", SPEC)
        for name, environment in (("kept", child_process._FIXED), ("given back", {})):
            monkeypatch.setattr(child_process, "_FIXED", environment)
            monkeypatch.setattr(sandbox, "_sandbox", sandbox.Sandbox())
            best = np.inf
            for _ in range(3 * REPEATS):
                began = time.perf_counter()
                sandbox.see(data, (height, width), [look], LIMITS)
                best = min(best, time.perf_counter() - began)
            rates[name] = 1 / best
            sandbox._sandbox.close()
        print(f"\n{width} x {height}", {name: round(rate, 1) for name, rate in rates.items()})
        sizes = {"width": width, "height": height}
        ours, peer = rates["kept"], rates["given back"]
        row = Measurement("rgb-1 in a child", sizes, ours, peer, "memory given back", "pictures/s")
        measured.append(row)
    write_record("decode_memory.json", measured)


Vector = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def head_of_the_network() -> Vector:
    """Return what gives the head's vector, of unit length, of what the network sees."""
    import torch

    from lamella.pipeline.extract.backbone import Backbone
    from lamella.pipeline.extract.descriptors import global_vectors

    torch.set_num_threads(1)
    spec, weights = resolve_extraction(JobConfig())
    head = spec.layers[0]
    backbone = Backbone(spec.model_copy(update={"layers": (head,)}), weights)

    def vector(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        outputs = backbone.forward(pixels[None].copy(), "whole")
        (found,) = global_vectors(outputs[head.node], head).astype(np.float64)
        return found / np.linalg.norm(found)

    return vector


def seen(data: bytes, box: Corners | None = None) -> dict[str, NDArray[np.uint8]]:
    """Return what the network sees of a picture or its box by recipe, and resized `bicubic`."""
    picture = decode(data, LIMITS)
    corners = [0, 0, picture.width, picture.height] if box is None else [round(x) for x in box]
    part = picture.part(*corners)
    look = look_of(part.height, part.width, "whole", SPEC)
    reduction = reduction_of(part.height, part.width, [look], SPEC)
    reduced = decode(data, LIMITS, reduction).part(*corners)
    cubic = part.image.resize((look.width, look.height), Image.Resampling.BICUBIC)
    return {
        "rgb-1": look_at(part, look),
        "rgb-2": look_at(reduced, look),
        "torch-1": by_torch(data, look, box and tuple(corners)),
        "bicubic": np.asarray(cubic),
    }


@pytest.mark.bench
def test_what_it_does_to_the_head_of_the_network() -> None:
    paths, vector, measured = photographs(), head_of_the_network(), []
    for kind, edge, count in FEATURES:
        cosines: dict[str, list[float]] = {recipe: [] for recipe in OTHERS}
        for number in range(count):
            if kind == "sharp":
                data = jpeg(sharp(paths, round(edge * 4 / 3), edge, number))
            else:
                data = jpeg(enlarged(paths[number * len(paths) // count], edge))
            vectors = {recipe: vector(pixels) for recipe, pixels in seen(data).items()}
            for recipe, values in cosines.items():
                values.append(float(vectors["rgb-1"] @ vectors[recipe]))
        mean = {recipe: float(np.mean(values)) for recipe, values in cosines.items()}
        low = {recipe: float(np.percentile(values, 1)) for recipe, values in cosines.items()}
        print(f"\n{kind} at {edge}: mean {mean}, 1st percentile {low}", flush=True)
        sizes = {"edge": edge, "pictures": count}
        for what, of in (("mean", mean), ("1st percentile", low)):
            measured += [
                Measurement(
                    f"{kind}, {ours}, cosine to rgb-1, {what}",
                    sizes,
                    of[ours],
                    of["bicubic"],
                    "bicubic",
                    "cosine",
                )
                for ours in ("rgb-2", "torch-1")
            ]
    write_record("decode_features.json", measured)


@pytest.mark.bench
def test_what_it_does_to_a_ranking() -> None:
    photographs()
    vector, oxford5k = head_of_the_network(), SHARED / "data/oxford5k"
    names = sorted(path.name for path in (oxford5k / "images").iterdir())
    truth = oxford(names, oxford5k / "gt_files_170407")
    named = {query.name for query in truth.queries}
    named.update(*(query.positives | query.junk for query in truth.queries))
    names = sorted(named)  # without the other distractors, so that it takes minutes
    vectors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("rgb-1", *OTHERS)}
    boxes = [None] * len(names) + [query.box for query in truth.queries]
    for name, box in zip(names + [query.name for query in truth.queries], boxes, strict=True):
        data = jpeg(enlarged(oxford5k / "images" / name, EDGE))
        larger = box and tuple(corner * EDGE / 256 for corner in box)
        for recipe, pixels in seen(data, larger).items():
            vectors[recipe].append(vector(pixels))
    scores: dict[str, NDArray[np.float64]] = {}
    for recipe, of in vectors.items():
        products = np.stack(of[len(names) :]) @ np.stack(of[: len(names)]).T
        scores[recipe] = score_queries(truth, names, products)
        change = scores[recipe] - scores["rgb-1"]
        error = np.std(change, ddof=1) / np.sqrt(len(change))
        mean = scores[recipe].mean()
        print(f"\n{recipe} at {EDGE}: mAP {mean:.4f}, {change.mean():+.4f} +- {error:.4f}")
    sizes = {"edge": EDGE, "pictures": len(names), "queries": len(truth.queries)}
    found = {recipe: float(each.mean()) for recipe, each in scores.items()}
    measured = [
        Measurement(f"Oxford, head, {ours}", sizes, found[ours], found[peer], peer, "mAP")
        for ours in ("rgb-2", "torch-1")
        for peer in ("rgb-1", "bicubic")
    ]
    write_record("decode_ranking.json", measured)
