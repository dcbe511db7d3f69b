"""What a person is told: on either side of each threshold."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lamella.pipeline.diagnostics.findings import findings
from lamella.pipeline.diagnostics.inspect import CorpusUse, LayerHealth, round_lines
from lamella.pipeline.vocabulary.word_use import word_use
from lamella.schemas.vocabulary import RoundReport, Vocabulary


def health(counts: list[int], objectives: tuple[float, ...] = (4.0, 3.99)) -> LayerHealth:
    """Return the health of words with these counts, trained over full rounds to the objectives."""
    reports = tuple(
        RoundReport(
            round=number, share=1, objective=objective, changed=0, empty_words=0, imbalance=1
        )
        for number, objective in enumerate(objectives)
    )
    words = len(counts)
    vocabulary = Vocabulary(
        layer="conv",
        words=words,
        words_requested=words,
        dimensions=4,
        spec="s",
        extraction="e",
        rounds=reports,
    )
    many = np.array(counts, np.int64)
    use = CorpusUse(many, np.minimum(many, 5), 5)
    return LayerHealth(
        layer="conv",
        vocabulary=vocabulary,
        rounds=round_lines(reports),
        held_rows=0,
        held_error=None,
        recall=1.0,
        use=use,
        summary=word_use(many),
        most_used=(),
        most_bursty=(),
    )


GOOD = health([5, 6, 5, 6])


def said(of: LayerHealth, kind: str) -> str:
    return " ".join(found.text for found in findings(of) if found.kind == kind)


def test_all_is_well_where_it_is() -> None:
    assert said(GOOD, "mind") == ""
    assert "the last full round lowered the error by 0.25%" in said(GOOD, "well")
    assert "Every word stands in some picture." in said(GOOD, "well")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (health([5, 6], (4.0, 3.0)), "still fell by 25.0% in the last full round"),
        (
            replace(GOOD, held_error=3.99 * 1.2, held_rows=1_234),
            "on 1,234 rows that no word was fitted to, the error is 20.0% above that of training",
        ),
        (replace(GOOD, recall=0.9), "found for only 90.0% of descriptors"),
        (health([5, 0, 6, 5]), r"1 of 4 words \(25.0%\) stand in no picture"),
        (health([1_000, 1, 1, 1]), "A few words take most descriptors: .* has 99.7% of"),
    ],
)
def test_what_is_to_be_minded_is_said(bad: LayerHealth, text: str) -> None:
    assert re.search(text, said(bad, "mind"))


def test_what_was_not_measured_is_not_spoken_of() -> None:
    assert "fitted" not in said(GOOD, "well")
    imported = replace(health([0, 0]), rounds=(), recall=None)
    assert [found.text for found in findings(imported)] == [
        "2 of 2 words (100.0%) stand in no picture."
    ]


def test_rows_held_out_that_lie_as_near_are_well() -> None:
    assert "The words fit new rows" in said(replace(GOOD, held_error=4.1), "well")
