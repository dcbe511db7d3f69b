from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.jobs.indexing import Prepared, prepare
from lamella.pipeline.jobs.resolve import (
    asked_fusion,
    resolve_extraction,
    resolve_fusion,
    scaled_weights,
    settle_profile,
)
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.networks.efficientnet_lite import EfficientNetLite
from lamella.pipeline.networks.weights import LITE0, LITE0_SHA256
from lamella.pipeline.vocabulary.import_words import words_folder
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.job import FusionSettings
from lamella.schemas.query import FusionSpec
from lamella.schemas.snapshot import IndexSnapshot, LayerScale
from lamella.schemas.vocabulary import EncodingSpec, ProjectionSpec
from tests.conftest import Indexed
from tests.tiny import tiny_pictures

LAYERS = tuple(LayerSpec(name=name, node="n", kind="global") for name in ("high", "middle", "low"))


def maps(count: int, **settings: tuple[float, ...]) -> list[tuple[float, float]]:
    fusion = resolve_fusion(LAYERS[:count], FusionSettings.model_validate(settings))
    return [(entry.t, entry.p) for entry in fusion.layers]


def test_a_job_without_settings_is_the_default_network() -> None:
    spec, weights = resolve_extraction(load_job(None))
    assert [(layer.name, layer.node, layer.kind) for layer in spec.layers] == [
        ("head", "head_act", "global"),
        ("p15", "blocks.15.project", "local"),
    ]
    assert spec.weights.sha256 == LITE0_SHA256
    assert weights.is_file()
    assert spec.preprocess.mean == (127.0, 127.0, 127.0)


def test_settings_change_only_what_they_name() -> None:
    layers = [{"name": "top", "node": "head", "pool": "gem"}, "b5"]
    settings: dict[str, object] = {"network.layers": layers, "network.preprocess.short_edge": 300}
    settings["network.preprocess.rgb_recipe"] = "rgb-1"
    spec, _ = resolve_extraction(load_job(None, settings))
    assert [(layer.name, layer.node, layer.pool) for layer in spec.layers] == [
        ("top", "head_act", "gem"),
        ("b5", "blocks.5.expanded", "none"),
    ]
    assert (spec.preprocess.short_edge, spec.preprocess.crop) == (300, 224)
    assert spec.preprocess.rgb_recipe == "rgb-1"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"network.layers": ["b99"]}, UnknownLayer, "no layer 'b99': it has head, b1"),
        ({"network.layers": ["b5", "b5"]}, InputError, "each layer needs its own name"),
        ({"network.layers": [{"name": "b5", "pool": "gem"}]}, InputError, "local and asks for"),
        ({"network.preprocess.crop": 300}, InputError, "crop cannot exceed the short edge"),
        ({"network.weights_sha256": "0" * 64}, InputError, "the job says 000000000000"),
        ({"network.name": "vit_b_16"}, InputError, "no default layers"),
        ({"network.name": "lenet", "network.layers": ["a"]}, InputError, "no network 'lenet'"),
    ],
)
def test_what_cannot_be_extracted_is_named(
    settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve_extraction(load_job(None, settings))


def test_maps_that_are_not_given_are_those_of_the_paper() -> None:
    # Yu et al. 2017, section 4.2: t = .2 and .4, p = .45; the last layer is left as it is.
    assert maps(1) == [(1.0, 1.0)]
    assert maps(2) == [(0.2, 0.45), (1.0, 1.0)]
    assert maps(3) == [(0.2, 0.45), (0.4, 0.45), (1.0, 1.0)]


def test_given_maps_may_leave_the_last_layer_out() -> None:
    expected = [(0.3, 0.5), (1.0, 1.0)]
    assert maps(2, t=(0.3,), p=(0.5,)) == expected
    assert maps(2, t=(0.3, 1.0), p=(0.5, 1.0)) == expected


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"fusion\.t takes one value a layer.* got 3 for layers"):
        maps(2, t=(0.1, 0.2, 1.0))
    with pytest.raises(InputError, match=r"fusion: .*t must not fall"):
        maps(3, t=(0.5, 0.2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": (1.0,)}, r"fusion\.weights takes one value a layer; got 1 for layers high, "),
        ({"weights": (1.0, 0.0)}, r"fusion: .*weight: .*greater than or equal to 0\.001; got 0\.0"),
        ({"weights": (1.0, -2.0)}, r"fusion: .*greater than or equal to 0\.001; got -2\.0"),
        ({"weights": (float("nan"), 1.0)}, r"fusion: .*finite number; got nan"),
    ],
)
def test_weights_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_fusion(LAYERS[:2], FusionSettings.model_construct(**settings))


def scale(layer: str, high: float) -> LayerScale:
    return LayerScale(layer=layer, median=0.0, high=high, pairs=10)


def test_scaled_weights_bring_percentiles_to_that_of_the_first_layer() -> None:
    calibration = (scale("high", 0.8), scale("middle", 0.6), scale("low", 0.5))
    assert scaled_weights(LAYERS, calibration) == [1.0, 1.33, 1.6]
    scaled = FusionSettings.model_validate("scaled")
    fusion = resolve_fusion(LAYERS, scaled, calibration)
    assert [entry.weight for entry in fusion.layers] == [1.0, 1.33, 1.6]
    fusion = resolve_fusion(LAYERS, FusionSettings(), calibration)
    assert [entry.weight for entry in fusion.layers] == [1.0, 1.0, 1.0]


def test_scaled_weights_of_few_pictures_stay_within_bounds() -> None:
    assert scaled_weights(LAYERS[:2], (scale("high", 0.8), scale("middle", 0.001))) == [1.0, 4.0]
    assert scaled_weights(LAYERS[:2], (scale("high", 0.8), scale("middle", 0.0))) == [1.0, 1.0]
    assert scaled_weights(LAYERS[:2], ()) == [1.0, 1.0]
    with pytest.raises(InputError, match="layer middle was not calibrated"):
        scaled_weights(LAYERS[:2], (scale("high", 0.8),))


def test_a_profile_settles_what_is_not_said() -> None:
    job = settle_profile(load_job(None))
    assert (job.encoding.nearest, job.encoding.power) == (3, 0.5)
    assert job.vocabulary.projection == ProjectionSpec(whiten=True)
    job = settle_profile(load_job(None, {"encoding.power": 1.0, "vocabulary.projection": "none"}))
    assert (job.encoding.nearest, job.encoding.power) == (3, 1.0)
    assert job.vocabulary.projection is None
    job = settle_profile(load_job(None, {"profile": "paper"}))
    assert (job.encoding_of("b11"), job.vocabulary.projection) == (EncodingSpec(), None)
    assert [layer.name for layer in resolve_extraction(job)[0].layers] == ["head", "b11"]


def test_a_descriptor_counts_for_no_more_words_than_there_are() -> None:
    with pytest.raises(InputError, match="5 nearest words of 4 are asked for"):
        settle_profile(load_job(None, {"encoding.nearest": 5, "vocabulary.words": 4}))
    job = settle_profile(load_job(None, {"vocabulary.words": 2}))
    assert job.encoding.nearest == 2  # the profile's own three give way
    layer = {"name": "p15", "words": 2, "encoding": {"nearest": 3}}
    with pytest.raises(InputError, match="3 nearest words of 2 are asked for"):
        settle_profile(load_job(None, {"network.layers": ["head", layer]}))


def weights_asked(snapshot: IndexSnapshot, names: list[str] | None = None, **fusion: Any) -> Any:
    settings = {f"fusion.{name}": value for name, value in fusion.items()}
    spec, _ = asked_fusion(snapshot, load_job(None, settings), names)
    return [entry.weight for entry in spec.layers]


def test_a_question_keeps_the_weights_of_the_snapshot_unless_it_says_others(
    indexed: Indexed,
) -> None:
    made = indexed.snapshot
    high, low = made.fusion.layers
    heavy = FusionSpec(layers=(high, low.model_copy(update={"weight": 2.5})))
    weighted = made.model_copy(update={"fusion": heavy})
    assert weights_asked(weighted) == weights_asked(weighted, t=[0.3]) == [1.0, 2.5]
    assert weights_asked(weighted, preset="published") == [1.0, 1.0]
    assert weights_asked(weighted, weights=[1.0, 0.5]) == [1.0, 0.5]
    assert weights_asked(weighted, [low.layer]) == [1.0]  # alone a layer's score is its similarity
    scales = {scale.layer: scale.high for scale in made.calibration}
    scaled = min(max(scales[high.layer] / scales[low.layer], 0.25), 4.0)
    assert weights_asked(weighted, preset="scaled") == [1.0, pytest.approx(scaled, rel=5e-3)]


def test_a_snapshot_without_calibration_cannot_be_scaled(indexed: Indexed) -> None:
    old = indexed.snapshot.model_copy(update={"calibration": ()})
    with pytest.raises(InputError, match="snapshot 1 was made before layers were calibrated"):
        weights_asked(old, preset="scaled")


def test_the_networks_own_weights_are_known_when_they_are_named(tmp_path: Path) -> None:
    usual, packaged = resolve_extraction(load_job(None))
    named = tmp_path / "copy.pth"
    named.write_bytes(packaged.read_bytes())
    spec, path = resolve_extraction(load_job(None, {"network.weights": str(named)}))
    assert (spec, path) == (usual, named)
    assert prepared(tmp_path, str(named)).spec == usual


def prepared(folder: Path, weights: str) -> Prepared:
    if not (folder / "pictures").exists():
        tiny_pictures(folder / "pictures")
    return prepare(str(folder / "pictures"), load_job(None, {"network.weights": weights}))


def test_weights_of_another_network_are_refused_before_the_source_is_looked_at(
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.pth"
    torch.save({"a.weight": torch.zeros(3)}, other)
    with pytest.raises(InputError, match=r"other\.pth .*(lack|belong to another network)"):
        prepare(str(tmp_path / "no source"), load_job(None, {"network.weights": str(other)}))
    whole = {name: tensor.float() for name, tensor in EfficientNetLite(LITE0).state_dict().items()}
    del whole["stem.weight" if "stem.weight" in whole else next(iter(whole))]
    save_file(whole, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"part\.safetensors lack "):
        prepared(tmp_path, str(tmp_path / "part.safetensors"))


def test_relative_weights_and_words_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, packaged = resolve_extraction(load_job(None))
    (tmp_path / "copy.pth").write_bytes(packaged.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for said in ("copy.pth", "./copy.pth", "~/copy.pth"):
        job = load_job(None, {"network.weights": said, "vocabulary_from": said})
        assert resolve_extraction(job)[1].resolve() == tmp_path / "copy.pth"
        assert resolve_extraction(job)[1].is_absolute()
        assert words_folder(job).resolve() == tmp_path / "copy.pth"
        assert words_folder(job).is_absolute()
    assert prepared(tmp_path, "copy.pth").weights.is_absolute()
