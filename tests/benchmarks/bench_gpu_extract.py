"""Extraction on a graphics card: each part alone, and how near the whole comes to the slowest part.

About 150 s on an H100 or H200 with 16 cores. Each test prints a line a figure and adds to
build/bench/gpu_extract.json. Pictures are drawn, see `tests/pictures.py`. Needs neither Ray nor
what tests/conftest.py imports:

    python -m pytest --noconftest -q -s -m gpu tests/benchmarks/bench_gpu_extract.py
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.descriptors import global_vectors, local_descriptors
from lamella.pipeline.extract.passes import ask
from lamella.pipeline.extract.work import PictureSource, forward_pictures
from lamella.pipeline.networks.listed import default_preprocess
from lamella.pipeline.networks.weights import LITE0
from lamella.schemas.extraction import Precision, RgbRecipe
from tests.benchmarks.record import Measurement, write_record
from tests.pictures import draw_jpegs, drawn
from tests.pipeline.extract.specs import random_weights, rows_of, spec_of

pytestmark = [
    pytest.mark.bench,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA here"),
]
CORES = len(os.sched_getaffinity(0))
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16", "float16")
LAYERS = {LITE0: ("head", "b11"), "alexnet": ("fc2", "conv4"), "vgg16": ("fc1", "c5_1")}
LARGE, SMALL = (1200, 1600), (480, 640)
DRAWN = {SMALL: 64, LARGE: 8}
SHAPE = (256, 341)

Backbones = Callable[..., Backbone]
Folders = dict[tuple[int, int], Path]
measured: list[Measurement] = []


def note(
    name: str, ours: float, peer: float, peer_name: str, unit: str = "pictures/s", **sizes: int
) -> None:
    """Print a figure and keep it."""
    print(f"{name}: {ours:,.5g} {unit}, {peer_name} {peer:,.5g}, {sizes}", flush=True)
    measured.append(Measurement(name, sizes, ours, peer, peer_name, unit))
    write_record("gpu_extract.json", measured)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    """Return what opens a network, with random weights for those that have none here."""
    folder = tmp_path_factory.mktemp("weights")
    kept: dict[Any, Backbone] = {}

    def opened(
        network: str,
        batch_size: int,
        precision: Precision = "float32",
        device: str = "cuda",
        recipe: RgbRecipe = "rgb-2",
    ) -> Backbone:
        key = network, batch_size, precision, device, recipe
        if key in kept:
            return kept[key]
        path = None if network == LITE0 else folder / f"{network}.safetensors"
        if path is not None and not path.exists():
            random_weights(network, path, leave_out="classifier.6")
        spec, weights = spec_of(
            network,
            *LAYERS[network],
            weights=path,
            batch_size=batch_size,
            precision=precision,
            preprocess=default_preprocess(network).model_copy(update={"rgb_recipe": recipe}),
        )
        backbone = Backbone(spec, weights, device)
        if network == LITE0:  # the others take too much memory to keep
            kept[key] = backbone
        return backbone

    return opened


@pytest.fixture(scope="module")
def folders() -> Iterator[Folders]:
    """JPEGs of two sizes in memory."""
    base = Path("/dev/shm") / f"lamella-bench-{os.getpid()}"
    places = {size: base / f"{size[1]}x{size[0]}" for size in DRAWN}
    for size, place in places.items():
        draw_jpegs(place, DRAWN[size], size)
    print(f"\n{torch.cuda.get_device_name()}, {CORES} cores, PyTorch {torch.__version__}")
    for size, place in places.items():
        bits = 8 * np.mean([path.stat().st_size for path in place.iterdir()]) / np.prod(size)
        print(f"{place.name}: {bits:.2f} bits a pixel")
    yield places
    for place in places.values():
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    base.rmdir()


def rate(work: Callable[[], object], pictures: int, seconds: float = 0.4) -> float:
    """Return pictures a second on the card, repeated for so long after two tries to warm up."""
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    start, repeats = time.perf_counter(), 0
    while repeats < 3 or time.perf_counter() - start < seconds:
        work()
        repeats += 1
        if repeats % 4 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return repeats * pictures / (time.perf_counter() - start)


def pixels_of(backbone: Backbone, batch_size: int) -> dict[Any, Tensor]:
    """Return random pixels of a batch by view, on the card."""
    return {
        view: torch.randint(
            0,
            256,
            (batch_size, *(SHAPE if view == "whole" else (224, 224)), 3),
            dtype=torch.uint8,
            device="cuda",
        )
        for view in backbone.views
    }


def plain_rate(backbone: Backbone, batch_size: int, seconds: float = 0.3) -> float:
    """Return the rate of what one would write first: NCHW, algorithms by timing."""
    dtype, views = backbone._dtype, pixels_of(backbone, batch_size)
    inputs = {
        view: (pixels.permute(0, 3, 1, 2).float() / 255).to(dtype).contiguous()
        for view, pixels in views.items()
    }
    extractors: Any = backbone._by_view
    for view in views:
        extractors[view].to(memory_format=torch.contiguous_format)
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with torch.inference_mode():
            return rate(
                lambda: [backbone._by_view[view](x) for view, x in inputs.items()],
                batch_size,
                seconds,
            )
    finally:
        torch.backends.cudnn.benchmark = before
        for view in views:
            extractors[view].to(memory_format=torch.channels_last)


@pytest.mark.parametrize("network", [LITE0, "alexnet", "vgg16"])
def test_forward_alone(network: str, backbones: Backbones) -> None:
    reference: dict[int, float] = {}
    for precision in PRECISIONS:
        backbone = backbones(network, 64, precision)
        for batch_size in (16, 64, 256):
            views = pixels_of(backbone, batch_size)

            def forward(backbone: Backbone = backbone, views: Any = views) -> object:
                return [backbone.forward(pixels, view) for view, pixels in views.items()]

            found = rate(forward, batch_size, 0.3)
            reference.setdefault(batch_size, found)
            note(
                f"forward {network} {precision}",
                found,
                reference[batch_size],
                "float32",
                batch=batch_size,
            )
        if precision in ("float32", "float16"):
            # float32 there is TF32, as PyTorch sets it.
            plain = plain_rate(backbone, 64)
            ours = rate(forward_of(backbone, 64), 64, 0.3)
            note(f"forward {network} {precision}", ours, plain, "NCHW, cudnn.benchmark", batch=64)
        del backbone
        torch.cuda.empty_cache()


def forward_of(backbone: Backbone, batch_size: int) -> Callable[[], object]:
    """Return a pass over random pixels that lie on the card."""
    views = pixels_of(backbone, batch_size)
    return lambda: [backbone.forward(pixels, view) for view, pixels in views.items()]


def pass_rate(backbone: Backbone, batch_size: int) -> float:
    """Return the rate of passes as the product asks for them, pictures read beforehand."""
    room = backbone.lane.room
    inputs = {}
    for view, pixels in pixels_of(backbone, batch_size).items():
        inputs[view] = room(tuple(pixels.shape), torch.uint8)
        inputs[view].copy_(pixels)
    kept = room((batch_size,), torch.bool).fill_(True)
    ids = np.arange(batch_size)
    asked: list[Any] = []

    def one() -> None:
        asked.append(ask(backbone, inputs, kept, batch_size, {}))
        if len(asked) == 3:
            asked.pop(0).results(ids)

    found = rate(one, batch_size, 0.5)
    while asked:
        asked.pop().results(ids)
    return found


@contextmanager
def busy_share() -> Iterator[list[float]]:
    """Give the mean share of time in which the card had a kernel, as NVML tells each 20 ms."""
    found: list[float] = []
    samples: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        with suppress(Exception):  # no nvidia-ml-py
            while not ended.wait(0.02):
                samples.append(torch.cuda.utilization() / 100)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found.append(float(np.mean(samples)) if samples else float("nan"))


def see_all(root: str, rows: list[Any], backbone: Backbone) -> float:
    """Return the pictures a second that all cores decode and resize in sandboxed children."""
    source, spec = PictureSource(root, DecodeLimits()), backbone.spec.preprocess
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda row: source.see(row, ("whole",), spec), rows[: 4 * CORES]))
        start = time.perf_counter()
        list(pool.map(lambda row: source.see(row, ("whole",), spec), rows))
        return len(rows) / (time.perf_counter() - start)


def decoded_alone(place: Path, count: int) -> tuple[float, float]:
    """Return the pictures a second that TorchCodec decodes: on all cores, and on the card."""
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]

    data = [torch.frombuffer(bytearray(p.read_bytes()), dtype=torch.uint8) for p in place.iterdir()]
    work = [data[number % len(data)] for number in range(count)]
    torch.set_num_threads(1)
    with ThreadPoolExecutor(CORES) as pool:
        start = time.perf_counter()
        list(pool.map(decode_jpeg, work))
        on_cores = count / (time.perf_counter() - start)
    parts = [work[at : at + 64] for at in range(0, count, 64)]
    decode_jpeg(parts[0], device="cuda")
    start = time.perf_counter()
    for part in parts:
        decode_jpeg(part, device="cuda")
    return on_cores, count / (time.perf_counter() - start)


WAYS: tuple[tuple[int, Precision, RgbRecipe], ...] = (
    (64, "float32", "rgb-2"),
    (64, "float32", "torch-1"),
    (64, "float16", "torch-1"),
    (16, "float16", "torch-1"),
)


@pytest.mark.parametrize(("size", "count"), [(SMALL, 6_000), (LARGE, 800)])
def test_the_pipeline_beside_its_parts(
    size: tuple[int, int], count: int, backbones: Backbones, folders: Folders
) -> None:
    name = f"{size[1]}x{size[0]}"
    root, listed = rows_of(folders[size])
    rows = [listed[number % len(listed)] for number in range(count)]
    first = backbones(LITE0, 64)
    on_cores, on_card = decoded_alone(folders[size], count)
    decoding: dict[RgbRecipe, float] = {"rgb-2": see_all(root, rows, first), "torch-1": on_card}
    for recipe, found in decoding.items():
        note(f"decode {name} {recipe}", found, on_cores, "decode_jpeg on cores", cores=CORES)
    for batch_size, precision, recipe in WAYS:
        backbone = backbones(LITE0, batch_size, precision, recipe=recipe)
        bare = rate(forward_of(backbone, batch_size), batch_size)
        passing = pass_rate(backbone, batch_size)
        for threads in (4, CORES, 2 * CORES):
            source = PictureSource(root, DecodeLimits())
            list(forward_pictures(backbone, source, rows[:256], np.arange(256), threads=threads))
            process = time.process_time()
            with busy_share() as shares:
                start = time.perf_counter()
                batches = forward_pictures(
                    backbone, source, rows, np.arange(len(rows)), threads=threads
                )
                done = sum(len(each.image_ids) for each in batches)
                seconds = time.perf_counter() - start
            process = time.process_time() - process
            assert done == count
            whole = count / seconds
            sizes: dict[str, Any] = {"batch": batch_size, "threads": threads, "pictures": count}
            what = f"{name} {precision} {recipe}"
            note(f"pipeline {what}", whole, decoding[recipe], "decoding alone", **sizes)
            note(f"pipeline {what}", whole, passing, "passes alone", **sizes)
            note(f"card busy {what}", shares[0], whole / bare, "by rates", "share", **sizes)
            note(f"parent {what}", process / seconds, 1, "one core", "cores busy", **sizes)
        note(f"passes {precision} {recipe}", passing, bare, "forward alone", batch=batch_size)


def features(backbone: Backbone, pixels: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Return the head and all descriptors of some pictures, a batch at a time, as unit rows."""
    parts: dict[str, list[np.ndarray]] = {"head": [], "b11": []}
    head = backbone.spec.layer("head")
    b11 = backbone.spec.layer("b11")
    for at in range(0, len(pixels), batch_size):
        outputs = backbone.forward(pixels[at : at + batch_size], "whole")
        vectors = global_vectors(outputs[head.node], head)
        parts["head"].append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        rows = local_descriptors(outputs[b11.node], np.arange(batch_size))
        parts["b11"].append(rows.vectors.astype(np.float32))
    return {name: np.concatenate(found) for name, found in parts.items()}


def test_features_by_device_precision_and_batch_size(backbones: Backbones) -> None:
    pixels = np.stack([drawn(*SHAPE, seed) for seed in range(64)])
    expected = features(backbones(LITE0, 8, device="cpu"), pixels, 8)
    once: dict[str, np.ndarray] = {}
    for precision in PRECISIONS:
        backbone = backbones(LITE0, 64, precision)
        for batch_size in (64, 16, 1):
            found = features(backbone, pixels, batch_size)
            once = once if batch_size < 64 else found
            for layer, vectors in found.items():
                for peer, others in (("CPU float32", expected), ("batch 64", once)):
                    cosines = np.einsum("nd,nd->n", vectors, others[layer]) / (
                        np.linalg.norm(vectors, axis=1) * np.linalg.norm(others[layer], axis=1)
                    )
                    note(
                        f"least cosine {layer} {precision} to {peer}",
                        float(cosines.min()),
                        float(cosines.mean()),
                        "mean",
                        "cosine",
                        batch=batch_size,
                    )
                same = float(np.mean(vectors == once[layer]))
                note(f"bits {layer} {precision}", same, 1, "batch 64", "share", batch=batch_size)
