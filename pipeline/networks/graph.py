"""Networks as graphs: what their outputs are called, and a network cut after some of them.

torchvision does this for its own networks. Ours are traced here, under the names that torchvision
would give: importing torchvision takes seconds in each process, and the default network needs
nothing of it.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import fx, nn

from lamella.pipeline.networks.efficientnet_lite import EfficientNetLite, SameConv


class _Turns:
    """Keeps passes apart from tracing, which replaces how modules are called in all threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passes = 0
        self._traced = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Let others pass too inside the block, and nobody trace."""
        with self._changed:
            self._changed.wait_for(lambda: not self._traced)
            self._passes += 1
        try:
            yield
        finally:
            with self._changed:
                self._passes -= 1
                self._changed.notify_all()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Let nobody pass or trace inside the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._traced and not self._passes)
            self._traced = True
        try:
            yield
        finally:
            with self._changed:
                self._traced = False
                self._changed.notify_all()


turns = _Turns()


class _Tracer(fx.Tracer):
    """Keeps whole a module whose forward depends on sizes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SameConv) or super().is_leaf_module(m, module_qualified_name)


def output_names(model: nn.Module) -> list[str]:
    """Return the names of a network's outputs at inference, in order."""
    if isinstance(model, EfficientNetLite):
        with turns.tracing():
            return [_name(node) for node in _Tracer().trace(model).nodes if node.op != "output"]
    from torchvision.models.feature_extraction import get_graph_node_names

    with turns.tracing():
        return [str(name) for name in get_graph_node_names(model)[1]]


def cut(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """Return a network that gives these outputs by name, and computes no more than they need.

    It shares the weights of the model, and has a `graph` of type `torch.fx.Graph`.
    """
    if not isinstance(model, EfficientNetLite):
        from torchvision.models.feature_extraction import create_feature_extractor

        with turns.tracing():
            extractor: nn.Module = create_feature_extractor(model, list(names))
        return extractor.eval()
    with turns.tracing():
        found = fx.GraphModule(model, _Tracer().trace(model))
    nodes = {_name(node): node for node in found.graph.nodes if node.op != "output"}
    found.graph.output_node().args = ({name: nodes[name] for name in names},)
    found.graph.eliminate_dead_code()
    found.delete_all_unused_submodules()
    found.recompile()
    return found.eval()


def _name(node: fx.Node) -> str:
    """Return the path of a module, or that of the module which calls a function, and its name."""
    if node.op == "call_module":
        return str(node.target)
    owner = list(node.meta.get("nn_module_stack", {}))[-1:]
    return ".".join([*owner, re.sub(r"_\d+$", "", node.name)])
