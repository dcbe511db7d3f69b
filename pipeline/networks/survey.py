"""One look at a network from elsewhere: what each of its modules gives, by a pass over zeros."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.networks.foreign import Foreign
from lamella.pipeline.networks.nodes import OUTPUT
from lamella.schemas.extraction import Precision, TokenSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["map", "channels-last map", "tokens", "vector", "other"]
Shape = tuple[int, ...]
Edges = tuple[int, int]

MOST_PREFIX = 256
STEPS = (1, 32)
"""Multiples that the edges of a picture may have to be of, tried in this order."""

ASPECT = 4 / 3
"""The proportion of the picture by which whole pictures are tried."""

CLASS_TOKENS = {"cls_token", "class_token", "class_embedding", "cls"}
"""What the parameter of a class token is called: timm, torchvision, CLIP, others."""


@dataclass(frozen=True)
class Output:
    """What a node gave.

    Attributes:
        node: `layers.3`, or `layers.3[0]` for a part of what the module gave.
        shape: of the tensor; empty where it gave none.
        kind: what the tensor is.
        grid: rows and columns of its positions; None where it has none.
        tokens: where its positions begin, for tokens.
        calls: how often the module was called.
        gave: what it gave, in words, where that is no tensor; `parts` are then its nodes.
        type: the class of the module.
    """

    node: str
    shape: Shape = ()
    kind: Kind = "other"
    grid: Edges | None = None
    tokens: TokenSpec | None = None
    calls: int = 1
    gave: str = ""
    parts: tuple[str, ...] = ()
    type: str = ""


@dataclass(frozen=True)
class Survey:
    """What a network gives.

    Attributes:
        outputs: by node, in the order in which modules end.
        edge: height and width of the pictures that it was tried with.
        step: it takes whole pictures whose edges are multiples of this; None if only `edge`.
        short_edge: of the whole pictures that it was tried with.
        why: what it said of a whole picture, where it takes none.
        class_token: whether the first token is a class token.
    """

    outputs: Mapping[str, Output]
    edge: int
    step: int | None
    short_edge: int
    why: str
    class_token: bool


@cache
def survey(
    network: Foreign,
    edge: int,
    short_edge: int,
    said_short: bool = False,
    said_step: int | None = None,
    precision: Precision = "float32",
) -> Survey:
    """Return what a network gives for pictures of edge x edge, and whether it takes whole ones.

    Builds the network and runs it, once in a process.

    Args:
        short_edge: of whole pictures.
        said_short: whether the user says so; else it is rounded to what the network takes.
        said_step: the multiple that their long edges are rounded to, as the user says; by default
            it is found.

    Raises:
        InputError: the network does not run on a picture of that size, or not in this precision.
    """
    import torch

    model = network.made()
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    layout = torch.channels_last if network.channels_last else torch.contiguous_format
    model.to(dtype=dtype)
    if network.program:
        from lamella.pipeline.networks.exported import run_program as run
    else:
        run = _run_modules
        model.eval()

    def tried(height: int, width: int) -> dict[str, Output]:
        x = torch.zeros((network.batch or 1, 3, height, width), dtype=dtype)
        notes = _Notes(len(x), (height, width))
        with torch.inference_mode():
            run(model, x.contiguous(memory_format=layout), notes.take)
        return notes.found

    try:
        found = tried(edge, edge)
    except Exception as error:
        raise InputError(_does_not_run(network, edge, precision, error)) from error
    patches = {each.tokens.patch for each in found.values() if each.tokens is not None}
    steps = [said_step] if said_step else sorted(patches)[:1] or STEPS
    step, short, why = None, short_edge, ""
    for each in steps:
        short = short_edge if said_short else _rounded(short_edge, edge, each)
        if patches and (short % min(patches) or each % min(patches)):
            why = (
                f"its patches have {min(patches)} pixels, and short_edge {short} and "
                f"long_edge_multiple {each} are to be multiples of that"
            )
            continue
        try:
            whole = tried(short, round(short * ASPECT / each) * each)
        except Exception as error:
            why = why or one_line(error, 200)
            continue
        tokens = [node for node, output in found.items() if output.tokens is not None]
        if tokens and not any(whole[n].tokens == found[n].tokens for n in tokens if n in whole):
            why = f"the tokens of {tokens[0]} do not follow the size of the picture"
            continue
        step, found = each, {node: _agreed(found[node], whole.get(node)) for node in found}
        break
    named = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    return Survey(found, edge, step, short, why, bool(named & CLASS_TOKENS))


def _does_not_run(network: Foreign, edge: int, precision: Precision, error: Exception) -> str:
    said = one_line(error, 200)
    if precision not in ("float32", "tf32"):
        other = "export it from the network in that type" if network.program else "another network"
        return (
            f"{network.name} does not run in {precision} ({said}): take precision float32, or "
            f"{other}"
        )
    return (
        f"{network.name} does not take a picture of {edge} x {edge} pixels ({said}): set "
        "network.preprocess.crop and short_edge in a job file to the size that it takes"
    )


def _rounded(short_edge: int, edge: int, step: int) -> int:
    """Return the short edge as a multiple of the step that has room for the crop."""
    return max(short_edge // step * step, -(-edge // step) * step)


Take = Callable[[str, Any, str], None]
"""Takes note of a node, what it gave, and its type."""


def _run_modules(model: "nn.Module", x: "Tensor", take: Take) -> None:
    """Run a network and tell what each module gives, in the order in which they end."""

    def noting(name: str) -> Callable[["nn.Module", Any, Any], None]:
        return lambda module, given, output: take(name, output, type(module).__name__)

    hooks = [
        module.register_forward_hook(noting(name)) for name, module in model.named_modules() if name
    ]
    try:
        take(OUTPUT, model(x), type(model).__name__)
    finally:
        for hook in hooks:
            hook.remove()


class _Notes:
    """What each node of a pass gave, without the numbers, which together may not fit into memory.

    Positions of tokens are those of the last map before them.
    """

    def __init__(self, batch: int, size: Edges) -> None:
        self.found: dict[str, Output] = {}
        self._batch, self._size = batch, size
        self._stem: Edges | None = None
        self._tokens = False

    def take(self, node: str, value: Any, of_type: str) -> None:
        """Take note of what a node gave, and of the parts of that."""
        found = self.found
        if node in found:
            found[node] = replace(found[node], calls=found[node].calls + 1)
            return
        around = self._batch, self._size, self._stem
        found[node] = each = _output(node, value, of_type, *around)
        for part, inner in _parts(value):
            name = f"{node}[{part}]"
            found[name] = _output(name, inner, of_type, *around)
            self._tokens |= found[name].tokens is not None
        self._tokens |= each.tokens is not None
        if each.kind in ("map", "channels-last map") and not self._tokens:
            self._stem = each.grid


def _output(
    node: str, value: Any, of_type: str, batch: int, size: Edges, stem: Edges | None
) -> Output:
    import torch

    if not isinstance(value, torch.Tensor):
        parts = tuple(f"{node}[{part}]" for part, _ in _parts(value))
        return Output(node, gave=type(value).__name__, parts=parts, type=of_type)
    shape = tuple(value.shape)
    kind, grid, tokens = _kind(shape, batch, size, stem)
    return Output(node, shape, kind, grid, tokens, type=of_type)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and tensors of a tuple, a list or a dict, such as a ModelOutput."""
    import torch

    named: Sequence[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        named = [(str(name), each) for name, each in value.items()]
    elif isinstance(value, (tuple, list)):
        named = [(str(number), each) for number, each in enumerate(value)]
    yield from ((name, each) for name, each in named if isinstance(each, torch.Tensor))


def _kind(
    shape: Shape, batch: int, size: Edges, stem: Edges | None
) -> tuple[Kind, Edges | None, TokenSpec | None]:
    if shape[:1] != (batch,):
        return "other", None, None
    if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)):
        return "vector", None, None
    if len(shape) == 4:
        places: tuple[tuple[Kind, Edges], ...] = (
            ("map", (shape[2], shape[3])),
            ("channels-last map", (shape[1], shape[2])),
        )
        for kind, grid in places:
            if _proportional(grid, size):
                return kind, grid, None
    if len(shape) == 3 and stem is not None:
        rows, columns = stem
        prefix = shape[1] - rows * columns
        # Of a pyramid, later stages have a quarter of the tokens, and no others before them.
        while prefix < 0 and rows > 1:
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
            prefix = shape[1] - rows * columns
        if 0 <= prefix <= MOST_PREFIX and size[0] % rows == 0 and rows > 1:
            if prefix and (rows, columns) != stem:
                return "other", None, None
            patch = size[0] // rows
            return "tokens", (rows, columns), TokenSpec(prefix=prefix, patch=patch)
    return "other", None, None


def _proportional(grid: Edges, size: Edges) -> bool:
    """Say whether rows and columns are in proportion to a picture's, off by less than a row."""
    (rows, columns), (height, width) = grid, size
    if rows > height or (rows < columns) != (height < width):
        return False
    return abs(rows * width - columns * height) <= (width if height != width else 0)


def _agreed(one: Output, other: Output | None) -> Output:
    """Return an output whose kind two shapes of pictures agree on: attention looks like a map."""
    if other is None or (one.kind, one.tokens) == (other.kind, other.tokens):
        return one
    return replace(one, kind="other", grid=None, tokens=None)
