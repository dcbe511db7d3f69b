"""`lamella status --watch`: the jobs of a store, again and again."""

import time
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lamella.cluster.commands.show_jobs import job_texts
from lamella.pipeline.errors import StoreUnavailable, one_line
from lamella.pipeline.jobs.beats import Jobs, JobSeen
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.text import printable

EVERY_S = 5.0
"""How often the beats of a store are listed. A beat is read once."""

NONE = "no job has told of itself lately; one does after 10 s, and then once a minute"


def watch(
    store: Store, console: Console, *, wait: Callable[[float], None] = time.sleep
) -> NoReturn:
    """Show the jobs of a store until Ctrl-C.

    A terminal has them in place; anything else gets a line for each beat, and for each job that
    falls silent.

    Args:
        wait: waits for so many seconds.
    """
    jobs = Jobs(store)
    if not console.is_terminal:
        _lines(jobs, console, wait)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            head = Text(printable(f"{store.url}, Ctrl-C ends"), style="dim")
            live.update(Group(head, *_texts(jobs)), refresh=True)
            wait(EVERY_S)


def _texts(jobs: Jobs) -> list[Text]:
    try:
        found = jobs.look()
    except StoreUnavailable as error:
        return [Text(printable(one_line(error)), style="yellow")]
    return job_texts(found, own_clock=jobs.own_clock) or [Text(NONE)]


def _lines(jobs: Jobs, console: Console, wait: Callable[[float], None]) -> NoReturn:
    told: set[tuple[str, int, str]] = set()
    while True:
        try:
            found = jobs.look()
        except StoreUnavailable as error:
            console.print(Text(printable(one_line(error))))
        else:
            for text in job_texts([j for j in found if _key(j) not in told], own_clock=True):
                console.print(text)
            told = {_key(job) for job in found}
        console.file.flush()
        wait(EVERY_S)


def _key(job: JobSeen) -> tuple[str, int, str]:
    return job.job, job.number, job.state
