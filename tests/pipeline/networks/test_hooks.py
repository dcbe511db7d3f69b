"""What hooks take: the bits of a full pass, from any number of threads, and nothing overwritten."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch import Tensor

from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.networks.graph import cut
from lamella.pipeline.networks.hooks import Hooked
from tests.pipeline.networks import nets
from tests.pipeline.networks.nets import HERE, given, pixels, small, spec_of


def test_hooks_take_the_bits_that_a_cut_graph_gives() -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    pairs = {"layer2.0": "layer2.0.relu_1", "layer3.1": "layer3.1.relu_1", "bn1": "bn1"}
    x = torch.randn(2, 3, 96, 128).contiguous(memory_format=torch.channels_last)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # as for graphs; hooks need no such care
    with torch.inference_mode():
        by_graph = cut(model, list(pairs.values()))(x)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    with torch.inference_mode():
        by_hooks = Hooked(model, list(pairs))(x)
    for module_name, node in pairs.items():
        assert torch.equal(by_hooks[module_name], by_graph[node]), node


def test_a_pass_ends_after_the_last_layer_and_gives_the_same_bits() -> None:
    model = nets.maps().eval()
    ran: list[str] = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    x = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        stopped = Hooked(model, ["1"])(x)["1"]
        assert ran == ["0", "1"]
        ran.clear()
        full = Hooked(model, ["output", "1"])(x)
        assert ran == ["0", "1", "2", "3", "4", "5", "6"]
    assert torch.equal(stopped, full["1"])
    assert full["output"].shape == (2, 10)


def test_what_a_network_overwrites_was_kept() -> None:
    model = nets.overwrites().eval()
    x = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        first = model.get_submodule("first")(x)
        second = model.get_submodule("second")(first)
        found = Hooked(model, ["first", "second", "output"])(x)
    assert torch.equal(found["first"], first)
    assert torch.equal(found["second"], second)
    assert torch.equal(found["output"], second + 1)


def test_threads_share_a_network_and_get_their_own_pictures() -> None:
    model = nets.maps().eval()
    some, other = Hooked(model, ["3", "1"]), Hooked(model, ["0", "output"])
    inputs = [torch.randn(1, 3, 32, 32 + 8 * n) for n in range(12)]

    def both(x: Tensor) -> tuple[Tensor, ...]:
        torch.set_num_threads(1)
        with torch.inference_mode():
            return (*some(x).values(), *other(x).values())

    alone = [both(x) for x in inputs]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(both, inputs))
    for one, two in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_parts_of_what_a_module_gives() -> None:
    model = nets.parts().eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        found = Hooked(model, ["pair[1]", "output[maximum]", "pair[0]"])(x)
        returned = model(x)
    assert torch.equal(found["pair[0]"], returned["maps"][0])
    assert torch.equal(found["pair[1]"], returned["mean"])
    assert torch.equal(found["output[maximum]"], returned["maximum"])


def test_a_network_that_gives_something_else_in_a_pass_is_refused() -> None:
    x = torch.randn(1, 3, 16, 16)
    model = nets.parts().eval()
    with pytest.raises(InputError, match=r"pair gave a tuple in a pass"):
        Hooked(model, ["pair", "output[mean]"])(x)
    with pytest.raises(InputError, match=r"twice came twice in a pass"):
        Hooked(model, ["twice", "output[mean]"])(x)
    model.unused = torch.nn.Identity()
    with pytest.raises(InputError, match=r"unused did not come in a pass"):
        Hooked(model, ["unused"])(x)


def test_views_share_a_network() -> None:
    layers = [{"name": "b1", "view": "crop"}, {"name": "b3", "view": "whole"}]
    backbone = Backbone(*spec_of(f"{HERE}:vit", layers=layers, **small(64)))
    assert backbone.views == ("crop", "whole")
    crop = given(backbone, pixels(1, 64, 64), "crop")
    whole = given(backbone, pixels(1, 64, 96), "whole")
    assert {name: tuple(each.shape) for name, each in crop.items()} == {"b1": (1, 64, 4, 4)}
    assert {name: tuple(each.shape) for name, each in whole.items()} == {"b3": (1, 64, 4, 6)}
