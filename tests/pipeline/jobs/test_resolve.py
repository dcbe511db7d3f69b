import pytest

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.extract.networks import LITE0_SHA256
from lamella.pipeline.jobs.resolve import NETWORK_MAPS, resolve_extraction, resolve_fusion
from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.job import FusionSettings

LAYERS = tuple(LayerSpec(name=name, node="n", kind="global") for name in ("high", "middle", "low"))


def maps(network: str, count: int, **settings: tuple[float, ...]) -> list[tuple[float, float]]:
    fusion = resolve_fusion(network, LAYERS[:count], FusionSettings(**settings))
    return [(entry.t, entry.p) for entry in fusion.layers]


def test_a_job_without_settings_is_the_default_network() -> None:
    spec, weights = resolve_extraction(load_job(None))
    assert [(layer.name, layer.node, layer.kind) for layer in spec.layers] == [
        ("head", "head_act", "global"),
        ("b11", "blocks.11.expanded", "local"),
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
        ({"network.name": "resnet50"}, InputError, "no default layers"),
        ({"network.name": "lenet", "network.layers": ["a"]}, InputError, "no network 'lenet'"),
    ],
)
def test_what_cannot_be_extracted_is_named(
    settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve_extraction(load_job(None, settings))


def test_maps_come_from_the_paper_unless_the_network_has_its_own() -> None:
    # Yu et al. 2017, section 4.2: t = .2 and .4, p = .45; the last layer is left as it is.
    assert maps("vgg16", 1) == [(1.0, 1.0)]
    assert maps("vgg16", 2) == [(0.2, 0.45), (1.0, 1.0)]
    assert maps("vgg16", 3) == [(0.2, 0.45), (0.4, 0.45), (1.0, 1.0)]
    own = NETWORK_MAPS["efficientnet_lite0"]
    assert maps("efficientnet_lite0", 2) == [own[0], (1.0, 1.0)]


def test_given_maps_may_leave_the_last_layer_out() -> None:
    expected = [(0.3, 0.5), (1.0, 1.0)]
    assert maps("vgg16", 2, t=(0.3,), p=(0.5,)) == expected
    assert maps("vgg16", 2, t=(0.3, 1.0), p=(0.5, 1.0)) == expected


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"fusion\.t takes one value a layer.* got 3 for layers"):
        maps("vgg16", 2, t=(0.1, 0.2, 1.0))
    with pytest.raises(InputError, match=r"fusion: .*t must not fall"):
        maps("vgg16", 3, t=(0.5, 0.2))
