"""What answers requests: the snapshot, the queue before it, and the application behind its door."""

from collections.abc import Sequence
from typing import Any

from lamella.cluster.serve.answers import Queries, answer_together
from lamella.cluster.serve.app import make_app
from lamella.cluster.serve.door import Door
from lamella.cluster.serve.explaining import Pair, explain
from lamella.cluster.serve.following import Following
from lamella.cluster.serve.settings import ServeSettings
from lamella.cluster.serve.turns import Turns


class Service:
    """A store that is open to be asked; `app` is what a server of ASGI runs.

    Raises:
        InputError: there is no store or no snapshot.
        StoreError: the store is damaged, or does not answer.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.following = Following(settings)
        self.turns: Turns[Any, Any] = Turns(self._work, settings.queue)
        self.app = Door(make_app(settings, self.following, self.turns), settings)

    def stop(self) -> None:
        """Let waiting requests go, and the index."""
        self.turns.stop()
        self.following.stop()

    def _work(self, group: Sequence[Queries | Pair]) -> Sequence[Any]:
        """Answer the requests of one turn by the snapshot that is current as it begins."""
        with self.following.serving() as served:
            if isinstance(group[0], Pair):
                return [explain(served, each) for each in group if isinstance(each, Pair)]
            return answer_together(served, [each for each in group if isinstance(each, Queries)])
