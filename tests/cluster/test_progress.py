"""What a person sees of a job that goes on where an earlier one stopped."""

import io

from rich.console import Console

from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.run.drive import Progress


def test_what_was_done_before_is_no_part_of_the_speed() -> None:
    out = io.StringIO()
    with ProgressLines(Console(file=out, force_terminal=True, width=100)) as lines:
        lines.stage(Progress("answer", 90, 100, 9_000, 10_000))
        (bar,) = lines._bars.tasks
        assert (bar.completed, bar.speed) == (9_000, None)
        lines.stage(Progress("answer", 91, 100, 9_100, 10_000))
        lines.stage(Progress("answer", 92, 100, 9_200, 10_000))
        # Each of the two steps is 100; had the 9,000 counted, there would be a third.
        assert [sample.completed for sample in bar._progress] == [100, 100]
    assert "9200/10000" in out.getvalue()


def test_a_stage_that_ended_is_one_line_without_a_terminal() -> None:
    out = io.StringIO()
    with ProgressLines(Console(file=out, width=100)) as lines:
        lines.stage(Progress("answer", 0, 2, 0, 2_000))
        lines.stage(Progress("answer", 2, 2, 2_000, 2_000))
    assert out.getvalue().startswith("answer done 2,000 in ")
    assert out.getvalue().count("\n") == 1
