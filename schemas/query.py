"""How layers are fused, and what a batch of queries asks."""

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import Stored

Weighting = Literal["tf", "tf-idf"]
SearchMode = Literal["exact", "candidates", "paper"]
ProposerKind = Literal["none", "ivf", "hnsw", "cagra"]
"""What a segment has to find likely pictures without a look at all: cells, or a graph."""


class LayerMap(Stored):
    """One layer of a fusion, the map f its similarity passes through, and its weight in the sum.

    f(S) = t + (1 - t) * ((S - t) / (1 - t)) ** p  where S > t, and S elsewhere
    (Yu et al. 2017, equation 3). t = 1 leaves the similarity as it is.
    """

    layer: str
    t: float = Field(default=1.0, ge=0.0, le=1.0)
    p: float = Field(default=1.0, ge=0.0, le=1.0)
    weight: float = Field(default=1.0, ge=1e-3, le=1e3, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave a weight of 1 out, as before there were weights: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        if self.weight == 1.0:
            value.pop("weight", None)
        return value


class FusionSpec(Stored):
    """The layers of a score, ordered from high to low: F = sum of w_i f_i(S_i).

    Raises:
        ValueError: a layer stands twice, t falls from high to low, or the last t is not 1.
    """

    layers: tuple[LayerMap, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [layer.layer for layer in self.layers]
        if len(set(names)) != len(names):
            raise ValueError(f"each layer may stand once in a fusion; got {', '.join(names)}")
        thresholds = [layer.t for layer in self.layers]
        listed = ", ".join(f"{t:g}" for t in thresholds)
        if thresholds != sorted(thresholds):
            raise ValueError(f"t must not fall from the high to the low layer; got {listed}")
        if thresholds[-1] != 1.0:
            raise ValueError(f"the last (lowest) layer takes t = 1; got {listed}")
        return self

    def direct(self) -> "FusionSpec":
        """Return the baseline over the same layers: the plain sum of similarities."""
        return FusionSpec(layers=tuple(LayerMap(layer=entry.layer) for entry in self.layers))

    def alone(self, layer: str) -> "FusionSpec":
        """Return the ranking by one layer only."""
        return FusionSpec(layers=(LayerMap(layer=layer),))
