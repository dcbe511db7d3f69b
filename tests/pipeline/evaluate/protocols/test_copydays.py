"""Copydays: copies ask for their original; a part for each attack, in any layout."""

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.copydays import copydays
from lamella.pipeline.evaluate.truth import GroundTruthQuery, Release, score_queries

ORIGINALS = ["original/200000.jpg", "original/200100.jpg"]
STRONG = ["strong/200001.jpg", "strong/200002.jpg"]
CROPS = ["crops/10/200000.jpg", "crops/80/200100.jpg"]
JPEG = ["jpegqual/3/200100.jpg"]
NAMES = [*ORIGINALS, *STRONG, *CROPS, *JPEG, "far/cat.jpg"]


def test_every_attack_is_a_part_and_all_copies_leave_the_rankings() -> None:
    parts = copydays(NAMES)
    assert [part.protocol for part in parts] == [
        "copydays strong",
        "copydays crops 10",
        "copydays crops 80",
        "copydays jpeg 3",
    ]
    attacked = frozenset([*STRONG, *CROPS, *JPEG])
    assert parts[0].queries == (
        GroundTruthQuery(STRONG[0], frozenset(ORIGINALS[:1]), attacked),
        GroundTruthQuery(STRONG[1], frozenset(ORIGINALS[:1]), attacked),
    )
    assert parts[1].queries == (GroundTruthQuery(CROPS[0], frozenset(ORIGINALS[:1]), attacked),)
    assert parts[3].queries == (GroundTruthQuery(JPEG[0], frozenset(ORIGINALS[1:]), attacked),)
    whole = 157 + 229 + 9 * 157 + 9 * 157
    assert parts[0].release == Release(held=7, pictures=whole, queries=229)
    assert parts[3].release == Release(held=7, pictures=whole, queries=157)


def test_the_database_is_the_originals_and_the_distractors() -> None:
    part = copydays(NAMES)[0]
    #          200000 200100 strong     crops      jpeg  cat
    scores = [[0.5, 0.2, 1.0, 0.9, 0.9, 0.9, 0.9, 0.6], [0.5, 0.2, 1.0, 1.0, 0.0, 0.0, 0.0, 0.1]]
    # copies leave: the cat, then the original: (0 / 1 + 1 / 2) / 2; then the original first
    assert score_queries(part, NAMES, np.array(scores)).tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["200000.jpg", "200001.jpg"], ["strong"]),  # all archives in one folder
        (["copydays_original/200000.jpg", "copydays_strong/200001.jpg"], ["strong"]),
        (["a/original/200000.jpg", "a/crops_20/200000.jpg"], ["crops 20"]),
        (["200000.jpg", "copydays_crop/crops/15/200000.jpg"], ["crops 15"]),
        (["200000.jpg", "jpegqual_75/200000.jpg", "jpeg/5/200000.jpg"], ["jpeg 5", "jpeg 75"]),
    ],
)
def test_layouts_in_use_are_read(names: list[str], parts: list[str]) -> None:
    found = copydays(names)
    assert [part.protocol for part in found] == [f"copydays {part}" for part in parts]
    assert all(query.positives == {names[0]} for part in found for query in part.queries)


def test_a_copy_whose_original_is_not_there_is_missed() -> None:
    part = copydays(["strong/200101.jpg", *ORIGINALS[:1]])[0]
    assert part.missing == {"200100"}
    scores = np.array([[1.0, 0.5]])
    assert score_queries(part, ["strong/200101.jpg", *ORIGINALS[:1]], scores).tolist() == [0.0]


def test_pictures_of_other_sets_with_six_digits_are_distractors() -> None:
    part = copydays([*ORIGINALS, *STRONG, "holidays/100000.jpg", "holidays/100001.jpg"])[0]
    assert part.named == {ORIGINALS[0], *STRONG}


def test_a_corpus_without_copies_is_refused() -> None:
    with pytest.raises(InputError, match="hold 2 originals and 0 copies: index the folder above"):
        copydays(ORIGINALS)


def test_two_originals_of_one_number_are_refused_by_name() -> None:
    names = [*ORIGINALS, *STRONG, "flickr/200000.jpg"]
    with pytest.raises(InputError, match=r"200000 is both original/.* and flickr/.*--within"):
        copydays(names)
