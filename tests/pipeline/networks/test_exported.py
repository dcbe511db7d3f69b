"""Programs of torch.export: their bits, their one batch and size, and no code that runs."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.networks.find import find_weights
from tests.pipeline.networks import nets
from tests.pipeline.networks.nets import HERE, given, pixels, small, spec_of

pytest.importorskip("timm", reason="timm is not installed")
VIT = f"{HERE}:vit"


def exported(path: Path, batch: int | None = None) -> Path:
    """Save a program of `nets.maps`, for any pictures or for batches of one size and shape."""
    dims = torch.export.Dim
    free = {0: dims("b"), 2: dims("h", min=16, max=999), 3: dims("w", min=16, max=999)}
    program = torch.export.export(
        nets.maps().eval(),
        (torch.zeros(batch or 2, 3, 64, 64),),
        dynamic_shapes=None if batch else (free,),
    )
    torch.export.save(program, path)
    return path


def test_a_program_gives_the_bits_of_the_network_it_was_exported_from(tmp_path: Path) -> None:
    path = exported(tmp_path / "maps.pt2")
    spec, weights = spec_of(str(path), **small(64))
    assert (spec.network, spec.weights.source, weights) == ("export:maps", "file", path)
    assert [layer.name for layer in spec.layers] == ["pool", "s2"]
    program = given(Backbone(spec, weights), pixels(2, 64, 96), "whole")
    # Nodes are the program's own; "relu__1" is the second activation, in place.
    own = given(Backbone(*spec_of(f"{HERE}:maps", **small(64))), pixels(2, 64, 96), "whole")
    assert torch.equal(program["s2"], own["s2"])
    assert find_weights("export:maps", path)[0] == spec.weights
    with pytest.raises(InputError, match=r"export:maps is a program in a file: .*--weights maps"):
        find_weights("export:maps", None)


def test_a_program_of_one_batch_and_one_size_is_run_so(tmp_path: Path) -> None:
    path = exported(tmp_path / "fixed.pt2", batch=3)
    spec, weights = spec_of(str(path))
    assert (spec.batch_size, spec.preprocess.crop, spec.layers[0].view) == (3, 64, "crop")
    assert given(Backbone(spec, weights), pixels(3, 64, 64), "crop")["s2"].shape == (3, 16, 16, 16)
    with pytest.raises(InputError, match=r"exported for batches of 3, and batch_size is 2"):
        spec_of(str(path), batch_size=2)
    with pytest.raises(InputError, match=r"takes pictures of 64 x 64 pixels alone"):
        spec_of(str(path), layers=[{"name": "s1", "view": "whole"}])


def test_a_program_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = exported(tmp_path / "maps.pt2")

    def changed(name: str, end: str, data: bytes) -> Path:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / name, "w") as new:
            for member in old.namelist():
                new.writestr(member, data if member.endswith(end) else old.read(member))
        return tmp_path / name

    sample = changed("sample.pt2", "sample_inputs/model.pt", pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"sample inputs that are more than tensors"):
        spec_of(str(sample))
    config = json.dumps({"config": {"thing": {"use_pickle": True, "path_name": "x"}}}).encode()
    constant = changed("constant.pt2", "constants_config.json", config)
    with pytest.raises(InputError, match=r"holds thing as a Python object"):
        spec_of(str(constant))
    (tmp_path / "none.pt2").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none\.pt2 is no program of torch\.export"):
        spec_of(str(tmp_path / "none.pt2"))
    with pytest.raises(InputError, match=r"there is no program .*absent\.pt2"):
        spec_of(str(tmp_path / "absent.pt2"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_program_of_one_type_says_so_and_runs_in_half_if_exported_so(
    precision: str, tmp_path: Path
) -> None:
    def export(name: str, dtype: torch.dtype) -> str:
        program = torch.export.export(
            nets.vit().eval().to(dtype), (torch.zeros(1, 3, 160, 160, dtype=dtype),)
        )
        torch.export.save(program, tmp_path / name)
        return str(tmp_path / name)

    full = export("full.pt2", torch.float32)
    spec_of(full)
    with pytest.raises(InputError, match=rf"does not run in {precision} .*or export it from the"):
        spec_of(full, precision=precision)
    spec, weights = spec_of(export("half.pt2", getattr(torch, precision)), precision=precision)
    outputs = given(Backbone(spec, weights), pixels(1, 160, 160), "crop")
    assert {str(each.dtype) for each in outputs.values()} == {f"torch.{precision}"}
