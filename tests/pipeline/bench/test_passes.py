"""Passes in several precisions and batch sizes, side by side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.bench.extract_steps import Pictures, choose_pictures
from lamella.pipeline.bench.passes import PassTrial, alike, best_batch_size, compare_passes
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.work import PictureSource
from lamella.schemas.extraction import ExtractionSpec, PreprocessSpec
from tests.pictures import draw_jpegs
from tests.pipeline.extract.specs import on_one_thread, spec_of

SMALL = PreprocessSpec(short_edge=32, crop=32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Three pictures of one shape and two of another."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_jpegs(folder / "wide", 3, (80, 100))
    draw_jpegs(folder / "high", 2, (120, 80))
    return choose_pictures(str(folder), 5, DecodeLimits())


def small(**changes: object) -> tuple[ExtractionSpec, Path]:
    spec, weights = spec_of("efficientnet_lite0", "head", "b5", preprocess=SMALL, batch_size=1)
    return spec.model_copy(update=changes), weights


def test_precisions_are_compared_with_the_first(pictures: Pictures) -> None:
    spec, weights = small()
    specs = [
        spec.model_copy(update={"precision": each})
        for each in ("float32", "float32", "float16", "bfloat16")
    ]
    found = compare_passes(pictures, specs, weights, threads=2)
    assert [each.precision for each in found] == ["float32", "float32", "float16", "bfloat16"]
    one, same, half, brain = found
    assert one.ratio == 1
    assert same.ratio == same.pictures_per_second / one.pictures_per_second
    # Two high, three wide, and the first once more, in three turns of two threads; b5 has a place
    # for 8 x 8 pixels: 6 x 4 of a high picture, 4 x 5 of a wide one.
    for name, vectors in (("head", 6), ("b5", 3 * 24 + 3 * 20)):
        for each in found:
            assert (each.pictures, each.layers[name].vectors) == (6, vectors)
            assert each.layers[name].unmatched == 0
        assert one.layers[name].least_cosine == pytest.approx(1, abs=1e-12)
        assert same.layers[name] == one.layers[name]
        means = [each.layers[name].mean_cosine for each in (one, half, brain)]
        assert means[0] > means[1] > means[2] > 0.9
        assert brain.layers[name].least_cosine <= brain.layers[name].mean_cosine


def test_vectors_are_those_that_are_stored(pictures: Pictures) -> None:
    """The cosine of a layer whose vectors are worked out by the network itself."""
    spec, weights = small()
    other = spec.model_copy(update={"precision": "bfloat16"})
    one = replace(pictures, rows=pictures.rows[:1])
    found = compare_passes(one, [spec, other], weights, threads=1)[1].layers["head"]
    source = PictureSource(one.root, one.limits, one.kind)
    seen = source.see(one.rows[0], ["whole"], spec.preprocess)
    assert isinstance(seen, list)
    with on_one_thread():
        maps = [
            Backbone(each, weights).forward(seen[0][None], "whole")["head_act"]
            for each in (spec, other)
        ]
    a, b = (each.double().mean((2, 3))[0].numpy() for each in maps)
    assert found.vectors == 1
    assert found.mean_cosine == pytest.approx(
        a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6
    )


def test_batches_are_full_and_of_one_shape(pictures: Pictures) -> None:
    spec, weights = small()
    some = alike(pictures, spec)
    assert [(row["height"], row["width"]) for row in some.rows] == [(80, 100)] * 3
    specs = [spec.model_copy(update={"batch_size": each}) for each in (1, 4)]
    found = compare_passes(some, specs, weights, threads=1)
    assert [(each.batch_size, each.pictures) for each in found] == [(1, 4), (4, 4)]
    for each in found:
        assert each.layers["head"].mean_cosine == pytest.approx(1, abs=1e-6)


def test_the_best_size_is_the_smallest_that_is_nearly_as_fast_as_any() -> None:
    def best(*rates: float) -> int:
        sizes = zip((1, 4, 8), rates, strict=True)
        return best_batch_size(
            [PassTrial("float32", size, "", pictures_per_second=rate) for size, rate in sizes]
        )

    assert best(100, 104, 105) == 1  # 100 is more than 95 % of 105
    assert best(99, 104, 105) == 4
    assert best(50, 60, 105) == 8
    assert best(100, 80, 0) == 1


def test_what_fails_beside_the_first_is_told_and_the_first_has_to_run(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, weights = small()
    half = spec.model_copy(update={"precision": "bfloat16"})

    def lies(precision: str) -> None:
        if precision == "bfloat16":
            raise InputError("this CPU lies")

    monkeypatch.setattr("lamella.pipeline.extract.backbone.check_half", lies)
    one, other = compare_passes(pictures, [spec, half], weights, threads=1, seconds=0)
    assert one.pictures == 1  # no more after the time is up
    assert other == PassTrial("bfloat16", 1, other.hardware, fault="this CPU lies")
    with pytest.raises(InputError, match="this CPU lies"):
        compare_passes(pictures, [half, spec], weights, threads=1)


def test_a_pass_that_fails_is_told_too(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Backbone.forward

    def forward(self: Backbone, pixels: object, view: str) -> object:
        if self.spec.batch_size == 2:
            raise RuntimeError("takes one\npicture alone")
        return right(self, pixels, view)  # type: ignore[arg-type]

    monkeypatch.setattr(Backbone, "forward", forward)
    spec, weights = small()
    two = spec.model_copy(update={"batch_size": 2})
    one, other = compare_passes(pictures, [spec, two], weights, threads=1, seconds=0)
    assert (one.fault, other.fault) == ("", "takes one picture alone")
    with pytest.raises(InputError, match="takes one picture alone"):
        compare_passes(pictures, [two, spec], weights, threads=1)
