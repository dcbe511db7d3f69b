"""What cannot fit is refused in a sentence: both values, and the way out."""

import numpy as np
import pytest

from lamella.pipeline.index.bags import bags_from_words
from lamella.pipeline.plan.fitting import (
    misfits,
    needed_bytes,
    too_many_refused,
    too_many_words,
    verdict,
)
from lamella.pipeline.plan.vocabulary_cost import WordsProbe
from lamella.schemas.plan import Figure, Plan, PlannedBytes, ProbedMachine

GB = 10**9

STORED = (
    PlannedBytes(kind="activations b11", stage="extract", size_bytes=Figure(mean=6 * GB)),
    PlannedBytes(
        kind="vocabularies b11, rounds", stage="vocabulary b11", size_bytes=Figure(mean=2 * GB)
    ),
    PlannedBytes(
        kind="vocabularies b11, sums of a round",
        stage="vocabulary b11",
        size_bytes=Figure(mean=2 * GB),
        kept=False,
    ),
)
SMALL = {"extract": {"process and network": GB}}


def test_what_goes_again_is_needed_too() -> None:
    assert needed_bytes(STORED) == 10 * GB


def test_enough_of_both_is_no_misfit() -> None:
    assert misfits(STORED, SMALL, 1_000, 10 * GB, 2 * GB) == ()
    assert misfits(STORED, SMALL, 1_000, None, 2 * GB) == ()


def test_a_small_disk_is_refused_with_both_values_and_the_way_out() -> None:
    (said,) = misfits(STORED, SMALL, 1_000, 4 * GB, 2 * GB)
    assert "takes 10 GB of the store's disk, and 4 GB are free, 6 GB too few" in said
    assert "activations b11 take 6 GB: leave that layer out (--layers)" in said
    assert "some 400 of 1,000 pictures would fit" in said


def plan(refusals: tuple[str, ...]) -> Plan:
    """Return a plan of a machine with 4 GB for each of two workers."""
    return Plan(
        subject="0" * 64,
        name="p",
        entries=1,
        sampled=1,
        refused=0,
        ignored=0,
        pictures=Figure(mean=1),
        shards=1,
        segments=1,
        machine=ProbedMachine(
            cores=2,
            workers=2,
            threads=1,
            gpus=0,
            device="",
            available_bytes=8 * GB,
            probe_peak_bytes=0,
        ),
        stages=(),
        stored=STORED,
        memory={"extract": {"network": GB}, "index": {"process": GB, "vectors": GB}},
        requests={},
        hours=Figure(mean=1),
        hours_by_workers={},
        hours_by_gpus=None,
        fits=not refusals,
        refusals=refusals,
    )


def test_a_plan_that_fits_says_so_with_what_there_is_and_what_it_takes() -> None:
    fits = "fits: disk 10 GB of 60 GB, memory 2 GB of 4 GB a worker (index)"
    assert verdict(plan(()), 60 * GB) == fits
    assert verdict(plan(()), None) == fits.replace(" of 60 GB", "")


def test_a_plan_that_does_not_fit_says_in_one_line_what_is_too_much() -> None:
    refusals = (
        *too_many_words({"b11": words_probe(words=900, rows=0.5)}, 1_000),
        *misfits(STORED, SMALL, 1_000, 4 * GB, 2 * GB),
    )
    assert verdict(plan(refusals), 4 * GB) == (
        "does not fit: layer b11 will give about 500 descriptors for 900 words; the run takes "
        "10 GB of the store's disk, and 4 GB are free, 6 GB too few"
    )


def words_probe(words: int, rows: float) -> WordsProbe:
    """Return what a probe found of a layer that gives so many rows a picture."""
    return WordsProbe(
        words=words,
        tried=words,
        dimensions=8,
        descriptor_dimensions=8,
        projected=False,
        assigner="exact",
        rows=Figure(mean=rows),
        rounds=5,
        passes=5.0,
        sampling=0.0,
        pace=0.0,
        encoding=0.0,
        entries=Figure(mean=1),
        bags=bags_from_words(np.zeros(1, np.int64), np.empty(0, np.uint32)),
    )


@pytest.mark.parametrize(
    ("stage", "cure"),
    [
        ("extract", "network.batch_size"),
        ("vocabulary b11", "fewer words (--words)"),
        ("index", "index.segment_images), 25 % of its size would fit"),
    ],
)
def test_little_memory_is_refused_with_both_values_and_the_way_out(stage: str, cure: str) -> None:
    needed = {stage: {"process": 400 << 20, "vectors": 4 * GB}}
    (said,) = misfits((), needed, 1_000, None, (400 << 20) + GB)
    # 400 MiB are 419,430,400 bytes.
    assert "4.42 GB a worker (process 419 MB, vectors 4 GB), and a worker has 1.42 GB" in said
    assert cure in said


@pytest.mark.parametrize(
    ("reasons", "tried", "times", "stops"),
    [
        ({"truncated": 11}, 100, 1.0, True),  # all were tried: 11 % is more than 10 %
        ({"truncated": 10}, 100, 1.0, False),
        ({"truncated": 2, "missing": 2}, 4, 1.0, True),
        ({"truncated": 3}, 4, 1.0, False),  # three never stop a job
        # 11 % of a sample of 100 is 11 % +- 3.1 %: not beyond two errors.
        ({"truncated": 11}, 100, 10.0, False),
        # 17 % +- 3.8 %: 9.5 %, still not; 18 % +- 3.8 %: 10.3 %.
        ({"truncated": 17}, 100, 10.0, False),
        ({"truncated": 18}, 100, 10.0, True),
        ({}, 100, 10.0, False),
    ],
)
def test_too_many_refused_pictures_are_told_where_the_sample_shows_it(
    reasons: dict[str, int], tried: int, times: float, stops: bool
) -> None:
    found = too_many_refused(reasons, tried, times, 0.1)
    assert len(found) == stops
    if stops:
        assert "raise --max-refused" in found[0]
