"""Starts that fail: workers that die before they are ready are replaced, but not without end."""

from dataclasses import dataclass, field

from lamella.pipeline.errors import EngineLost, StageFailed

STARTS = 3
"""How often in a row each place of a pool is tried."""


OR_SERIAL = "or run with --engine serial"


class NotStarted(EngineLost):
    """Ray does not start; `reason` is the message without what to do."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(f"{reason}: {cure}")
        self.reason = reason


class NoWorkers(StageFailed):
    """Ray runs, and none of its workers starts; `reason` is the message without what to do."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(f"{reason}: {cure}")
        self.reason = reason


class NoRoom(NoWorkers):
    """The cluster had no room for a worker; giving the command again continues it."""


class ClusterAway(EngineLost):
    """A cluster that is to be joined does not answer."""


MEND = "mend the cause and run the same command again"


def none_starts(why: str) -> NoWorkers:
    """Return the error where every process that Ray started has died as it began."""
    return NoWorkers(f"no worker of Ray starts ({why})", f"{MEND}, {OR_SERIAL}")


@dataclass
class Starts:
    """Failed starts since a worker was last ready: why, and after how many seconds."""

    failed: list[tuple[str, float]] = field(default_factory=list)

    def may_try(self, places: int) -> bool:
        """Say whether another worker may be started in a pool of this many places."""
        return len(self.failed) < STARTS * places

    def told(self) -> str:
        """Describe the failures, for a message."""
        why, seconds = self.failed[-1]
        many = len(self.failed)
        return (
            f"{many} {'workers' if many > 1 else 'worker'} died in a row before one could take a "
            f"task, the last after {seconds:.1f} s: {why}"
        )


def how_it_died(error: Exception) -> str:
    """Return what Ray knows about the death of a process, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "error raised in its creation task" in lines[0]:
        return lines[-1][:200]
    _, _, detail = str(error).partition("Worker exit detail: ")
    if detail.startswith("Worker unexpectedly exits"):
        return "its process was killed, or crashed"
    return (detail.splitlines()[0] if detail else lines[0])[:200]


def node_is_gone(error: Exception) -> bool:
    """Say whether an actor is gone because its whole machine is, and not its process alone.

    Of a process that ended, its machine tells Ray at once how. If nobody answers and nobody tells,
    Ray says no more than that the actor is unavailable.
    """
    return type(error).__name__ == "ActorUnavailableError" or "its node has died" in str(error)
