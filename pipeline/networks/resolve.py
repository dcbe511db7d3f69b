"""Layers of a network from elsewhere, from what a person names to a full spec."""

import re
from collections.abc import Sequence

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.names import closest, known_names, meant, shown
from lamella.pipeline.networks.foreign import Foreign
from lamella.pipeline.networks.listed import Alias
from lamella.pipeline.networks.nodes import OUTPUT
from lamella.pipeline.networks.recipes import preprocess_of
from lamella.pipeline.networks.structure import Names, names_of, view_of
from lamella.pipeline.networks.survey import Output, Survey, survey
from lamella.schemas.extraction import LayerKind, LayerSpec, Pool, PreprocessSpec, View
from lamella.schemas.job import LayerSettings, NetworkSettings

LONGEST_NAME = 40


def resolved(
    network: Foreign, settings: NetworkSettings
) -> tuple[PreprocessSpec, "LayersOf", tuple[LayerSettings | str, ...]]:
    """Return how a network sees pictures, what finds its layers, and the layers that are wanted.

    The network is built and run once, on the CPU.

    Raises:
        InputError: it does not take such pictures, or has no layers to use by default.
    """
    if network.batch not in (None, batch_of(network, settings)):
        raise InputError(
            f"{network.name} was exported for batches of {network.batch}, and batch_size is "
            f"{settings.batch_size}: set network.batch_size = {network.batch} in a job file"
        )
    preprocess = preprocess_of(network, settings.preprocess)
    said = settings.preprocess
    seen = survey(
        network,
        preprocess.crop,
        preprocess.short_edge,
        said.short_edge is not None,
        said.long_edge_multiple,
        settings.precision,
    )
    layers = LayersOf(network, seen)
    wanted = settings.layers or layers.names.usual
    if not wanted:
        raise InputError(
            f"{network.name} has no default layers, as it gives no maps, tokens or vectors that "
            "are known here: name some of its modules with --layers"
        )
    return preprocess, layers, wanted


def batch_of(network: Foreign, settings: NetworkSettings) -> int:
    """Return the batch size: as it is set, or else the only one that a program takes."""
    said = "batch_size" in settings.model_fields_set or network.batch is None
    return settings.batch_size if said else network.batch or settings.batch_size


class LayersOf:
    """Finds the layers of a network by short names and by names of modules."""

    def __init__(self, network: Foreign, seen: Survey) -> None:
        self._network, self._seen = network, seen
        self.names: Names = names_of(network, seen)

    def shown(self, preprocess: PreprocessSpec, layers: Sequence[LayerSpec]) -> PreprocessSpec:
        """Return how pictures are shown for these layers: whole ones as the network takes them."""
        if self._seen.step is None or all(layer.view != "whole" for layer in layers):
            return preprocess
        edges = {"short_edge": self._seen.short_edge, "long_edge_multiple": self._seen.step}
        return preprocess.model_copy(update=edges)

    def layer(self, wanted: LayerSettings | str) -> LayerSpec:
        """Return a layer's full spec.

        Raises:
            UnknownLayer: the network has no such module.
            InputError: what it gives can be no layer of that kind.
        """
        settings = LayerSettings(name=wanted) if isinstance(wanted, str) else wanted
        alias, output = self._found(settings.node or settings.name)
        self._check(output)
        kind = settings.kind or alias.kind
        pool = settings.pool or (alias.pool if kind == alias.kind else "none")
        if kind == "global" and pool == "none" and output.grid is not None:
            pool = "average"
        view = settings.view or alias.view
        self._check_use(output, kind, pool, view)
        return LayerSpec(
            name=_layer_name(wanted) if isinstance(wanted, str) else settings.name,
            node=output.node,
            kind=kind,
            pool=pool,
            gem_power=settings.gem_power,
            view=view,
            tokens=output.tokens,
            channels_last=output.kind == "channels-last map",
        )

    def _found(self, wanted: str) -> tuple[Alias, Output]:
        outputs = self._seen.outputs
        wanted = meant(wanted, self.names.aliases) or wanted
        alias = self.names.aliases.get(wanted)
        if alias is None:
            if wanted not in outputs:
                has = known_names(wanted, [*self.names.aliases, *outputs])
                raise UnknownLayer(
                    f"{self._network.name} has no layer {shown(wanted)}: it has {has}"
                )
            kind: LayerKind = "local" if outputs[wanted].grid is not None else "global"
            alias = Alias(wanted, kind, view=view_of(self._network, self._seen))
        return alias, outputs[alias.node]

    def _check(self, output: Output) -> None:
        """Check that a module gives what can be a layer. Raises InputError: it does not."""
        name = f"{output.node} of {self._network.name}"
        if output.calls > 1:
            others = [
                each.node
                for each in self._seen.outputs.values()
                if each.calls == 1 and each.kind == output.kind and each.node != output.node
            ]
            near = closest(output.node, others) or (others[0] if others else OUTPUT)
            raise InputError(
                f"{name} is called {output.calls} times in a pass, and a layer is a module that is "
                f"called once: name another, such as {near}"
            )
        if output.gave:
            parts = [
                f"{part} {self._seen.outputs[part].shape}"
                for part in output.parts
                if self._seen.outputs[part].kind != "other"
            ]
            choice = (
                f"name one of its parts: {', '.join(parts)}" if parts else "name another module"
            )
            raise InputError(f"{name} gives a {output.gave}, and a layer is one tensor: {choice}")
        if output.kind == "other":
            raise InputError(
                f"{name} gives {output.shape}, which is neither a map (B, C, height, width), nor "
                "patches of the picture as tokens, nor a vector (B, D): name another module, or "
                f"one of {', '.join(self.names.aliases)}"
            )

    def _check_use(self, output: Output, kind: LayerKind, pool: Pool, view: View) -> None:
        """Check kind, pooling and view against what a module gives. Raises InputError: no."""
        name, seen = f"{output.node} of {self._network.name}", self._seen
        if kind == "local" and output.grid is None:
            raise InputError(
                f"{name} gives a vector {output.shape}, and a local layer has positions: make it "
                "global, or name a module below it"
            )
        if pool == "class" and not (output.tokens and output.tokens.prefix and seen.class_token):
            raise InputError(
                f"{name} has no class token: pool it by average, maximum or gem instead"
            )
        if view == "whole" and seen.step is None:
            other = view_of(self._network, seen)
            raise InputError(
                f"{self._network.name} takes pictures of {seen.edge} x {seen.edge} pixels alone "
                f"({seen.why}), and view whole shows pictures of every shape: take view {other}"
            )


def _layer_name(node: str) -> str:
    """Return a name for the layer of a node: its end, in the letters that names of layers have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", ".", node).strip("._-")
    return plain[-LONGEST_NAME:].lstrip("._-") or OUTPUT
