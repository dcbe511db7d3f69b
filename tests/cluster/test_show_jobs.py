"""What a person reads of a job: a line, worked from its beat."""

from typing import Any

import pytest

from lamella.cluster.commands.show_jobs import job_line, job_texts
from lamella.pipeline.jobs.beats import JobSeen
from lamella.schemas.beat import Beat
from tests.schemas.test_beat import TOLD

NOON = 1_796_040_000.0
"""2026-11-30 12:00 UTC; the beat was told then, after 130 s."""


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def seen(state: str = "running", silent_s: float = 20.0, **told: Any) -> JobSeen:
    beat = Beat(**(TOLD | told))
    return JobSeen(beat.job, beat.number, state, beat, NOON, silent_s, NOON - 130.0)  # type: ignore[arg-type]


EXTRACT = {
    "name": "extract",
    "done": 12_345,
    "total": 1_000_000,
    "per_second": 210.0,
    "seconds_left": 4_703.0,
}


def test_a_running_job_has_stage_speed_time_left_workers_refused_and_last_problem() -> None:
    job = seen(
        stages=[EXTRACT],
        workers={"gpu": 2, "cpu": 6},
        running=8,
        waiting=1_200,
        refused={"too-slow": 3, "not-an-image": 12},
        problem={
            "at": "2026-11-30T19:05:10+00:00",  # a minute before it was told
            "level": "warning",
            "event": "worker-lost",
            "reason": "its node went away",
        },
    )
    assert job_line(job) == (
        "index on host-a since 11:57: extract 12,345 of 1,000,000 pictures (1 %), 210 pictures/s, "
        "some 1.31 h left; 8 workers, 2 cards, 8 tasks running, 1,200 waiting; "
        "refused 12 not-an-image, 3 too-slow; "
        "last problem 11:59 worker-lost: its node went away; told 20 s ago"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert job_line(seen()) == ("index on host-a since 11:57: between stages; told 20 s ago")
    listed = {"name": "list", "done": 5_000, "total": 0, "unit": "files"}
    assert job_line(seen(stages=[listed])).endswith(": list 5,000 files; told 20 s ago")
    words = {"name": "vocabulary p15", "done": 9, "total": 12, "unit": "rows", "note": "round 3"}
    assert job_line(seen(stages=[words])).endswith(": vocabulary p15 round 3; told 20 s ago")


def test_a_silent_job_has_since_when_and_what_to_do() -> None:
    job = seen("silent", 5_400.0, stages=[EXTRACT | {"per_second": None, "seconds_left": None}])
    assert job_line(job) == (
        "index on host-a since 11:57: silent since 12:00, for 1.5 h: it died, or its machine is "
        "cut off; give the same command again; "
        "then it was at extract 12,345 of 1,000,000 pictures (1 %)"
    )


def test_another_day_is_told_with_its_date() -> None:
    assert "silent since 2026-11-30 12:00, for 1 d:" in job_line(seen("silent", 86_400.0))


def test_a_job_that_ended_has_its_exit_code() -> None:
    assert job_line(seen("ended", code=0)) == "index on host-a ended 12:00 after 2.17 min"
    problem = {
        "at": TOLD["told_at"],
        "level": "error",
        "event": "job-ended",
        "reason": "the disk is full",
    }
    assert job_line(seen("ended", code=1, problem=problem)) == (
        "index on host-a ended 12:00 with exit code 1 after 2.17 min; "
        "last problem 12:00 job-ended: the disk is full"
    )


def test_names_out_of_a_store_do_not_control_a_terminal() -> None:
    (text,) = job_texts([seen(host="\x1b[31mred[/]")], own_clock=True)
    assert text.plain == r"index on \x1b[31mred[/] since 11:57: between stages; told 20 s ago"


def test_a_reader_that_may_not_write_is_told_by_which_clock() -> None:
    texts = job_texts([seen()], own_clock=False)
    assert "by this machine's clock" in texts[-1].plain
    assert len(job_texts([seen("ended", code=0)], own_clock=False)) == 1
