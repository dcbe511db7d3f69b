"""What only a graphics card can show: its bits, its precision, its memory."""

import functools
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.resize import whole_look
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.jpegs import decode_jpegs
from lamella.pipeline.extract.work import PictureSource, forward_pictures
from lamella.pipeline.networks.listed import LITE_PREPROCESS
from lamella.pipeline.networks.weights import LITE0
from lamella.schemas.extraction import Precision, RgbRecipe
from tests.pictures import draw_jpegs, drawn, jpeg_of, without_huffman_tables
from tests.pipeline.extract.specs import asked, assert_same, random_weights, rows_of, spec_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA here"),
]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16", "float16")
Corpus = tuple[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Forty pictures of two shapes, three of them changed since they were listed."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_jpegs(folder / "flat", 24, (300, 400))
    draw_jpegs(folder / "upright", 16, (400, 300))
    root, rows = rows_of(folder)
    for number in (1, 17, 30):
        rows[number]["sha256"] = bytes(32)
    return root, rows


@functools.cache
def backbone_of(
    batch_size: int,
    precision: Precision = "float32",
    device: str = "cuda",
    recipe: RgbRecipe = "rgb-2",
) -> Backbone:
    spec, weights = spec_of(
        LITE0,
        "head",
        "b11",
        batch_size=batch_size,
        precision=precision,
        preprocess=LITE_PREPROCESS.model_copy(update={"rgb_recipe": recipe}),
    )
    return Backbone(spec, weights, device)


def forward(backbone: Backbone, corpus: Corpus, threads: int) -> list[BatchActivations]:
    source = PictureSource(corpus[0], DecodeLimits())
    return list(
        forward_pictures(backbone, source, corpus[1], np.arange(len(corpus[1])), threads=threads)
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads_and_tries_change_no_bit(corpus: Corpus, precision: Precision) -> None:
    backbone = backbone_of(8, precision)
    expected = forward(backbone, corpus, 1)
    assert sum(len(each.image_ids) for each in expected) == 37
    for threads in (3, 16):
        assert_same(forward(backbone, corpus, threads), expected)
    opened_again = backbone_of.__wrapped__(8, precision)
    assert_same(forward(opened_again, corpus, 4), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch_size", [4, 64])
def test_neither_slot_nor_neighbours_change_a_bit(precision: Precision, batch_size: int) -> None:
    backbone = backbone_of(batch_size, precision)
    pixels = np.stack([drawn(256, 341, seed) for seed in range(batch_size)])
    order = np.random.default_rng(0).permutation(batch_size)
    one = backbone.forward(pixels, "whole")
    other = backbone.forward(np.ascontiguousarray(pixels[order]), "whole")
    alone = backbone.forward(np.concatenate([pixels[:1], 0 * pixels[1:]]), "whole")
    for name, output in one.items():
        assert torch.equal(output[torch.from_numpy(order).cuda()], other[name])
        assert torch.equal(output[0], alone[name][0])


KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"mode": "L"},
    {"progressive": True},
    {"subsampling": "4:4:4"},
    {"subsampling": "4:2:2"},
    *({"orientation": value} for value in range(2, 9)),
)


@pytest.mark.parametrize("options", KINDS)
def test_a_card_decodes_what_a_cpu_does(options: dict[str, Any]) -> None:
    jpeg = asked(jpeg_of(600, 800, **options), whole_look(256, 341))
    on_card, on_cpu = (decode_jpegs([jpeg], torch.device(name)) for name in ("cuda", "cpu"))
    assert on_card[0] is not None
    assert on_cpu[0] is not None
    # Another cosine transform and other colours between pixels, then resized: a level or two.
    off = (on_card[0][0].cpu().int() - on_cpu[0][0].int()).abs()
    assert off.float().mean() < 1.5


def test_each_jpeg_has_its_pixels_alone_and_beside_others() -> None:
    good = [asked(jpeg_of(300, 300 + 16 * n, **kind)) for n, kind in enumerate(KINDS)]
    bad = asked(without_huffman_tables(jpeg_of()))
    card = torch.device("cuda")
    together = decode_jpegs([*good, bad, *good], card)
    assert together[len(good)] is None
    for n, jpeg in enumerate(good):
        (alone,) = decode_jpegs([jpeg], card)
        for found in (together[n], together[len(good) + 1 + n]):
            assert found is not None
            assert alone is not None
            assert torch.equal(found[0], alone[0])


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_with_jpegs_of_the_card_threads_and_tries_change_no_bit(
    corpus: Corpus, precision: Precision
) -> None:
    expected = forward(backbone_of(8, precision, recipe="torch-1"), corpus, 1)
    assert sum(len(each.image_ids) for each in expected) == 37
    for threads in (3, 16):
        found = forward(backbone_of.__wrapped__(8, precision, recipe="torch-1"), corpus, threads)
        assert_same(found, expected)
    sandboxed = forward(backbone_of(8, precision), corpus, 4)
    for one, other in zip(expected, sandboxed, strict=True):
        assert one.refusals == other.refusals
        mine, theirs = one.vectors["head"], other.vectors["head"]
        lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
        assert (np.einsum("nd,nd->n", mine, theirs) > 0.99 * lengths).all()


def digests() -> list[str]:
    """Return the SHA-256 of what a batch gives, by precision and node."""
    pixels = np.stack([drawn(256, 341, seed) for seed in range(8)])
    return [
        hashlib.sha256(output.float().cpu().numpy().tobytes()).hexdigest()
        for precision in PRECISIONS
        for output in backbone_of(8, precision).forward(pixels, "whole").values()
    ]


def test_another_process_gives_the_same_bits() -> None:
    code = "from tests.pipeline.extract.test_on_card import digests; print(*digests())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    mine = digests()
    assert len(set(mine)) == 2 * len(PRECISIONS)
    assert found.stdout.split() == mine


def test_each_precision_is_as_near_to_the_cpu_as_its_bits_allow() -> None:
    pixels = np.stack([drawn(256, 341, seed) for seed in range(4)])
    exact = backbone_of(4, device="cpu").forward(pixels, "whole")
    errors: dict[str, float] = {}
    for precision in PRECISIONS:
        found = backbone_of(4, precision).forward(pixels, "whole")
        errors[precision] = max(
            float(torch.linalg.norm(found[name].float().cpu() - each) / torch.linalg.norm(each))
            for name, each in exact.items()
        )
    # 24, 11, 11 and 8 significant bits. Were TF32 on, float32 would err as tf32 does.
    assert errors["float32"] < 1e-5 < errors["tf32"] < 0.02
    assert errors["float32"] < errors["float16"] < errors["bfloat16"] < 0.1


def test_what_a_pass_sets_for_the_process_is_set_back() -> None:
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        backbone_of(2).forward(np.zeros((2, 64, 64, 3), np.uint8), "whole")
        assert torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.deterministic == before[0]
    finally:
        torch.backends.cudnn.benchmark = before[1]


def test_a_batch_that_does_not_fit_is_refused_with_the_size_that_does(corpus: Corpus) -> None:
    backbone = backbone_of(64)
    backbone_of.cache_clear()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    held = torch.cuda.memory_reserved()
    # A pass over 64 pictures of 256 x 341 holds some 1.5 GB.
    torch.cuda.set_per_process_memory_fraction((held + 600e6) / total)
    try:
        with pytest.raises(InputError, match=r"a batch of 64 pictures.*batch_size = \d+ fits"):
            forward(backbone, corpus, 4)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_both_kinds_of_layer_of_alexnet(corpus: Corpus, tmp_path: Path) -> None:
    weights = random_weights("alexnet", tmp_path / "alexnet.safetensors")
    spec, path = spec_of("alexnet", "fc2", "conv4", weights=weights, batch_size=8)
    on_card, on_cpu = (
        forward(Backbone(spec, path, device), corpus, 4) for device in ("cuda", "cpu")
    )
    for mine, theirs in zip(on_card, on_cpu, strict=True):
        np.testing.assert_array_equal(mine.image_ids, theirs.image_ids)
        off = np.linalg.norm(mine.vectors["fc2"] - theirs.vectors["fc2"])
        assert off < 1e-4 * np.linalg.norm(theirs.vectors["fc2"])
        here, there = mine.descriptors["conv4"], theirs.descriptors["conv4"]
        np.testing.assert_array_equal(here.image_ids, there.image_ids)
        np.testing.assert_allclose(here.vectors, there.vectors, atol=2e-3)
