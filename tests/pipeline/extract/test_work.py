"""Batches through the network, by the way of CPUs and by that of a graphics card, on a CPU."""

import functools
import gc
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.errors import CardLost, InputError
from lamella.pipeline.extract import cuda
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.work import PictureSource, forward_pictures
from lamella.pipeline.networks.listed import LITE_PREPROCESS
from lamella.pipeline.networks.weights import LITE0
from lamella.pipeline.run.ledger import is_worth_retrying
from lamella.schemas.extraction import Precision, View
from tests.pictures import draw_jpegs, without_huffman_tables
from tests.pipeline.extract.specs import assert_same, rows_of, spec_of

Corpus = tuple[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Eleven pictures of two shapes, the second of them changed since it was listed."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_jpegs(folder / "flat", 8, (96, 128))
    draw_jpegs(folder / "upright", 3, (128, 96))
    root, rows = rows_of(folder)
    rows[1]["sha256"] = bytes(32)
    return root, rows


@functools.cache
def backbone_of(batch_size: int, *, queues: bool = False) -> Backbone:
    spec, weights = spec_of(LITE0, "head", "b11", batch_size=batch_size)
    backbone = Backbone(spec, weights)
    backbone.lane.queues = queues
    return backbone


def forward(backbone: Backbone, corpus: Corpus, threads: int) -> list[BatchActivations]:
    source, ids = PictureSource(corpus[0], DecodeLimits()), np.arange(40, 40 + len(corpus[1]))
    return list(forward_pictures(backbone, source, corpus[1], ids, threads=threads))


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_way_of_a_card_gives_the_bits_of_the_way_of_cpus(
    corpus: Corpus, batch_size: int
) -> None:
    expected = forward(backbone_of(batch_size), corpus, 1)
    assert [len(each.image_ids) for each in expected] == {
        1: [1, 0, *[1] * 9],
        4: [3, 4, 3],
    }[batch_size]
    ((refusal,),) = [each.refusals for each in expected if each.refusals]
    assert (refusal.image_id, refusal.reason.value) == (41, "changed")
    for threads in (1, 3):
        assert_same(forward(backbone_of(batch_size, queues=True), corpus, threads), expected)
    assert_same(forward(backbone_of(batch_size), corpus, 3), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_containers_are_closed_once_nobody_reads_them(
    corpus: Corpus, tmp_path: Path, threads: int
) -> None:
    tar = tmp_path / "all.tar"
    with tarfile.open(tar, "w") as packed:
        packed.add(corpus[0], "pictures")
    root, rows = rows_of(tmp_path)
    assert {row["container"] for row in rows} == {"all.tar"}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        assert sum(len(each.image_ids) for each in forward(backbone_of(4), (root, rows), threads))
        gc.collect()
    assert [str(each.message) for each in warned if "all.tar" in str(each.message)] == []


def test_a_batch_of_refusals_alone_asks_for_no_pass(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [{**row, "sha256": bytes(32)} for row in corpus[1]]
    monkeypatch.setattr(Backbone, "forward", lambda *_: pytest.fail("there is nothing to see"))
    for queues in (False, True):
        found = forward(backbone_of(4, queues=queues), (corpus[0], changed), 2)
        assert sum(len(each.refusals) for each in found) == 11
        assert all(len(each.image_ids) == 0 for each in found)


@pytest.fixture(scope="module")
def mixed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Pictures of one shape: some plain JPEGs, and what only the sandbox reads or refuses."""
    folder = tmp_path_factory.mktemp("mixed")
    draw_jpegs(folder, 8, (96, 128))
    paths = sorted(folder.iterdir())
    Image.open(paths[1]).save(folder / "a.png")
    Image.open(paths[2]).convert("CMYK").save(folder / "b.jpg")
    data = paths[3].read_bytes()
    (folder / "c.jpg").write_bytes(data[: len(data) // 2])
    (folder / "d.jpg").write_bytes(without_huffman_tables(data))
    return rows_of(folder)


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_jpegs_of_the_device_keep_their_bits_beside_those_of_the_sandbox(
    mixed: Corpus, batch_size: int
) -> None:
    recipe = LITE_PREPROCESS.model_copy(update={"rgb_recipe": "torch-1"})
    spec, weights = spec_of(LITE0, "head", "b11", preprocess=recipe, batch_size=batch_size)
    backbone = Backbone(spec, weights)
    expected = forward(backbone, mixed, 1)
    refused = [refusal for each in expected for refusal in each.refusals]
    assert [(each.name, each.reason.value) for each in refused] == [
        ("c.jpg", "truncated"),
        ("d.jpg", "corrupt"),
    ]
    for queues in (False, True):
        backbone.lane.queues = queues
        for threads in (1, 3):
            assert_same(forward(backbone, mixed, threads), expected)
    sandboxed = forward(backbone_of(batch_size), mixed, 1)
    for one, other in zip(expected, sandboxed, strict=True):
        np.testing.assert_array_equal(one.image_ids, other.image_ids)
        assert one.refusals == other.refusals
        vectors = (each.vectors.get("head", np.empty((0, 0))) for each in (one, other))
        for mine, theirs in zip(*vectors, strict=True):
            assert mine @ theirs > 0.999 * np.linalg.norm(mine) * np.linalg.norm(theirs)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_other_precisions_give_nearly_the_same_in_the_types_that_are_stored(
    corpus: Corpus, precision: Precision
) -> None:
    # Small, since few processors have half precision.
    small = LITE_PREPROCESS.model_copy(update={"short_edge": 64, "crop": 64})
    rows = (corpus[0], corpus[1][2:4])
    found = []
    for each in ("float32", precision):
        spec, weights = spec_of(LITE0, "head", "b11", preprocess=small, precision=each)
        found += forward(Backbone(spec, weights), rows, 1)
    exact, other = found
    if precision == "tf32":  # of cards alone
        assert_same([other], [exact])
        return
    assert other.vectors["head"].dtype == np.float32
    assert other.descriptors["b11"].vectors.dtype == np.float16
    for one, two in zip(exact.vectors["head"], other.vectors["head"], strict=True):
        assert 0.99 < one @ two / np.linalg.norm(one) / np.linalg.norm(two) < 1


def outgrow(monkeypatch: pytest.MonkeyPatch, most: int, *, silently: bool = False) -> None:
    """Let no more pictures than `most` fit; `silently`: as where cuDNN goes on regardless."""
    refused: list[int] = []
    original = Backbone.forward

    def limited(backbone: Backbone, pixels: Any, view: View) -> Any:
        if len(pixels) > most:
            refused.append(len(pixels))
            if not silently:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return original(backbone, pixels, view)

    monkeypatch.setattr(Backbone, "forward", limited)
    monkeypatch.setattr(cuda, "refusals", lambda _: len(refused))


@pytest.mark.parametrize("silently", [False, True])
def test_a_batch_that_does_not_fit_is_refused_with_the_size_that_does(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, silently: bool
) -> None:
    outgrow(monkeypatch, 2, silently=silently)
    said = r"a batch of 8 pictures of 256 x \d+ needs .* on cpu, .* free: batch_size = 2 fits"
    for queues in (False, True):
        with pytest.raises(InputError, match=said) as caught:
            forward(backbone_of(8, queues=queues), corpus, 1)
        assert not is_worth_retrying(caught.value)


def test_where_not_one_picture_fits_no_size_is_named(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    outgrow(monkeypatch, 0)
    with pytest.raises(InputError, match="not even one picture fits: take a smaller short_edge"):
        forward(backbone_of(4), corpus, 1)


@pytest.mark.parametrize("queues", [False, True])
def test_a_card_that_is_lost_is_told_from_one_that_answers(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, queues: bool
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    backbone = backbone_of(4, queues=queues)
    monkeypatch.setattr(Backbone, "forward", broken)
    with pytest.raises(RuntimeError, match=r"^CUDA error"):
        forward(backbone, corpus, 2)
    monkeypatch.setattr(cuda, "answers", lambda _: False)
    with pytest.raises(CardLost, match=r"does not answer \(CUDA error.*another process") as caught:
        forward(backbone, corpus, 2)
    assert is_worth_retrying(caught.value)


def test_values_beyond_a_precision_are_not_stored(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Backbone.forward

    def overflowing(backbone: Backbone, pixels: Any, view: View) -> Any:
        outputs = dict(original(backbone, pixels, view))
        for name in outputs:
            if name.startswith("blocks"):
                outputs[name] = outputs[name].clone()
                outputs[name][1, 3, 2, 2] = torch.inf
        return outputs

    monkeypatch.setattr(Backbone, "forward", overflowing)
    with pytest.raises(ValueError, match="layer b11 gave values that are not finite in float32"):
        forward(backbone_of(4), corpus, 1)
