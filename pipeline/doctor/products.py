"""Products that propose: which kinds keep their bounds on this CPU, and how fast they are."""

from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.doctor.imports import Imported
from lamella.pipeline.products.cpu import this_cpu


def finding(tried: Imported) -> Finding:
    """Return how fast products of each kind are beside those in float32.

    Args:
        tried: how `trial.facts` went.
    """
    what = "products"
    if tried.error:
        return Finding(what, "missing", f"float32 alone: {tried.error}")
    usual, has = tried.facts["float32"]["gflops"], this_cpu()
    said, broken = [f"float32 {usual:.0f} GFLOP/s on a core"], []
    for kind, found in tried.facts.items():
        if found["wrong"]:
            broken.append(f"{kind}: {found['wrong']}")
        elif kind != "float32":
            units = f", by {by}" if (by := has.multiplies(kind)) else ""
            said.append(f"{kind} {found['gflops'] / max(usual, 1e-9):.1f} times that{units}")
    if broken:
        text = "; ".join((*said, *broken, "float32 is used instead, with the same answers"))
        return Finding(what, "broken", text, 'set engine.products = "float32" to have no trial')
    return Finding(what, "ok", "; ".join(said))
