"""UKB: groups of four by number, from names alone."""

from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.evaluate.truth import Release, score_queries

UKB = [f"full/ukbench{number:05d}.jpg" for number in range(8)]
SHARED = Path(__file__).parents[5] / "shared" / "data"


def test_ukb_groups_by_number_and_every_picture_is_a_query() -> None:
    truth = ukb([*UKB, "other/cat.jpg"])
    assert truth.metric_name == "N-S"
    assert [query.name for query in truth.queries] == UKB
    assert truth.queries[5].positives == frozenset(UKB[4:])


def test_ukb_counts_what_a_group_lacks_as_missing() -> None:
    truth = ukb(UKB[:3])
    assert truth.missing == {"ukbench00003"}
    assert truth.queries[0].relevant == 4


def test_ukb_scores_the_query_among_the_four() -> None:
    scores = np.eye(8)  # each finds itself; ties by image id bring 0, 1, 2 (or 0 to 3) next
    got = score_queries(ukb(UKB), UKB, scores)
    # 0: itself, 1, 2, 3 = 4; 3: itself, 0, 1, 2 = 4; 4: itself, 0, 1, 2 = 1
    assert got.tolist() == [4, 4, 4, 4, 1, 1, 1, 1]


def test_ukb_refuses_a_corpus_without_its_names() -> None:
    with pytest.raises(InputError, match="0 of 1 names are: use the protocol `groups`"):
        ukb(["cat.jpg"])


def test_one_picture_number_in_two_folders_is_refused() -> None:
    with pytest.raises(InputError, match="ukbench00000 is both"):
        ukb([*UKB, "copy/ukbench00000.png"])


def test_the_release_says_how_much_of_the_data_set_is_there() -> None:
    # ukbench10200 is beyond the release, and the cat is a distractor
    truth = ukb([*UKB, "other/cat.jpg", "full/ukbench10200.jpg"])
    assert truth.release == Release(held=8, pictures=10_200, queries=10_200)
    whole = ukb([f"full/ukbench{number:05d}.jpg" for number in range(10_200)])
    assert len(whole.queries) == 10_200
    assert not whole.missing
    assert whole.release == Release(held=10_200, pictures=10_200, queries=10_200)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data sets are not on this machine")
def test_the_real_subset_has_75_whole_groups() -> None:
    names = [str(file.relative_to(SHARED)) for file in (SHARED / "ukbench").rglob("*.jpg")]
    truth = ukb(sorted(names))
    assert len(truth.queries) == 300
    assert not truth.missing
