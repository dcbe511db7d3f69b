"""Check that a plan fits the disk and the memory; if not, say by how much and what to do."""

import math
from collections.abc import Mapping, Sequence

from lamella.pipeline.accounts import FEW_REFUSED
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.errors import InputError
from lamella.pipeline.plan.vocabulary_cost import WordsProbe
from lamella.pipeline.run.budget import PROCESS_BYTES, check_memory
from lamella.pipeline.text import byte_size, counted
from lamella.schemas.plan import Plan, PlannedBytes

CURES = {
    "corpus": "give a part of the source",
    "extract": "leave that layer out (--layers)",
    "vocabulary": "ask for fewer words (--words) or fewer descriptors (vocabulary.descriptors)",
    "encode": "leave that layer out (--layers)",
    "index": "leave that layer out (--layers)",
    "propose": "leave proposers out (index.proposer)",
}
"""By stage: how to make it store less."""

WHAT = {
    "extract": ("extraction takes", "take smaller batches (network.batch_size)"),
    "vocabulary": (
        "training the words of {layer} takes",
        "ask for fewer words (--words), fewer dimensions (vocabulary.projection)",
    ),
    "index": ("a segment takes", "ask for smaller ones (index.segment_images)"),
    "propose": ("proposers take", "ask for smaller segments (index.segment_images), or for none"),
    "tune": ("the proposers that a worker serves take", 'leave them out (index.proposer = "none")'),
}
"""By stage: the beginning of the message about memory, and how to need less."""


def misfits(
    stored: Sequence[PlannedBytes],
    memory: Mapping[str, Mapping[str, int]],
    pictures: float,
    free_bytes: int | None,
    worker_bytes: int,
) -> tuple[str, ...]:
    """Return a sentence for each thing that does not fit, with both values and what to do.

    Args:
        memory: bytes of a worker, by stage and by what holds them.
        pictures: pictures of the run.
        free_bytes: free on the store's disk; None if no limit is known, as in S3.
        worker_bytes: memory that a worker has.
    """
    found: list[str] = []
    if free_bytes is not None and (full := _disk(stored, pictures, free_bytes)):
        found.append(full)
    for stage, needed in memory.items():
        kind, _, layer = stage.partition(" ")
        what, cure = WHAT[kind]
        if stage == "index":
            rest = sum(needed.values()) - PROCESS_BYTES
            share = max(worker_bytes - PROCESS_BYTES, 0) / max(rest, 1)
            cure += f", {math.floor(100 * share)} % of its size would fit"
        try:
            check_memory(needed, worker_bytes, what.format(layer=layer), cure)
        except InputError as error:
            found.append(str(error))
    return tuple(found)


def too_many_refused(
    reasons: Mapping[str, int], tried: int, times: float, share: float
) -> tuple[str, ...]:
    """Return a sentence if so many pictures will be refused that the job stops.

    A sample must show it beyond two standard errors of the share of refused pictures.

    Args:
        reasons: how many of the tried pictures are refused for each reason.
        tried: pictures, with the refused ones.
        times: how many files there are for each that was tried; 1 if all were.
        share: the share of pictures that may be refused.
    """
    refused = sum(reasons.values())
    found = refused / max(tried, 1)
    error = math.sqrt(found * (1 - found) / max(tried, 1)) if times > 1 else 0.0
    if (found - 2 * error) * tried * times <= max(FEW_REFUSED, share * tried * times):
        return ()
    return (
        f"{refused:,} of {tried:,} pictures that were tried are refused ({top_reasons(reasons)}), "
        f"{found:.1%}; the job allows {share:.1%} and would stop: mend them or raise --max-refused",
    )


def too_many_words(words: Mapping[str, WordsProbe], pictures: float) -> tuple[str, ...]:
    """Return a sentence for each layer that will give fewer descriptors than it must have words."""
    return tuple(
        f"layer {name} will give about {counted(rows, 'descriptor')} for {found.words:,} words: a "
        f"word needs at least one: ask for fewer (--words), or index more pictures"
        for name, found in words.items()
        if found.rounds and found.words > (rows := round(found.rows.mean * pictures))
    )


def needed_bytes(stored: Sequence[PlannedBytes]) -> float:
    """Return the most bytes that the store will hold at any time."""
    kept = sum(each.size_bytes.mean for each in stored if each.kept)
    return kept + max((each.size_bytes.mean for each in stored if not each.kept), default=0.0)


def verdict(plan: Plan, free_bytes: int | None) -> str:
    """Return in one line whether a plan fits, and why.

    Args:
        free_bytes: free on the store's disk; None if no limit is known.
    """
    if not plan.fits:
        # Each refusal says what is too much, then what to do about it.
        return f"does not fit: {'; '.join(each.partition(': ')[0] for each in plan.refusals)}"
    disk = byte_size(needed_bytes(plan.stored))
    said = f"fits: disk {disk}{'' if free_bytes is None else f' of {byte_size(free_bytes)}'}"
    held = {stage: sum(needed.values()) for stage, needed in plan.memory.items()}
    if held:
        most = max(held, key=lambda stage: held[stage])
        has = byte_size(plan.machine.available_bytes // plan.machine.workers)
        said += f", memory {byte_size(held[most])} of {has} a worker ({most})"
    return said


def _disk(stored: Sequence[PlannedBytes], pictures: float, free_bytes: int) -> str | None:
    needed = needed_bytes(stored)
    if needed <= free_bytes:
        return None
    dearest = max(stored, key=lambda each: each.size_bytes.mean)
    cure = CURES.get(dearest.stage.split()[0], "ask for less of it")
    return (
        f"the run takes {byte_size(needed)} of the store's disk, and {byte_size(free_bytes)} are "
        f"free, {byte_size(needed - free_bytes)} too few: {dearest.kind} take "
        f"{byte_size(dearest.size_bytes.mean)}: {cure}, or give a store with more room; "
        f"some {math.floor(pictures * free_bytes / needed):,} of {pictures:,.0f} pictures would fit"
    )
