"""What half precision would win on this machine, for a plan: measured, and said in one line."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lamella.pipeline.corpus.stage import decode_limits
from lamella.pipeline.jobs.indexing import Prepared
from lamella.pipeline.products.cpu import this_cpu
from lamella.schemas.plan import TriedPrecision

if TYPE_CHECKING:
    from lamella.pipeline.bench.passes import PassTrial
    from lamella.pipeline.extract.probe import ExtractProbe

PICTURES = 32
"""The most pictures of the sample that are tried."""

SECONDS = 10.0
"""No more are tried after so long: a plan of a slow network is not to take twice as long."""

LEAST_RATIO = 1.3
"""Below this a plan does not recommend another precision: a third of the time of passes is worth
other features, less is not."""

AS_FAST = 0.9
"""Share of the fastest from which the precision that is nearest to float32 is recommended."""


def probe_precisions(
    prepared: Prepared, rows: Sequence[Mapping[str, Any]], extract: "ExtractProbe", threads: int
) -> tuple[TriedPrecision, ...]:
    """Run pictures in the precision that is asked for, and beside it in those the CPU has.

    Returns:
        nothing where half precision is asked for already, without a network, with a GPU, and on a
        CPU that has no half precision in hardware: PyTorch's own is slower than float32.
    """
    spec = prepared.spec.of_network
    if not spec.layers or extract.gpus or spec.precision not in ("float32", "tf32"):
        return ()
    from lamella.pipeline.bench.extract_steps import Pictures
    from lamella.pipeline.bench.passes import compare_passes
    from lamella.pipeline.extract.halves import HALVES

    cpu = this_cpu()
    halves = [precision for precision in HALVES if cpu.multiplies(precision)]
    if not halves:
        return ()
    seen = tuple(rows[number] for number in extract.image_ids[:: _step(len(extract.image_ids))])
    listing = prepared.listing
    pictures = Pictures(listing.root, seen, decode_limits(prepared.job), listing.kind)
    specs = [spec, *(spec.model_copy(update={"precision": each}) for each in halves)]
    found = compare_passes(pictures, specs, prepared.weights, threads=threads, seconds=SECONDS)
    return tuple(_tried(each) for each in found)


def _step(count: int) -> int:
    return -(-count // PICTURES)


def _tried(trial: "PassTrial") -> TriedPrecision:
    return TriedPrecision(
        precision=trial.precision,
        pictures=trial.pictures,
        pictures_per_second=trial.pictures_per_second,
        ratio=trial.ratio,
        mean_cosine={name: each.mean_cosine for name, each in trial.layers.items()},
        least_cosine={name: each.least_cosine for name, each in trial.layers.items()},
        fault=trial.fault,
    )


def advice_on(tried: Sequence[TriedPrecision]) -> str:
    """Return what a plan says of precisions, in one line; empty where float32 is to be kept.

    Of those that are much faster, the one nearest to float32 is recommended. Where there is none, a
    precision that the CPU has and that failed is named.
    """
    fast = [each for each in tried[1:] if not each.fault and each.ratio >= LEAST_RATIO]
    if not fast:
        failed = [each for each in tried if each.fault]
        return f"{failed[0].precision} was tried beside: {failed[0].fault}" if failed else ""
    most = max(each.ratio for each in fast)
    best = max(
        (each for each in fast if each.ratio >= AS_FAST * most),
        key=lambda each: min(each.mean_cosine.values()),
    )
    cosines = ", ".join(f"{name} {mean:.5f}" for name, mean in best.mean_cosine.items())
    return (
        f'network.precision = "{best.precision}" makes passes {best.ratio:.1f} times as fast on '
        f"this CPU ({best.pictures_per_second:,.1f} pictures/s, {best.pictures:,} tried); it is "
        f"another extraction: digests and features change (mean cosine to float32: {cosines})"
    )
