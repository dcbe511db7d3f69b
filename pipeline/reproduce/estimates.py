"""What an index that is not there yet will take, by the planner."""

from dataclasses import dataclass
from typing import Any

from lamella.pipeline.plan.fitting import needed_bytes
from lamella.pipeline.reproduce.planning import Index
from lamella.schemas.plan import Plan


@dataclass(frozen=True)
class Estimate:
    """What an index will take, as the planner says; nothing where it is made already.

    Attributes:
        hours: on this machine, and `error` the standard error.
        stored_bytes: in its store.
        refusals: why it does not fit, if it does not.
    """

    index: Index
    done: bool = False
    pictures: int = 0
    hours: float = 0.0
    error: float = 0.0
    stored_bytes: int = 0
    refusals: tuple[str, ...] = ()

    @classmethod
    def of(cls, index: Index, plan: Plan) -> "Estimate":
        """Return what a plan says of an index."""
        return cls(
            index,
            pictures=plan.entries,
            hours=plan.hours.mean,
            error=plan.hours.error,
            stored_bytes=round(needed_bytes(plan.stored)),
            refusals=plan.refusals,
        )

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        job = self.index.job
        return {
            "network": self.index.network.name,
            "data_sets": [each.name for each in self.index.data_sets],
            "layers": list(self.index.network.layers),
            "words": job.vocabulary.words,
            "source": self.index.corpus.source,
            "store": str(self.index.store),
            "done": self.done,
            "pictures": self.pictures,
            "hours": self.hours,
            "stored_bytes": self.stored_bytes,
            "refusals": list(self.refusals),
        }
