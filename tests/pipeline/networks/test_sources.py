"""Names, weights and pictures of networks from elsewhere: copies, files, folders, bad input."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.networks import copies, hub, providers
from lamella.pipeline.networks.find import find_weights
from lamella.schemas.extraction import WeightsRef
from tests.pipeline.networks import nets
from tests.pipeline.networks.nets import HERE, given, pixels, saved_tower, small, spec_of

pytest.importorskip("timm", reason="timm is not installed")
VIT = f"{HERE}:vit"


def test_own_code_comes_with_its_weights_and_workers_load_their_copy() -> None:
    spec, weights = spec_of(f"{HERE}:unseeded", layers=["2"], **small(32))
    assert (spec.weights.source, spec.weights.name) == ("code", "unseeded.safetensors")
    assert weights == copies.held(spec.weights)
    one, two = (Backbone(spec, weights).forward(pixels(1, 32, 32), "whole") for _ in range(2))
    assert torch.equal(one["2"], two["2"])
    other, _ = spec_of(f"{HERE}:unseeded", layers=["2"], **small(32))
    assert other.weights.sha256 != spec.weights.sha256
    # Who wants the same again names the copy.
    again, _ = spec_of(f"{HERE}:unseeded", layers=["2"], weights=str(weights), **small(32))
    assert again == spec
    seeded = [spec_of(VIT, **small(64))[0].weights.sha256 for _ in range(2)]
    assert seeded[0] == seeded[1]


def test_a_copy_gives_the_bits_of_the_network_that_it_was_made_of() -> None:
    spec, weights = spec_of(VIT, layers=["output"], **small(64))
    x = (
        torch.from_numpy(pixels(2, 64, 64)).permute(0, 3, 1, 2)
        - torch.tensor(spec.preprocess.mean)[:, None, None]
    ) / torch.tensor(spec.preprocess.std)[:, None, None]
    with torch.inference_mode():
        # Laid out as a pass has it: convolutions of another layout add in another order.
        expected = nets.vit().eval()(x.contiguous())
    assert torch.equal(
        Backbone(spec, weights).forward(pixels(2, 64, 64), "whole")["output"], expected
    )


def timm_file(path: Path, name: str = "test_vit") -> Path:
    """Save seeded weights as timm's files on the hub are: with a classifier."""
    import timm

    torch.manual_seed(14)
    save_file(timm.create_model(name).state_dict(), path)
    return path


def test_a_file_of_timm_fits_without_its_classifier(tmp_path: Path) -> None:
    file = timm_file(tmp_path / "model.safetensors")
    spec, weights = spec_of("timm:test_vit", weights=str(file))
    assert (spec.weights.source, weights) == ("file", file)
    recipe = spec.preprocess
    assert (recipe.recipe, recipe.crop, recipe.short_edge) == ("pillow-bicubic-1", 160, 160)
    assert recipe.mean == recipe.std == (127.5, 127.5, 127.5)
    assert recipe.long_edge_multiple == 16
    assert given(Backbone(spec, weights), pixels(1, 160, 208), "whole")["patches"].shape == (
        (1, 64, 10, 13)
    )
    assert "head.weight" in load_file(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm.weight": None}, r"they lack norm\.weight: they belong"),
        ({"more": torch.zeros(1)}, r"they hold more, which timm:test_vit does not have"),
        (
            {"norm.bias": torch.zeros(3), "cls_token": torch.zeros(2)},
            r"they have cls_token as \(2,\), where timm:test_vit has \(1, 1, 64\) and 1 more",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_their_first_fault(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    state = load_file(timm_file(tmp_path / "model.safetensors")) | change
    file = tmp_path / "changed.safetensors"
    save_file({name: each for name, each in state.items() if each is not None}, file)
    with pytest.raises(InputError, match=f"weights changed.safetensors do not fit timm:.*{said}"):
        Backbone(*spec_of("timm:test_vit", weights=str(file)))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    file = timm_file(tmp_path / "resnet.safetensors", "test_resnet")
    with pytest.raises(InputError, match=r"they lack cls_token and \d+ more, and hold .*another"):
        Backbone(*spec_of("timm:test_vit", weights=str(file)))


def test_a_folder_of_transformers_is_copied_with_its_configuration(tmp_path: Path) -> None:
    folder = saved_tower(tmp_path / "one" / "tower", "Dinov2WithRegistersModel")
    spec, weights = spec_of(f"transformers:{folder}")
    assert (spec.network, spec.weights.name) == ("transformers:tower", "tower.safetensors")
    assert spec.preprocess.mean == (127.5, 63.75, 31.875)
    assert (spec.preprocess.crop, spec.preprocess.short_edge) == (56, 70)  # 72 is no multiple of 14
    elsewhere = shutil.copytree(folder, tmp_path / "two" / "tower")
    assert spec_of(f"transformers:{elsewhere}")[0] == spec
    before = given(Backbone(spec, weights), pixels(1, 70, 98), "whole")
    shutil.rmtree(tmp_path / "one")
    providers_again()
    after = given(Backbone(spec, weights), pixels(1, 70, 98), "whole")
    assert torch.equal(before["patches"], after["patches"])
    assert before["patches"].shape == (1, 32, 5, 7)
    # The copy says all of the network: also how its pictures are shown.
    assert spec_of("transformers:tower", weights=str(weights)) == (spec, weights)
    # A query on a machine without the copy is given the folder.
    reference, _ = find_weights(spec.network, elsewhere)
    assert reference == spec.weights


def providers_again() -> None:
    """Forget what this process knows of towers, as another process does not know it."""
    from lamella.pipeline.networks import from_transformers

    from_transformers._network.cache_clear()


def test_a_folder_whose_weights_are_not_those_of_its_configuration(tmp_path: Path) -> None:
    folder = saved_tower(tmp_path / "tower", "ViTModel")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(
        InputError, match=r"the weights of transformers:tower lack layers\.3\..* more"
    ):
        spec_of(f"transformers:{folder}")
    (folder / "config.json").write_text(json.dumps({"model_type": "llava", "vision_config": {}}))
    providers_again()
    with pytest.raises(InputError, match=r"of the type llava, whose vision tower is not known"):
        spec_of(f"transformers:{folder}")
    with pytest.raises(InputError, match=r"there is no folder /nowhere/tower"):
        spec_of("transformers:/nowhere/tower")


def test_how_pictures_are_shown_has_to_be_known(tmp_path: Path) -> None:
    folder = saved_tower(tmp_path / "tower", "ViTModel")
    shown = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(shown | {"resample": 1}))
    name = f"transformers:{folder}"
    with pytest.raises(InputError, match=r"by Pillow's filter 1, .* network\.preprocess\.recipe"):
        spec_of(name)
    by_hand = {"recipe": "pillow-bicubic-1"}
    assert spec_of(name, preprocess=by_hand)[0].preprocess.recipe == "pillow-bicubic-1"
    providers_again()
    shown["crop_size"] = {"height": 64, "width": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(shown))
    with pytest.raises(InputError, match=r"32 x 64 pixels, and not square.*preprocess\.crop in"):
        spec_of(name)
    providers_again()
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"no preprocessor_config\.json, which says how"):
        spec_of(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet0", r"timm [\d.]+ has no network 'resnet0': .* did you mean resnet"),
        ("timm:test_vit.nothing", r"has no weights 'nothing' of test_vit: it has r160_in1k"),
        ("timm:", "names no network"),
        ("open_clip:ViT-S-33", "open_clip has no network 'ViT-S-33': .* did you mean ViT-S-32"),
        ("open_clip:ViT-B-32@x", "open_clip has no weights 'x' of ViT-B-32: it has openai"),
        ("open_clip:ViT-B-32@openai", "take ViT-B-32-quickgelu@openai"),
        ("a:b:c", "before the colon stands timm, open_clip, transformers, or the module"),
        ("no_such_module:make", "there is no module no_such_module .* current folder is not"),
        (f"{HERE}:nothing", f"{HERE} has no 'nothing': it has "),
        (f"{HERE}:THING", "has THING as a int, which is no function"),
        (f"{HERE}:no_module", r"is to return a torch\.nn\.Module; it returned a int"),
        (f"{HERE}:with_argument", "a function without arguments .* ended in TypeError"),
        ("resnet0", r"no network 'resnet0': .* others are timm:NAME, open_clip"),
    ],
)
def test_a_network_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        spec_of(name)


@pytest.mark.parametrize("library", ["timm", "open_clip", "transformers"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    name = str(tmp_path) if library == "transformers" else "not-asked-for-before"
    with pytest.raises(InputError, match=rf"needs the package {library}.*lamella\[networks\]"):
        providers.foreign(f"{library}:{name}")


@pytest.mark.parametrize(
    "name", ["timm:test_vit", "open_clip:ViT-S-32", "open_clip:ViT-B-32@laion2b_s34b_b79k"]
)
def test_weights_that_are_not_to_be_had_are_said_in_a_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError) as caught:
        find_weights(name, None)
    said = str(caught.value)
    assert "--weights" in said
    assert "\n" not in said
    assert ("HF_HUB_OFFLINE is set" in said) == (name != "open_clip:ViT-S-32")


def test_a_hub_that_does_not_answer_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("no_proxy", "*")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    before = constants.HF_HUB_OFFLINE

    def ask() -> None:
        with hub.asking("x", "do y"):
            assert constants.HF_HUB_OFFLINE
            raise OSError("not in the cache")

    with pytest.raises(InputError, match=r"x are not to be had: .* cannot be reached .*: do y"):
        ask()
    assert before == constants.HF_HUB_OFFLINE


def test_weights_of_a_snapshot_are_found_in_the_cache_or_asked_for() -> None:
    reference = WeightsRef(source="code", name="x.safetensors", sha256="0" * 64)
    assert copies.held(reference) is None
    spec, path = spec_of(VIT, **small(64))
    assert copies.held(spec.weights) == path
    from lamella.pipeline.search.encode import find_query_weights

    class Snapshot:
        extraction = spec.model_copy(update={"weights": reference})

    with pytest.raises(IncompatibleInputs, match=r"made with weights x\.safetensors"):
        find_query_weights(Snapshot(), None)  # type: ignore[arg-type]


def test_a_copy_that_is_not_on_a_machine_is_said(tmp_path: Path) -> None:
    spec, path = spec_of(VIT, **small(64))
    with pytest.raises(InputError, match=r"are not on this machine: .* LAMELLA_CACHE"):
        Backbone(spec, tmp_path / path.name)
