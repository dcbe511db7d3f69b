"""How far proposers look for a target: one of the reaches that were measured for the index."""

from lamella.pipeline.errors import InputError
from lamella.schemas.snapshot import Proposers, Reach

DEFAULT_RECALL = 0.95
"""What share of exact answers mode candidates is to find by default, in an index with proposers."""


def reach_for(proposers: Proposers, recall: float | None, k: int) -> Reach:
    """Return the nearest reach that was measured to find a share of the exact answers.

    Where more images are asked for than were measured, more are proposed and decided on in
    proportion.

    Args:
        recall: the share, `DEFAULT_RECALL` where it is None.
        k: at least 1.

    Raises:
        InputError: no reach finds so much.
    """
    target = DEFAULT_RECALL if recall is None else recall
    for reach in proposers.reaches:
        if reach.recall >= target:
            times = max(k, proposers.k)
            more = {
                name: -(-getattr(reach, name) * times // proposers.k)
                for name in ("proposed", "decided")
            }
            return reach.model_copy(update=more)
    default = " (the default)" if recall is None else ""
    if not proposers.reaches:
        raise InputError(
            f"search.recall is {target:g}{default}, and the index was published without a measure "
            "of what its proposers find: index again, or ask in mode exact"
        )
    best = proposers.reaches[-1].recall
    raise InputError(
        f"search.recall is {target:g}{default}, and the farthest reach of the index found "
        f"{best:g} of the {proposers.k:,} best of {proposers.queries:,} of its pictures: ask for "
        f"{best:g} or less (--recall, search.recall), or in mode exact, which finds all"
    )
