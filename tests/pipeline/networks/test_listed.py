import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.descriptors import global_vectors
from lamella.pipeline.networks import listed
from lamella.pipeline.networks.listed import (
    ALIASES,
    DEFAULT_LAYERS,
    Alias,
    build,
    default_layers,
    layer_meant,
    network_meant,
    node_names,
    resolve_layer,
)
from lamella.pipeline.networks.torchvision_names import TORCHVISION
from lamella.pipeline.networks.weights import LITE0, find_weights, load_state
from lamella.pipeline.store.commit import sha256_of
from lamella.schemas.extraction import PreprocessSpec, View
from tests.pipeline.extract.specs import random_weights, spec_of

CAFFE_VGG = Path(__file__).parents[4] / "shared/weights/vgg16_conv_caffe_bgr_fp16.safetensors"
CAFFE = PreprocessSpec(
    channel_order="bgr", mean=(103.939, 116.779, 123.68), std=(1, 1, 1), short_edge=64, crop=64
)


PIXELS = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights("alexnet", tmp_path_factory.mktemp("weights") / "alexnet.safetensors")


@pytest.mark.parametrize("network", ["alexnet", "vgg16"])
def test_short_names_are_outputs_after_relu(network: str) -> None:
    model = build(network)
    nodes = node_names(network)
    for name, alias in ALIASES[network].items():
        assert alias.node in nodes, name
        assert isinstance(model.get_submodule(alias.node), torch.nn.ReLU), name
        assert not model.get_submodule(alias.node).inplace, name


def test_names_of_vgg_count_convolutions_of_a_block() -> None:
    # c4_2 is the second convolution after the third pooling.
    model = build("vgg16").features
    assert isinstance(model, torch.nn.Sequential)
    pools = convolutions = 0
    seen = {}
    for index, module in enumerate(model):
        if isinstance(module, torch.nn.MaxPool2d):
            pools, convolutions = pools + 1, 0
        elif isinstance(module, torch.nn.Conv2d):
            convolutions += 1
            seen[f"c{pools + 1}_{convolutions}"] = f"features.{index + 1}"
    named = {k: v.node for k, v in ALIASES["vgg16"].items() if k.startswith("c")}
    assert named == seen


def test_short_names_of_the_default_network_are_of_every_block_that_expands() -> None:
    model, nodes = build(LITE0), node_names(LITE0)
    numbers = range(1, 16)
    wide, narrow = [f"b{n}" for n in numbers], [f"p{n}" for n in numbers]
    assert list(ALIASES[LITE0]) == ["head", *wide, *narrow]
    for name in ["head", *wide]:
        assert isinstance(model.get_submodule(ALIASES[LITE0][name].node), torch.nn.ReLU6)
    assert ALIASES[LITE0]["p10"] == Alias("blocks.10.add", "local")
    assert ALIASES[LITE0]["p15"] == Alias("blocks.15.project", "local")
    assert all(ALIASES[LITE0][name].node in nodes for name in narrow)
    for network, layers in DEFAULT_LAYERS.items():
        assert all(layer in ALIASES[network] for layer in layers)


def test_an_unknown_layer_is_told_which_there_are() -> None:
    with pytest.raises(UnknownLayer, match=r"alexnet has no layer 'conv9': it has fc1.*conv1.*"):
        resolve_layer("alexnet", "conv9")
    with pytest.raises(
        UnknownLayer, match=r"has blocks\.1\..* and \d+ more: did you mean blocks\."
    ):
        resolve_layer(LITE0, "x", node="blocks.1.expandd")
    with pytest.raises(
        UnknownLayer, match=r"resnet18 has no layer 's9': it has pool, s1, .*s5, x,"
    ):
        resolve_layer("resnet18", "s9")
    with pytest.raises(
        InputError, match=r"no network 'resnet0': there are .*: did you mean resnet"
    ):
        resolve_layer("resnet0", "layer1")


def test_networks_and_layers_are_known_in_any_case() -> None:
    assert network_meant("EfficientNet_Lite0") == LITE0
    assert network_meant("VGG16_BN") == "vgg16_bn"
    assert layer_meant(LITE0, "HEAD") == "head"
    assert layer_meant(LITE0, "blocks.0") == "blocks.0"


def test_the_names_that_shells_offer_are_those_of_torchvision() -> None:
    import torchvision

    assert list(TORCHVISION) == torchvision.models.list_models(module=torchvision.models)


def test_a_known_short_name_is_found_without_opening_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(network: str) -> None:
        raise AssertionError(network)

    monkeypatch.setattr(listed, "build", never)
    for network in (LITE0, "efficientnet_lite2", "vgg16", "alexnet"):
        for name in default_layers(network):
            resolve_layer(network, name)
    assert default_layers("efficientnet_lite1") == ("head", "p20")


def test_a_network_without_short_names_has_its_last_map_by_default() -> None:
    assert default_layers("resnet18") == ("pool", "s5")
    pool, last = (resolve_layer("resnet18", name) for name in default_layers("resnet18"))
    assert (pool.kind, pool.pool, last.kind, last.pool) == ("global", "average", "local", "none")
    assert pool.node == last.node == "layer4.1.relu_1"
    with pytest.raises(
        InputError, match=r"vit_b_16 has no default layers, .* name some of its nodes"
    ):
        default_layers("vit_b_16")


def test_the_default_layers_of_resnet_give_its_own_vector(tmp_path: Path) -> None:
    weights = random_weights("resnet18", tmp_path / "weights.safetensors")
    own_layer = resolve_layer("resnet18", "own", node="avgpool")
    spec, path = spec_of("resnet18", *default_layers("resnet18"), own_layer, weights=weights)
    outputs = Backbone(spec, path).forward(PIXELS, "whole")
    assert outputs["layer4.1.relu_1"].shape == (2, 512, 2, 2)  # 64 / 2 ** 5
    pool = global_vectors(outputs["layer4.1.relu_1"], spec.layer("pool"))
    own = global_vectors(outputs["avgpool"], spec.layer("own"))
    assert np.ptp(own) > 0
    np.testing.assert_allclose(pool, own, rtol=1e-5)


def test_a_network_that_computes_its_widths_is_built_on_the_meta_device() -> None:
    assert all(tensor.is_meta for tensor in build("regnet_y_400mf").state_dict().values())


def test_a_layer_takes_what_is_not_said_from_its_short_name() -> None:
    fc1 = resolve_layer("alexnet", "fc1")
    assert (fc1.node, fc1.kind, fc1.pool, fc1.view) == ("classifier.2", "global", "none", "crop")
    conv4 = resolve_layer("alexnet", "conv4")
    assert (conv4.node, conv4.kind, conv4.view) == ("features.9", "local", "whole")
    pooled = resolve_layer("alexnet", "top", node="conv5", kind="global")
    assert (pooled.node, pooled.pool) == ("features.11", "average")
    local = resolve_layer(LITE0, "head", kind="local")
    assert (local.kind, local.pool) == ("local", "none")


def test_alexnet_gives_a_vector_of_the_crop_and_a_map_of_the_whole(alexnet: Path) -> None:
    spec, weights = spec_of("alexnet", "fc1", "conv4", weights=alexnet)
    backbone = Backbone(spec, weights)
    assert backbone.views == ("crop", "whole")
    crop = backbone.forward(np.full((2, 224, 224, 3), 99, np.uint8), "crop")
    whole = backbone.forward(np.full((2, 256, 352, 3), 99, np.uint8), "whole")
    assert {name: tuple(each.shape) for name, each in crop.items()} == {"classifier.2": (2, 4096)}
    # 256 x 352: (n + 4 - 11) // 4 + 1 = 63 x 87, pooled 31 x 43, pooled 15 x 21.
    assert {name: tuple(each.shape) for name, each in whole.items()} == {
        "features.9": (2, 256, 15, 21)
    }
    assert all(bool((each >= 0).all()) for each in [*crop.values(), *whole.values()])


def test_a_layer_above_does_not_change_what_a_layer_below_gives(alexnet: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3)).astype(np.uint8)
    alone, together = (
        Backbone(*spec_of("alexnet", *layers, weights=alexnet)).forward(pixels, "whole")
        for layers in (("conv3",), ("conv5", "conv4", "conv3"))
    )
    assert torch.equal(alone["features.7"], together["features.7"])


def test_weights_are_checked_before_they_are_read(alexnet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have SHA-256 \w{12}, the job says 000000000000"):
        load_state(alexnet, "0" * 64)
    spec, _ = spec_of("alexnet", "conv4", weights=alexnet)
    damaged = tmp_path / alexnet.name
    shutil.copy(alexnet, damaged)
    with damaged.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\1\2\3\4\5")
    with pytest.raises(InputError, match="give the file that the job was made with"):
        Backbone(spec, damaged)


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    for name in ("broken.safetensors", "broken.pth"):
        (tmp_path / name).write_bytes(b"neither tensors nor anything")
        spec, path = spec_of("alexnet", "conv4", weights=tmp_path / name)
        with pytest.raises(InputError, match=f"weights {name} cannot be read"):
            Backbone(spec, path)
    (tmp_path / "weights.onnx").touch()
    with pytest.raises(InputError, match=r"weights are \.safetensors or \.pth; got weights\.onnx"):
        find_weights("alexnet", tmp_path / "weights.onnx")
    with pytest.raises(InputError, match="there is no weights file"):
        find_weights("alexnet", tmp_path / "absent.pth")


def test_code_in_a_weights_file_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    spec, path = spec_of("alexnet", "conv4", weights=tmp_path / "trap.pth")
    with pytest.raises(InputError, match=r"trap\.pth cannot be read"):
        Backbone(spec, path)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_refused(alexnet: Path, tmp_path: Path) -> None:
    spec, path = spec_of("vgg16", "c4_1", weights=alexnet)
    with pytest.raises(InputError, match=r"weights alexnet\.safetensors do not fit vgg16: "):
        Backbone(spec, path)
    extra = tmp_path / "extra.safetensors"
    save_file({"layer4.0.conv1.weight": torch.zeros(3)}, extra)
    spec, path = spec_of("alexnet", "conv4", weights=extra)
    with pytest.raises(InputError, match=r"hold layer4\.0\.conv1\.weight, .* another network"):
        Backbone(spec, path)


def test_weights_that_stop_below_a_layer_are_refused_for_it_alone(tmp_path: Path) -> None:
    path = random_weights("alexnet", tmp_path / "conv.safetensors", leave_out="classifier")
    Backbone(*spec_of("alexnet", "conv5", weights=path))
    with pytest.raises(InputError, match=r"lack classifier\.1\.weight and 1 more, .* alexnet need"):
        Backbone(*spec_of("alexnet", "fc1", "conv5", weights=path))


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (LITE0, {"head": "whole", "blocks.3.expand": "whole", "stem": "crop"}),
        # the output of a convolution is kept in one view, and not in the other
        ("alexnet", {"features.10": "whole", "features.8": "crop"}),
        ("alexnet", {"features.8": "whole", "features.10": "crop"}),
        # modules that are called twice, once behind a sum
        ("resnet18", {"layer2.0.bn1": "whole", "layer3.1.conv1": "whole", "avgpool": "crop"}),
    ],
)
def test_what_works_in_place_changes_no_output(
    network: str, layers: dict[str, View], tmp_path: Path
) -> None:
    weights = None
    if network != LITE0:
        weights = random_weights(network, tmp_path / "weights.safetensors")
    named = [
        resolve_layer(network, f"l{n}", node=node, kind="local", view=view)
        for n, (node, view) in enumerate(layers.items())
    ]
    backbone = Backbone(*spec_of(network, *named, weights=weights, preprocess=CAFFE))
    found = [backbone.forward(PIXELS, view) for view in backbone.views]
    switched = 0
    for extractor in backbone._by_view.values():
        assert isinstance(extractor, torch.nn.Module)
        for module in extractor.modules():
            if getattr(module, "inplace", False):
                vars(module)["inplace"], switched = False, switched + 1
    assert switched > 0
    expected = [backbone.forward(PIXELS, view) for view in backbone.views]
    for mine, theirs in zip(found, expected, strict=True):
        for node, output in mine.items():
            assert torch.isfinite(output).all()
            assert torch.equal(output, theirs[node]), node


def test_bgr_and_mean_are_those_worked_by_hand(tmp_path: Path) -> None:
    # A first convolution of 1 x 1 at heart: only the middle weight of each kernel is not 0, so
    # filter 0 gives 1 * B', filter 1 gives 2 * G', filter 2 gives 4 * R'.
    features = build("vgg16").features
    assert isinstance(features, torch.nn.Sequential)
    state = {n: torch.zeros(t.shape) for n, t in features.state_dict().items()}
    for channel, gain in enumerate((1.0, 2.0, 4.0)):
        state["0.weight"][channel, channel, 1, 1] = gain
    path = tmp_path / "by-hand.safetensors"
    save_file({f"features.{name}": tensor for name, tensor in state.items()}, path)
    spec, weights = spec_of("vgg16", "c1_1", weights=path, preprocess=CAFFE)
    pixels = np.empty((2, 64, 64, 3), np.uint8)
    pixels[:] = (200, 150, 110)  # R, G, B
    (output,) = Backbone(spec, weights).forward(pixels, "whole").values()
    expected = [110 - 103.939, 2 * (150 - 116.779), 4 * (200 - 123.68)]
    np.testing.assert_allclose(output[1, :3, 5, 5].numpy(), expected, rtol=1e-5)


@pytest.mark.skipif(not CAFFE_VGG.exists(), reason="the VGG-16 weights are not on this machine")
def test_vgg_weights_in_half_precision_give_layers_of_several_heights() -> None:
    top = resolve_layer("vgg16", "top", node="c5_3", kind="global", pool="maximum")
    spec, weights = spec_of("vgg16", top, "c5_1", "c4_1", weights=CAFFE_VGG, preprocess=CAFFE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    outputs = Backbone(spec, weights).forward(pixels, "whole")
    assert {name: tuple(each.shape) for name, each in outputs.items()} == {
        "features.18": (2, 512, 8, 12),
        "features.25": (2, 512, 4, 6),
        "features.29": (2, 512, 4, 6),
    }
    for each in outputs.values():
        assert each.dtype == torch.float32
        assert bool((each >= 0).all())
        assert 0.02 < float((each > 0).float().mean()) < 0.9


def packed(path: Path) -> None:
    """Write zeros as torch.save would, but compressed: a thousand times less than they take."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(25_000_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for member in source.infolist():
            out.writestr(member.filename, source.read(member))


def repeated(path: Path) -> None:
    """Write a tensor that repeats one number, of half a byte in the file."""
    torch.save({"a": torch.zeros(1, dtype=torch.float16).expand(50_000_000)}, path)


def named_often(path: Path) -> None:
    """Write one tensor under many names: each is widened to an array of its own."""
    tensor = torch.zeros(100_000, dtype=torch.float16)
    torch.save({f"{number}": tensor for number in range(500)}, path)


@pytest.mark.parametrize("write", [packed, repeated, named_often])
def test_weights_that_take_far_more_memory_than_their_file_are_refused(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    write(path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"w\.pth have [0-9,]+ bytes and would take [12]\d\d,"):
        load_state(path, sha256_of(path))


def test_weights_in_the_format_before_zip_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert load_state(path, sha256_of(path))["a"].tolist() == [1.0, 1.0, 1.0]
