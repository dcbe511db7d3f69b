"""Words and the descriptors they are for: what must be the same, and what need not."""

import numpy as np
import pytest

from lamella.pipeline.errors import IncompatibleInputs, UnknownLayer
from lamella.pipeline.vocabulary.exchange import Exchanged, check_recipe, recipe_digest, recipe_of
from lamella.schemas.exchange import DescriptorRecipe, OutputRecipe, SeenRecipe
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec, WeightsRef
from tests.pipeline.vocabulary.recipes import extraction, layer, seen


def words_for(there: ExtractionSpec) -> Exchanged:
    """Return words of layer b11 of an extraction."""
    return Exchanged(
        layer="b11",
        centroids=np.ones((3, 2), np.float32),
        projection=None,
        cells=None,
        probes=0,
        recipe=recipe_of(there, "b11"),
        recipe_digest=recipe_digest(there, "b11"),
        health=None,
        provenance=None,
    )


SAME = [
    extraction(batch_size=64),
    extraction(precision="float16"),  # as the batch size, it rounds otherwise
    layer(),
    seen(crop=200),  # the layer sees the whole picture
    layer(gem_power=4.0),  # and nothing is pooled
    extraction(weights=WeightsRef(source="file", name="copy.pth", sha256="a1" * 32)),
]
OTHERS = [
    (extraction(network="vgg16"), "network is efficientnet_lite0, for layer b11 here it is vgg16"),
    (
        extraction(weights=WeightsRef(source="file", name="w.pth", sha256="b2" * 32)),
        "weights is a1a1a1a1a1a1, for layer b11 here it is b2b2b2b2b2b2",
    ),
    (layer(node="blocks.9"), "layer.node is blocks.11, for layer b11 here it is blocks.9"),
    (layer(view="warp"), "layer.view is whole, for layer b11 here it is warp"),
    (seen(rgb_recipe="rgb-1"), "preprocess.rgb_recipe is rgb-2, for layer b11 here it is rgb-1"),
    (seen(short_edge=300), "preprocess.short_edge is 256, for layer b11 here it is 300"),
    (seen(long_edge_multiple=32), "preprocess.long_edge_multiple is 1, for .* here it is 32"),
    (seen(max_aspect=2), "preprocess.max_aspect is 4.0, for layer b11 here it is 2.0"),
    (seen(channel_order="bgr"), "preprocess.channel_order is rgb, for layer b11 here it is bgr"),
    (seen(mean=(1, 2, 3)), r"preprocess.mean is \[123.675, .*\], for .* here it is \[1.0, 2"),
    (seen(std=(1, 2, 3)), r"preprocess.std is \[58.395, .*\], for layer b11 here it is \[1.0, 2.0"),
    # the first of two that differ
    (layer(kind="global", pool="gem"), "layer.kind is local, for layer b11 here it is global"),
]  # fmt: skip


@pytest.mark.parametrize("here", SAME)
def test_what_decides_no_descriptor_is_in_no_recipe(here: ExtractionSpec) -> None:
    assert recipe_digest(here, "b11") == recipe_digest(extraction(), "b11")


@pytest.mark.parametrize(("here", "said"), OTHERS)
def test_words_for_other_descriptors_are_refused(here: ExtractionSpec, said: str) -> None:
    read = words_for(extraction())
    check_recipe(read, extraction(), "b11")
    assert recipe_digest(here, "b11") != read.recipe_digest
    with pytest.raises(IncompatibleInputs, match=f"for those of b11 {said}.*: index with the same"):
        check_recipe(read, here, "b11")


def test_words_may_go_to_a_layer_of_another_name() -> None:
    read = words_for(extraction())
    check_recipe(read, layer(name="low"), "low")
    with pytest.raises(UnknownLayer):
        check_recipe(read, layer(name="low"), "b11")


def test_a_view_hides_what_it_does_not_look_at() -> None:
    warped = layer(view="warp", kind="local")
    assert "short_edge" not in recipe_of(warped, "b11")["preprocess"]
    assert "crop" in recipe_of(warped, "b11")["preprocess"]
    assert {"crop", "short_edge"} <= set(recipe_of(extraction(), "head")["preprocess"])
    assert recipe_of(extraction(), "head")["layer"]["gem_power"] == 3.0


def test_each_setting_of_an_extraction_is_in_the_recipe_or_left_out_on_purpose() -> None:
    assert set(SeenRecipe.model_fields) == set(PreprocessSpec.model_fields)
    # A layer of given vectors has no words.
    assert set(OutputRecipe.model_fields) == set(LayerSpec.model_fields) - {"name", "vectors"}
    rounding = {"batch_size", "precision"}
    decides = set(ExtractionSpec.model_fields) - {"format_version", "layers"} - rounding
    assert set(DescriptorRecipe.model_fields) == decides | {"layer", "descriptor"}
