"""The jobs of a store for people: a line each, from the last beat of each."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from lamella.pipeline.jobs.beats import JobSeen
from lamella.pipeline.text import counted, duration, printable, three_digits
from lamella.schemas.beat import Beat, StageBeat

STYLES = {"silent": "red", "unreadable": "yellow", "ended": "dim", "running": ""}


def show_jobs(console: Console, jobs: Sequence[JobSeen], *, own_clock: bool) -> None:
    """Print a line for each job."""
    for text in job_texts(jobs, own_clock=own_clock):
        console.print(text, soft_wrap=True)


def job_texts(jobs: Sequence[JobSeen], *, own_clock: bool) -> list[Text]:
    """Return a line for each job, and one more where only this machine's clock could be asked.

    Args:
        own_clock: whether the store's clock was asked.
    """
    texts = [Text(printable(job_line(job)), style=STYLES[job.state]) for job in jobs]
    if not own_clock and any(job.state != "ended" for job in jobs):
        line = "the store cannot be written here: how old a beat is, is by this machine's clock"
        texts.append(Text(line, style="dim"))
    return texts


def job_line(seen: JobSeen) -> str:
    """Return what is known of a job, as a line."""
    now = seen.told + seen.silent_s
    told = clock_time(seen.told, now)
    beat = seen.beat
    if beat is None or seen.began is None:
        return f"job {seen.job}: its beat of {told} cannot be read: {seen.problem}"
    who = f"{beat.command} on {beat.host}"
    if seen.state == "ended":
        code = f" with exit code {beat.code}" if beat.code else ""
        took = duration(beat.seconds_running())
        return "; ".join([f"{who} ended {told}{code} after {took}", *_problem(seen, beat, now)])
    begun = f"{who} since {clock_time(seen.began, now)}"
    if seen.state == "silent":
        line = f"{begun}: silent since {told}, for {duration(seen.silent_s)}: "
        line += (
            "it died or its machine is cut off, and the same command was given again since"
            if seen.superseded
            else "it died, or its machine is cut off; give the same command again"
        )
        return "; ".join([line, f"then it was at {_stages(beat)}", *_rest(seen, beat, now)])
    ago = f"told {duration(round(seen.silent_s))} ago"
    return "; ".join([f"{begun}: {_stages(beat)}", *_rest(seen, beat, now), ago])


def _stages(beat: Beat) -> str:
    return " and ".join(map(_stage, beat.stages)) or "between stages"


def _stage(stage: StageBeat) -> str:
    far = f"{stage.done:,} {stage.unit}"
    if stage.total:
        percent = int(100 * stage.done / stage.total)
        far = f"{stage.done:,} of {stage.total:,} {stage.unit} ({percent} %)"
    parts = [f"{stage.name} {stage.note or far}"]
    if stage.per_second is not None:
        parts.append(f"{three_digits(stage.per_second)} {stage.unit}/s")
    if stage.seconds_left is not None:
        parts.append(f"some {duration(round(stage.seconds_left))} left")
    return ", ".join(parts)


def _rest(seen: JobSeen, beat: Beat, now: float) -> list[str]:
    """Return what else a beat has: workers and tasks, refused pictures, the last problem."""
    parts = []
    if workers := sum(beat.workers.values()):
        cards = beat.workers.get("gpu", 0)
        with_cards = f", {counted(cards, 'card')}" if cards else ""
        tasks = f", {counted(beat.running, 'task')} running" if beat.running else ""
        waiting = f", {beat.waiting:,} waiting" if beat.waiting else ""
        parts.append(f"{counted(workers, 'worker')}{with_cards}{tasks}{waiting}")
    if beat.refused:
        most = sorted(beat.refused.items(), key=lambda each: (-each[1], each[0]))
        parts.append("refused " + ", ".join(f"{count:,} {reason}" for reason, count in most))
    return parts + _problem(seen, beat, now)


def _problem(seen: JobSeen, beat: Beat, now: float) -> list[str]:
    if beat.problem is None:
        return []
    at = seen.told - beat.seconds_since(beat.problem.at)
    why = f": {beat.problem.reason}" if beat.problem.reason else ""
    return [f"last problem {clock_time(at, now)} {beat.problem.event}{why}"]


def clock_time(at: float, now: float) -> str:
    """Return a time of day here, with the date unless it is today."""
    then, today = (datetime.fromtimestamp(each).astimezone() for each in (at, now))
    return then.strftime("%H:%M" if then.date() == today.date() else "%Y-%m-%d %H:%M")
