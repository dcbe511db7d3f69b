"""Verdicts on pictures, kept from one attempt at a shard for the next.

A picture that crashes its decoder, or takes too much time or memory, is tried in two processes
before it is refused. If the attempt at its shard then ends, the next one need not try again.
"""

from collections.abc import Callable
from typing import TypeVar

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.errors import StoreError
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.verdict import DEAR, Verdict, verdict_name

T = TypeVar("T")


class Verdicts:
    """The verdicts on the pictures of one shard in one stage; safe in threads."""

    def __init__(self, store: Store, folder: str, shard: str) -> None:
        """List the verdicts of earlier attempts; `folder` is the stage's own."""
        self._store = store
        self._folder = folder
        self._shard = shard
        kept = tree.verdicts(folder, shard)
        self._known = {f"{kept}/{name}" for name in store.names(kept)}

    def judge(self, sha256: bytes, limits: DecodeLimits, look: Callable[[], T]) -> T:
        """Return the result of `look`, or raise the refusal of an earlier attempt.

        Args:
            sha256: of the picture's bytes.
            look: decodes them within the limits.

        Raises:
            Refused: by an earlier attempt under the same limits, or now.
        """
        facts = sha256.hex(), limits.max_seconds, limits.max_memory
        path = tree.verdict(self._folder, self._shard, verdict_name(*facts))
        if path in self._known and (found := self._read(path, facts)):
            raise Refused(found.reason, found.detail)
        try:
            return look()
        except Refused as refused:
            if refused.reason in DEAR:
                seconds, memory = facts[1:]
                verdict = Verdict(
                    sha256=facts[0],
                    max_seconds=seconds,
                    max_memory=memory,
                    reason=refused.reason,
                    detail=refused.detail,
                )
                create_once(self._store, path, verdict.to_json())
            raise

    def _read(self, path: str, facts: tuple[str, float, int]) -> Verdict | None:
        """Return a verdict; None where it is damaged or gone: then the picture is tried again."""
        try:
            found = read_record(self._store, path, Verdict)
        except StoreError:
            return None
        return found if (found.sha256, found.max_seconds, found.max_memory) == facts else None


def judged(
    verdicts: Verdicts | None, sha256: bytes, limits: DecodeLimits, look: Callable[[], T]
) -> T:
    """Return `Verdicts.judge`, or, where no verdicts are kept, the result of `look`."""
    return look() if verdicts is None else verdicts.judge(sha256, limits, look)


def discard_verdicts(store: Store, folder: str, shard: str) -> None:
    """Delete the verdicts on a shard's pictures, so that the next attempt tries all of them."""
    kept = tree.verdicts(folder, shard)
    for name in store.names(kept):
        store.discard(f"{kept}/{name}")
