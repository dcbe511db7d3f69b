"""Take what modules of a network give, by forward hooks, and stop once all of it is there."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lamella.pipeline.errors import InputError
from lamella.pipeline.networks.nodes import OUTPUT, node_parts, part_of


class AllTaken(BaseException):
    """Ends a pass. No `Exception`, so that no code of a network handles it."""


class Wanted:
    """The nodes that a pass is to give, and those that it gave so far.

    What is taken is copied, as a network may go on to overwrite it; the last one is not.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self.found: dict[str, Tensor] = {}
        self._nodes = tuple(nodes)
        self._of_module: dict[str, list[str]] = {}
        for node in nodes:
            self._of_module.setdefault(node_parts(node)[0], []).append(node)

    def take(self, module: str, output: Any) -> None:
        """Take the nodes of a module, of which one may be all that it gave.

        Raises:
            AllTaken: these were the last.
            InputError: the network gives something else than when it was looked at.
        """
        for node in self._of_module.get(module, ()):
            taken = part_of(output, node_parts(node)[1])
            if not isinstance(taken, Tensor) or node in self.found:
                fault = "came twice" if node in self.found else f"gave a {type(taken).__name__}"
                raise InputError(
                    f"{node} {fault} in a pass, and not when the network was looked at: a layer is "
                    "a module that gives one tensor in every pass"
                )
            last = len(self.found) == len(self._nodes) - 1
            self.found[node] = taken if last else taken.clone()
        if len(self.found) == len(self._nodes):
            raise AllTaken

    def all_of(self, run: Callable[[], Any]) -> Mapping[str, Tensor]:
        """Return the nodes by name; `run` runs the network and takes them on the way.

        Raises:
            InputError: a node did not come.
        """
        try:
            self.take(OUTPUT, run())
        except AllTaken:
            return self.found
        absent = next(node for node in self._nodes if node not in self.found)
        raise InputError(
            f"{absent} did not come in a pass, and did when the network was looked at: a layer is "
            "a module that gives one tensor in every pass"
        )


class Hooked:
    """A network that gives some of its nodes, and computes nothing after the last of them.

    A node is the dotted name of a module, or `output` for what the network returns, with a part in
    brackets where that is a tuple or a dict. Threads may run one network at once. Several of these
    may be made of one network; each pass is of one of them.
    """

    def __init__(self, model: nn.Module, nodes: Sequence[str]) -> None:
        self._model, self._nodes = model, tuple(nodes)
        self._mine = threading.local()
        modules = dict(model.named_modules())
        for name in {node_parts(node)[0] for node in nodes} - {OUTPUT}:
            modules[name].register_forward_hook(self._taking(name))

    def __call__(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return the nodes by name, for a batch (B, 3, h, w)."""
        wanted = self._mine.wanted = Wanted(self._nodes)
        try:
            return wanted.all_of(lambda: self._model(x))
        finally:
            self._mine.wanted = None

    def _taking(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            wanted = getattr(self._mine, "wanted", None)
            if wanted is not None:
                wanted.take(name, output)

        return hook
