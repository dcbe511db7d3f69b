"""What decoding fewer pixels of large JPEGs (recipe "rgb-2") saves, and what it does to features.

The real photographs here have a short edge of 256, so larger ones are made of them in two ways:
`sharp`, photographs laid side by side, with as many bytes a pixel as they have; and `enlarged`,
which shows what photographs show, more smoothly than a camera would.

`DECODE_EDGE` and `DECODE_MARGIN` try the ranking at another short edge (1024) and margin.
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.corpus import sandbox
from pipeline.corpus.decode import DecodeLimits, decode
from pipeline.corpus.scale import Look, look_at
from pipeline.extract import preprocess
from pipeline.extract.backbone import Backbone
from pipeline.extract.descriptors import global_vectors
from pipeline.extract.preprocess import look_of, reduction_of
from pipeline.jobs.resolve import resolve_extraction
from schemas.extraction import PreprocessSpec
from schemas.job import JobConfig
from tests.benchmarks.bench_vocabulary_retrieval import lamella
from tests.benchmarks.descriptors import SHARED
from tests.benchmarks.record import Measurement, write_record

LIMITS = DecodeLimits()
SPEC = PreprocessSpec(rgb_recipe="rgb-2")
SPEEDS = {(341, 256): 24, (1024, 768): 12, (1365, 1024): 12, (4000, 3000): 4}
REPEATS = 7
FEATURES = [("enlarged", 1024, 300), ("enlarged", 2048, 100), ("enlarged", 3000, 50)]
FEATURES += [("sharp", 1024, 100), ("sharp", 2048, 50)]
EDGE = int(os.environ.get("DECODE_EDGE", "1024"))
MARGIN = float(os.environ.get("DECODE_MARGIN", str(preprocess.MARGIN)))


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
    shape, reduction = size[::-1], reduction_of(*size[::-1], [look], SPEC)

    def pillow() -> NDArray[np.uint8]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(image.resize(tuple(wanted[::-1]), Image.Resampling.BILINEAR))

    return {
        "rgb-2": lambda: look_at(decode(data, LIMITS, reduction), look),
        "rgb-1": lambda: look_at(decode(data, LIMITS), look),
        "plain Pillow": pillow,
        "torchvision": lambda: resize(decode_jpeg(tensor, ImageReadMode.RGB), wanted),
        "rgb-2 in a child": lambda: sandbox.see(data, shape, [look], LIMITS, None, reduction),
        "rgb-1 in a child": lambda: sandbox.see(data, shape, [look], LIMITS),
    }


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
                    began = time.perf_counter()
                    way()
                    best[name] = min(best[name], time.perf_counter() - began)
            seconds = {name: seconds.get(name, 0) + best[name] for name in each}
        rates = {name: count / total for name, total in seconds.items()}
        print(f"\n{width} x {height}", {name: round(rate, 1) for name, rate in rates.items()})
        for name in ("rgb-1", "plain Pillow", "torchvision"):
            sizes = {"width": width, "height": height, "pictures": count}
            ours, peer = rates["rgb-2"], rates[name]
            measured.append(Measurement("decode", sizes, ours, peer, name, "pictures/s"))
        ours, peer = (rates[f"{recipe} in a child"] for recipe in ("rgb-2", "rgb-1"))
        measured.append(Measurement("in a child", sizes, ours, peer, "rgb-1", "pictures/s"))
    write_record("decode.json", measured)


def made(kind: str, edge: int, count: int) -> Iterator[bytes]:
    """Yield JPEGs of that kind and short edge."""
    paths = photographs()
    for number in range(count):
        if kind == "sharp":
            yield jpeg(sharp(paths, round(edge * 4 / 3), edge, number))
        else:
            yield jpeg(enlarged(paths[number * len(paths) // count], edge))


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine of two vectors."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.bench
def test_what_it_does_to_the_head_of_the_network() -> None:
    spec, weights = resolve_extraction(JobConfig())
    head = spec.layers[0]
    backbone = Backbone(spec.model_copy(update={"layers": (head,)}), weights)

    def vector(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return global_vectors(backbone.forward(pixels[None].copy(), "whole")[head.node], head)[0]

    measured = []
    for kind, edge, count in FEATURES:
        found: dict[str, list[float]] = {}
        for data in made(kind, edge, count):
            picture = decode(data, LIMITS)
            look = look_of(picture.height, picture.width, "whole", SPEC)
            whole = vector(look_at(picture, look))
            size = (look.width, look.height)
            cubic = np.asarray(picture.image.resize(size, Image.Resampling.BICUBIC))
            found.setdefault("bicubic", []).append(cosine(whole, vector(cubic)))
            for by in (2, 4, 8):
                if edge >= by * SPEC.short_edge:
                    reduced = vector(look_at(decode(data, LIMITS, by), look))
                    found.setdefault(f"1/{by}", []).append(cosine(whole, reduced))
        chosen = reduction_of(edge, round(edge * 4 / 3), [look], SPEC)
        for name, values in found.items():
            mean, low = np.mean(values), np.percentile(values, 1)
            print(f"{kind} {edge} {name}: mean {mean:.5f}, 1st percentile {low:.5f}", flush=True)
        sizes = {"edge": edge, "pictures": count, "reduction": chosen}
        for what, of in (("mean", np.mean), ("1st percentile", lambda v: np.percentile(v, 1))):
            ours, peer = float(of(found[f"1/{chosen}"])), float(of(found["bicubic"]))
            name = f"cosine to rgb-1, {kind}, {what}"
            measured.append(Measurement(name, sizes, ours, peer, "bicubic resize", "cosine"))
    write_record("decode_features.json", measured)


def large_oxford(into: Path) -> tuple[Path, Path]:
    """Return Oxford's pictures enlarged, and its ground truth with boxes to match."""
    pictures, truth = into / "pictures", into / "truth"
    pictures.mkdir()
    truth.mkdir()
    for path in sorted((SHARED / "data/oxford5k/images").iterdir()):
        (pictures / path.name).write_bytes(jpeg(enlarged(path, EDGE)))
    for path in (SHARED / "data/oxford5k/gt_files_170407").iterdir():
        text = path.read_text()
        if path.name.endswith("_query.txt"):
            name, *box = text.split()
            text = " ".join([name, *(f"{float(corner) * EDGE / 256:.2f}" for corner in box)])
        (truth / path.name).write_text(text)
    return pictures, truth


@pytest.mark.bench
def test_what_it_does_to_a_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs()
    monkeypatch.setattr(preprocess, "MARGIN", MARGIN)
    pictures, truth = large_oxford(tmp_path)
    scores = {}
    for recipe in ("rgb-1", "rgb-2"):
        store, job = str(tmp_path / recipe), tmp_path / f"{recipe}.toml"
        job.write_text(f'network.layers = ["head"]\nnetwork.preprocess.rgb_recipe = "{recipe}"\n')
        lamella("index", str(pictures), "--into", store, "--job", str(job), "--engine", "serial")
        asked = ("--protocol", "oxford", "--truth", str(truth), "--engine", "serial")
        found = lamella("evaluate", store, *asked)["report"]["rows"]
        (scores[recipe],) = (row["score"] for row in found if row["kind"] == "alone")
    print(f"\nOxford at {EDGE}, margin {MARGIN:g}: {scores}")
    sizes = {"edge": EDGE, "pictures": len(list(pictures.iterdir()))}
    row = Measurement("Oxford, head", sizes, scores["rgb-2"], scores["rgb-1"], "rgb-1", "mAP")
    write_record("decode_ranking.json", [row])
