"""Programs of `torch.export`, as a file `NAME.pt2`: graphs that hold their weights."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.networks.foreign import Foreign, Recipe
from lamella.pipeline.networks.hooks import Wanted
from lamella.pipeline.networks.nodes import OUTPUT

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def program(given: str, weights: Path | None) -> Foreign:
    """Return the network of an exported program.

    Args:
        given: its file, or `export:NAME` beside the file.
        weights: its file.

    Raises:
        InputError: there is no such file, or it holds no program for pictures.
    """
    path = weights or (None if given.startswith("export:") else Path(given))
    if path is None:
        raise InputError(f"{given} is a program in a file: give it with --weights {given[7:]}.pt2")
    path = path.expanduser().absolute()
    if not path.is_file():
        raise InputError(f"there is no program {path}")
    return _program(path, path.stat().st_mtime_ns)


@cache
def _program(path: Path, written: int) -> Foreign:
    found = _loaded(path)
    shape = _input_shape(found, path)
    batch, _, height, width = (each if isinstance(each, int) else None for each in shape)
    recipe = Recipe()
    if height is not None and width is not None:
        recipe = Recipe({"crop": height, "short_edge": height})
        if height != width:
            why = f"it takes pictures of {width} x {height} pixels, which are not square"
            recipe = Recipe({}, {"crop": why})
    return Foreign(
        f"export:{path.stem}",
        lambda: _loaded(path).module(),
        recipe=recipe,
        source="file",
        channels_last=False,
        pools=False,
        program=True,
        batch=batch,
        at=path,
    )


def _loaded(path: Path) -> "ExportedProgram":
    _check_no_pickles(path)
    try:
        return torch.export.load(path)
    except Exception as error:
        raise InputError(
            f"{path.name} is no program of torch.export that can be read here: {one_line(error)}"
        ) from error


def _check_no_pickles(path: Path) -> None:
    """Refuse a file whose weights or constants are Python objects: reading those may run code."""
    try:
        with zipfile.ZipFile(path) as packed:
            configs = [
                json.loads(packed.read(name))
                for name in packed.namelist()
                if name.endswith(("weights_config.json", "constants_config.json"))
            ]
            samples = [packed.read(name) for name in packed.namelist() if "/sample_inputs/" in name]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is no program of torch.export: {one_line(error)}") from error
    try:
        # torch.export would read them as any Python objects, if it cannot as tensors.
        for sample in samples:
            torch.load(io.BytesIO(sample), weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path.name} holds sample inputs that are more than tensors, and reading those may "
            "run code: export the program with one tensor as its input"
        ) from error
    for config in configs:
        for name, each in config.get("config", {}).items():
            if each.get("use_pickle"):
                raise InputError(
                    f"{path.name} holds {name} as a Python object, and reading that may run code: "
                    "export a program of tensors alone"
                )


def _input_shape(found: "ExportedProgram", path: Path) -> Sequence[Any]:
    inputs = found.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in found.graph.nodes}
    value = values.get(str(inputs[0])) if len(inputs) == 1 else None
    if not isinstance(value, Tensor) or value.ndim != 4 or value.shape[1] != 3:
        raise InputError(
            f"{path.name} does not take one batch of pictures (B, 3, height, width): export such "
            "a program"
        )
    return tuple(value.shape)


class Program:
    """A program that gives some of its nodes, and computes nothing after the last of them."""

    def __init__(self, model: nn.Module, nodes: Sequence[str]) -> None:
        assert isinstance(model, fx.GraphModule)
        self._model, self._nodes = model, tuple(nodes)

    def __call__(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return the nodes by name, for a batch (B, 3, h, w)."""
        wanted = Wanted(self._nodes)
        return wanted.all_of(lambda: _Noting(self._model, wanted.take).run(x))


def run_program(model: nn.Module, x: Tensor, take: Callable[[str, Any, str], None]) -> None:
    """Run a program and tell what each of its nodes gives, in order, and what the node calls."""
    assert isinstance(model, fx.GraphModule)
    calls = {node.name: getattr(node.target, "__name__", "") for node in model.graph.nodes}
    noting = _Noting(model, lambda name, value: take(name, value, calls.get(name, "")))
    take(OUTPUT, noting.run(x), "")


class _Noting(fx.Interpreter):
    """Runs a program and tells what each of its nodes gives; what it returns is left out."""

    def __init__(self, model: fx.GraphModule, note: Callable[[str, Any], None]) -> None:
        super().__init__(model)
        self._note = note

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function":
            self._note(n.name, value)
        return value
