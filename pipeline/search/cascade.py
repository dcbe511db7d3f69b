"""Choose how this process reads sketches: by what was asked for, and by trials on real blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from lamella.pipeline.products import choice
from lamella.pipeline.products.cpu import this_cpu
from lamella.pipeline.search.bounds import LEADS_FIRST, Cascade
from lamella.schemas.job import ProductKind

IMAGES_FROM = 32_768
"""Fewer images are read in milliseconds, whatever the cascade."""

QUERIES_FROM = 32
"""Smaller groups spend their time on reading codes, not on products."""

TRIED_FROM = 1 << 34
"""Multiplications after which cascades are tried, which takes some half a second: as long as these
take in float32."""

FASTER = 1.15
"""How many times as fast as the axes in float32 another cascade must be in a trial. A trial reads
codes that are in the cache, which favours what reads many of them: over a million drawn pictures
8-bit axes seemed faster and took 1.2 times as long."""

Shape = tuple[tuple[int, int], ...]
"""The leading axes and the dimensions of each dense layer."""

Trial = Callable[[Cascade], float]
"""Scans something with a cascade; returns seconds."""


@dataclass(eq=False)
class Cascades:
    """What this process has chosen so far, by the shape of layers."""

    _chosen: dict[Shape, Cascade] = field(default_factory=dict)
    _multiplied: dict[Shape, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def now(self, shape: Shape, queries: int) -> Cascade:
        """Return the cascade for groups of so many queries."""
        asked = choice.asked()
        if asked == "float32" or not shape:
            return LEADS_FIRST
        if asked == "auto":
            few = queries < QUERIES_FROM
            return LEADS_FIRST if few else self._chosen.get(shape, LEADS_FIRST)
        if not choice.works(asked):
            return LEADS_FIRST
        return self._chosen.get(shape, Cascade(asked))

    def due(self, shape: Shape, queries: int, images: int, pairs: int) -> Sequence[Cascade]:
        """Count pairs that are scanned, and return the cascades to try now, if any.

        Args:
            queries: of a group.
            images: of all segments.
        """
        if not shape or choice.asked() == "float32":
            return ()
        multiplications = pairs * sum(leading for leading, _ in shape)
        worth = choice.torch_is_worth(multiplications)
        with self._lock:
            self._multiplied[shape] = self._multiplied.get(shape, 0) + multiplications
            if self._multiplied[shape] < TRIED_FROM or shape in self._chosen:
                return ()
            if images < IMAGES_FROM or queries < QUERIES_FROM or not worth:
                return ()
            self._chosen[shape] = LEADS_FIRST  # no other thread tries too
        return [Cascade(kind, whole) for kind in _kinds() for whole in (False, True)]

    def settle(self, shape: Shape, cascades: Sequence[Cascade], trial: Trial) -> None:
        """Try cascades and keep the fastest; the usual one unless another is clearly faster."""
        seconds = {each: trial(each) for each in cascades}
        fastest = min(seconds, key=lambda each: seconds[each])
        usual = seconds.get(LEADS_FIRST, float("inf"))
        self._chosen[shape] = fastest if seconds[fastest] * FASTER <= usual else LEADS_FIRST

    def forget(self) -> None:
        """Forget all, as at the begin of a process."""
        self._chosen.clear()
        self._multiplied.clear()


def _kinds() -> list[ProductKind]:
    """Return the kinds that work and that may be fast: those of 8 bits are on any CPU."""
    asked = choice.asked()
    if asked != "auto":
        return [asked] if choice.works(asked) else ["float32"]
    kinds: list[ProductKind] = ["int8"]
    if this_cpu().bfloat16:
        kinds.append("bfloat16")
    return ["float32", *filter(choice.works, kinds)]


CASCADES = Cascades()
"""Those of this process."""
