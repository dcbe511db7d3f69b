"""What a person sees of a running job: bars on a terminal, else a line a minute and at the end."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines, running_stages
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.run.drive import Progress
from lamella.schemas.beat import StageBeat
from lamella.schemas.vocabulary import RoundReport


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_to(out: io.StringIO, clock: Clock, **options: Any) -> ProgressLines:
    """Return progress that is told to a text; nothing tells it by itself."""
    return ProgressLines(Console(file=out, **options), clock=clock)


def test_what_was_done_before_is_no_part_of_the_speed() -> None:
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock)
    lines.stage(Progress("answer", 90, 100, 9_000, 10_000))
    clock.now = 60.0
    lines.tell()
    clock.now = 100.0
    lines.stage(Progress("answer", 92, 100, 9_200, 10_000))
    clock.now = 130.0
    lines.tell()
    # 200 took 100 s, so the other 800 take 400 s, 30 s of which have gone.
    assert out.getvalue().splitlines() == [
        "answer 90 %, 9,000 of 10,000, 1 min so far, time left not known yet",
        "answer 92 %, 9,200 of 10,000, 2.17 min so far, some 6.17 min left",
    ]


def test_a_bar_shows_units_and_the_time_left() -> None:
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock, force_terminal=True, width=80)
    with lines:
        lines.stage(Progress("answer", 0, 100, 0, 10_000))
        clock.now = 10.0
        lines.stage(Progress("answer", 50, 100, 5_000, 10_000))
    assert "5,000 of 10,000" in out.getvalue()
    assert "10 s left" in out.getvalue()


def test_a_stage_that_ended_is_one_line_without_a_terminal() -> None:
    out = io.StringIO()
    with ProgressLines(Console(file=out)) as lines:
        lines.stage(Progress("answer", 0, 2, 0, 2_000))
        lines.stage(Progress("answer", 2, 2, 2_000, 2_000))
    assert out.getvalue().startswith("answer done 2,000 in ")
    assert out.getvalue().count("\n") == 1


def test_a_long_stage_is_a_line_a_minute_and_a_short_one_none() -> None:
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock)
    lines.stage(Progress("extract", 0, 4, 0, 400))
    for clock.now in (5.0, 59.0, 61.0, 66.0, 119.0, 122.0):
        lines.tell()
    assert [line.split(",")[-2] for line in out.getvalue().splitlines()] == [
        " 1.02 min so far",
        " 2.03 min so far",
    ]
    lines.stage(Progress("extract", 4, 4, 400, 400))
    clock.now = 1_000.0
    lines.tell()
    assert out.getvalue().splitlines()[-1] == "extract done 400 in 2.03 min"


def test_lines_are_not_folded_in_a_pipe() -> None:
    out = io.StringIO()
    lines = ProgressLines(Console(file=out))
    lines.note("a word " * 100)
    assert out.getvalue().count("\n") == 1


def test_the_time_left_of_a_training_is_reckoned_by_the_planned_rounds() -> None:
    """Of 40 rounds that there may be 10 are planned: after 5 of 100 s each, 500 s are left."""
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock)
    lines.expect_rounds({"vocabulary b11": 10})
    lines.stage(Progress("vocabulary b11", 0, 40, 0, 0))
    clock.now = 1_000.0  # drawing the sample has another speed
    lines.stage(Progress("vocabulary b11", 0, 40, 0, 40 * 7))
    clock.now = 1_500.0
    lines.stage(Progress("vocabulary b11", 5, 40, 5 * 7, 40 * 7))
    lines.round(
        "b11", RoundReport(round=4, share=1, objective=0.5, changed=1, empty_words=0, imbalance=1)
    )
    lines.tell()
    assert out.getvalue().splitlines()[-1] == (
        "vocabulary b11 50 %, round 6 of about 10 (error 0.5000), 25 min so far, some 8.33 min left"
    )
    # More rounds than planned: the next one is the last as far as anyone knows.
    lines.stage(Progress("vocabulary b11", 12, 40, 12 * 7, 40 * 7))
    clock.now = 1_600.0
    lines.tell()
    assert "92 %, round 13 of about 13" in out.getvalue().splitlines()[-1]
    lines.stage(Progress("vocabulary b11", 14, 14, 14 * 7, 14 * 7))
    assert out.getvalue().splitlines()[-1] == "vocabulary b11 done 14 rounds in 26.7 min"


def test_reaches_are_counted_of_a_guess_that_is_corrected() -> None:
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock)
    lines.stage(Progress("tune", 0, 50, 0, 50))
    clock.now = 40.0
    lines.stage(Progress("tune", 10, 50, 10, 50))
    clock.now = 65.0
    lines.stage(Progress("tune", 13, 26, 13, 26))
    lines.tell()
    assert out.getvalue().splitlines()[-1] == (
        "tune 50 %, reach 14 of about 26, 1.08 min so far, some 1.08 min left"
    )
    clock.now = 70.0
    lines.stage(Progress("tune", 20, 20, 20, 20))
    assert out.getvalue().splitlines()[-1] == "tune done 20 reaches in 1.17 min"


def test_the_time_of_a_stage_is_all_of_it() -> None:
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock)
    lines.stage(Progress("list", 0, 1, 0, 0))
    clock.now = 5.0
    lines.stage(Progress("list", 1, 1, 24, 24))
    assert out.getvalue() == "list done 24 in 5 s\n"


def test_a_script_hears_nothing() -> None:
    out, clock = io.StringIO(), Clock()
    lines = ProgressLines(Console(file=out), quiet=True, clock=clock)
    with lines:
        lines.stage(Progress("extract", 0, 4, 0, 400))
        clock.now = 100.0
        lines.tell()
    assert out.getvalue() == ""


def test_a_listing_says_how_many_files_it_found_so_far(tmp_path: Path) -> None:
    out, clock = io.StringIO(), Clock()
    lines = lines_to(out, clock)
    for number in range(3_000):
        (tmp_path / f"{number}.jpg").touch()

    def found(number: int) -> None:
        lines.stage(Progress("list", 0, 1, number, 0))
        clock.now += 61.0
        lines.tell()

    list_source(str(tmp_path), on_entries=found)
    assert out.getvalue().splitlines() == [
        "list 0 found, 1.02 min so far",
        "list 1,000 found, 2.03 min so far",
        "list 2,000 found, 3.05 min so far",
    ]


def test_stages_that_run_are_told_elsewhere_with_what_they_count() -> None:
    assert running_stages() == []
    out, clock = io.StringIO(), Clock()
    lines = ProgressLines(Console(file=out), quiet=True, clock=clock)
    with lines:
        lines.stage(Progress("list", 0, 1, 0, 0))
        lines.stage(Progress("extract", 3, 10, 300, 1_000))
        lines.expect_rounds({"vocabulary p15": 5})
        lines.stage(Progress("vocabulary p15", 0, 20, 0, 20_000))
        clock.now = 10.0
        lines.stage(Progress("list", 0, 1, 70, 0))
        lines.stage(Progress("extract", 4, 10, 400, 1_000))
        lines.stage(Progress("vocabulary p15", 1, 20, 1_000, 20_000))
        listing, extract, words = running_stages()
        lines.stage(Progress("extract", 10, 10, 1_000, 1_000))
        assert [stage.name for stage in running_stages()] == ["list", "vocabulary p15"]
    # 100 in 10 s, so the other 600 take 60 s.
    assert extract == StageBeat(
        name="extract", done=400, total=1_000, per_second=10.0, seconds_left=60.0
    )
    assert (listing.done, listing.total, listing.unit) == (70, 0, "files")
    assert (listing.per_second, listing.seconds_left) == (7.0, None)
    assert (words.unit, words.note, words.total) == ("rows", "round 2 of about 5", 5_000)
    assert running_stages() == []
    assert out.getvalue() == ""
