"""A job says that it lives: a thread writes a beat into its store, about once a minute.

It never fails the job and never delays it. `pipeline/jobs/beats.py` reads beats, and
`lamella status` shows them.
"""

import errno
import logging
import os
import platform
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lamella.pipeline import events, meters
from lamella.pipeline.errors import InputError, NoAccess, one_line

if TYPE_CHECKING:
    from lamella.pipeline.store.protocol import Store
    from lamella.schemas.beat import Beat, Problem

EVERY = "LAMELLA_BEAT_S"
"""The variable with the seconds between two beats, 60 by default; 0 for none."""

EVERY_S = 60.0

FIRST_S = 10.0
"""A shorter job writes none."""

LEAVE_S = 2.0
"""For so long the end of a job waits for its last beat."""

LEAVE_NOTHING = ("query", "compare", "reproduce")
"""Commands that may leave nothing in the store, or whose folder is none."""

_RIGHTS = (PermissionError, NoAccess)

_current: "Beating | None" = None


def allow() -> None:
    """Let the query that runs write beats: it keeps its answers in the store."""
    if _current is not None:
        _current.withheld = False


class Beating:
    """Writes the beats of one job.

    Args:
        job: its name in events.
        store: the address of its store, which it may still have to make.
        began: when it began, in seconds since 1970.
    """

    def __init__(self, job: str, command: str, store: str, began: float) -> None:
        self.withheld = command in LEAVE_NOTHING
        self._job, self._command, self._url, self._began = job, command, store, began
        self._every = _seconds()
        self._code: int | None = None
        self._reason = ""
        self._ended = threading.Event()
        self._said = False
        self._thread = threading.Thread(target=self._run, name="lamella-beats", daemon=True)

    def begin(self) -> None:
        """Begin to write."""
        global _current
        _current = self
        if self._every > 0:
            self._thread.start()

    def end(self, code: int, reason: str) -> None:
        """Write a last beat, if there was one before.

        Args:
            code: the job's exit code.
            reason: why it failed; "" if it did not, or an event has said so.
        """
        global _current
        _current = None
        self._code = code
        self._reason = reason
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def _run(self) -> None:
        number, written = 1, False
        wait = min(FIRST_S, self._every)
        while not self._ended.wait(wait):
            wait = self._every
            if (outcome := self._write(number)) is not None:
                # A number whose reply was lost may be taken.
                number, written = number + 1, written or outcome
        if written:
            self._write(number)

    def _write(self, number: int) -> bool | None:
        """Write a beat and say whether that went well; None where there is no store to write to."""
        from lamella.pipeline.jobs.beats import tell_beat

        if self.withheld:
            return None
        try:
            store = self._store()
            if store is not None:
                tell_beat(store, self._beat(number))
                self._said = False
        except Exception as error:
            self._say(error)
            return False
        return None if store is None else True

    def _store(self) -> "Store | None":
        """Return the store, None where there is none yet."""
        from lamella.pipeline.store.storage import open_store

        try:
            return open_store(self._url)
        except InputError:
            return None

    def _say(self, error: Exception) -> None:
        """Say once that beats are not written. Whoever may only read has no beats to write."""
        if not self._said:
            self._said = True
            tell = events.info if _is_of_rights(error) else events.warning
            tell(
                "beat-not-written",
                f"{one_line(error)}: the job goes on, `lamella status` may call it silent",
            )

    def _beat(self, number: int) -> "Beat":
        from lamella.cluster.commands.progress import running_stages
        from lamella.schemas.beat import Beat

        now, last = time.time(), events.last_problem
        if self._reason:
            last = events.Problem(now, logging.ERROR, "job-ended", self._reason)
        return Beat(
            job=self._job,
            number=number,
            command=self._command,
            host=platform.node()[:255],
            process=os.getpid(),
            begun_at=_as_text(self._began),
            told_at=_as_text(now),
            every_s=self._every,
            stages=tuple(running_stages()),
            refused=_counts(meters.REFUSED),
            workers=_counts(meters.WORKERS),
            waiting=_counts(meters.TASKS_WAITING).total(),
            running=_counts(meters.TASKS_RUNNING).total(),
            problem=_problem(last),
            code=self._code,
        )


def _seconds() -> float:
    """Return the seconds between two beats."""
    try:
        every = float(os.environ.get(EVERY) or EVERY_S)
    except ValueError:
        every = -1.0
    if not 0 <= every <= 3600:
        raise InputError(
            f"{EVERY} is the seconds between two beats, 0 to 3600; got {os.environ[EVERY]!r}"
        )
    return every


def _is_of_rights(error: Exception) -> bool:
    """Say whether an error says that a store may only be read."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _RIGHTS) or getattr(cause, "errno", None) == errno.EROFS:
            return True
        cause = cause.__cause__
    return False


def _counts(metric: meters.Metric) -> Counter[str]:
    """Return the values of a metric of one label, without those that are zero."""
    return Counter({label: int(n) for (label,), n in meters.values(metric).items() if n})


def _problem(last: events.Problem | None) -> "Problem | None":
    from lamella.cluster.commands.logs import without_secrets
    from lamella.schemas.beat import Problem

    if last is None:
        return None
    return Problem(
        at=_as_text(last.time),
        level="warning" if last.level < logging.ERROR else "error",
        event=last.event[:100],
        reason=one_line(without_secrets(last.reason), 500),
    )


def _as_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
