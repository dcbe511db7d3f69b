"""How queries are to be answered: the settings of a search, and what they ask of a coordinator."""

from dataclasses import dataclass
from typing import Any, Literal

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.search.allowed import understood
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.merge import without_own
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.reaches import DEFAULT_RECALL, reach_for
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.schemas.job import SearchSettings
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.snapshot import IndexSnapshot, Reach


@dataclass(frozen=True)
class Question:
    """How queries are to be answered; part of what a run is made from."""

    fusion: FusionSpec
    weighting: Weighting
    search: SearchSettings

    def facts(self) -> dict[str, Any]:
        """Return what decides the answers."""
        return {
            "fusion": self.fusion.model_dump(mode="json"),
            "weighting": self.weighting,
            "search": self.search.model_dump(mode="json"),
        }

    def check(self, asked: Literal["pictures", "images"]) -> None:
        """Check that such queries can be asked so.

        Raises:
            InputError: pictures from elsewhere are to be left out of their own answers.
        """
        if self.search.exclude_self and asked == "pictures":
            raise InputError(
                "--exclude-self (search.exclude_self) is for indexed pictures, asked by --ids, "
                "--names or `snapshot`; pictures from elsewhere are not in their own answers: "
                "leave it out"
            )

    def check_filter(self, images: ImageTable) -> None:
        """Check that the filter, if there is one, is one of the snapshot's columns.

        Raises:
            InputError: it is not.
        """
        if self.search.where is not None:
            understood(images, self.search.where)

    def target(self, snapshot: IndexSnapshot) -> tuple[float, Reach] | None:
        """Return the share of the exact answers that is to be found, and how far proposers look.

        None where nothing proposes images without a scan.

        Raises:
            InputError: a share is asked for in another mode, or of an index without proposers; or
                no reach of the index finds it.
        """
        search, proposers = self.search, snapshot.proposers
        if search.recall is not None and search.mode != "candidates":
            raise InputError(
                f"search.recall (--recall) is for mode candidates, and the mode is {search.mode}: "
                "leave it out, or ask with --mode candidates"
            )
        if search.recall is not None and proposers is None:
            raise InputError(
                f"search.recall is {search.recall:g}, and snapshot {snapshot.number} has no "
                'proposers: index again with index.proposer = "ivf", or leave search.recall out'
            )
        if search.mode != "candidates" or proposers is None:
            return None
        reach = reach_for(proposers, search.recall, search.k + search.exclude_self)
        return search.recall or DEFAULT_RECALL, reach

    def expanded(self, coordinator: Coordinator, features: QueryBatch) -> QueryBatch:
        """Return queries expanded as the question says."""
        search = self.search
        return coordinator.expanded(features, self.fusion, search.expand, search.where)

    def answer(
        self, coordinator: Coordinator, ids: Int64s, features: QueryBatch, *, exactly: bool = False
    ) -> Answer:
        """Return the answer to queries, (Q, k) as far as there are so many images.

        Args:
            ids: (Q,) of indexed images, where the question excludes them; else not looked at.
            features: expanded, where the question expands them.
            exactly: answer in the exact mode, whatever the question says.
        """
        search = self.search
        answer = coordinator.answer(
            features,
            self.fusion,
            search.k + search.exclude_self,
            mode="exact" if exactly else search.mode,
            candidates=search.candidates,
            recall=search.recall,
            above=search.above,
            where=search.where,
        )
        return without_own(answer, ids) if search.exclude_self else answer
